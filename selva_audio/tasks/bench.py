"""How long each stage of the main job takes on this machine, in how much memory, and what would change it."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..bundle import PARTS, SelVAModel, load_model, untrained_model
from ..errors import DownloadError, MissingFileError
from ..features import encode_video, open_frames
from ..media.encode import write_video
from ..media.mux import mux
from ..options import BenchOptions, FeatureOptions, GenerateOptions, LoadOptions
from ..progress import Progress, ProgressFn, ignore_progress, subtask
from ..records import Audio
from ..runtime import (
    describe_devices,
    describe_system,
    forget_peak_memory,
    num_threads,
    peak_memory_gb,
    wait_for,
)
from ..scenes import FPS, draw_frames, draw_scene, prompt
from ..synthesis import decode_latents, encode_prompts, sample_latents
from .evaluate_folder import check_targets, write_report
from .generate import existing_file

# What one sound costs; reading is a part of features, and loading is done once.
_ONE_SOUND = ("features", "text", "sampling", "decoding", "writing")
_STAGES = ("reading", *_ONE_SOUND)
_MATERIALS = ("rubber", "metal")
_PRODUCT_SIZE, _PRODUCT_RUNS = 512, 5
_Result = TypeVar("_Result")


def bench(
    load: LoadOptions | None = None,
    options: BenchOptions | None = None,
    *,
    video: Path | None = None,
    random_weights: bool = False,
    output: Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> dict[str, Any]:
    """Run the main job stage by stage and measure it.

    Args:
        load: variant, device, precision, offload, and where the weights are.
        options: how long a clip, how many steps and runs.
        video: clip to use; default: one that is drawn.
        random_weights: measure with weights that know nothing, for which no file is needed.
        output: JSON file for the result.
        on_progress: one bar over all runs; cancels by raising, then nothing is written.

    Returns:
        What docs/performance.md explains.

    Raises:
        InputError: an unknown variant or device.
        MissingFileError, DownloadError: the weights cannot be had, or the video is not there.
        OutputError: the file cannot be written.
    """
    load, options = load or LoadOptions(), options or BenchOptions()
    check_targets(output)
    source = existing_file(video) if video is not None else None
    watch = _Watch("cpu")
    model, seconds = watch.timed(lambda: _located(load, random_weights))
    watch = _Watch(model.policy.device)
    with tempfile.TemporaryDirectory() as name:
        clip = source or _drawn(options, Path(name))
        seconds += watch.timed(lambda: _load_parts(model, subtask(on_progress, 0, 0.3)))[1]
        for run in range(options.repeats):
            share = partial(subtask, on_progress, 0.3 + 0.7 * run / options.repeats)
            _run(watch, model, clip, options, run, share(0.3 + 0.7 * (run + 1) / options.repeats))
    result = _account(model, options, watch) | {"random_weights": random_weights}
    result["loading_seconds"] = round(seconds, 3)
    result["advice"] = advice(result)
    write_report(result, output)
    return result


@dataclass(slots=True)
class _Watch:
    """Seconds and memory of stages.

    Attributes:
        device: whose work is waited for.
        seconds: stage -> of each run.
        cpu_seconds: stage -> of each run, by all threads.
        peak_gb: stage -> most memory, of a GPU.
        covered: seconds of sound that were made.
    """

    device: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu_seconds: dict[str, list[float]] = field(default_factory=dict)
    peak_gb: dict[str, float] = field(default_factory=dict)
    covered: float = 0.0

    def timed(self, work: Callable[[], _Result]) -> tuple[_Result, float]:
        """Result and wall seconds."""
        wait_for(self.device)
        started = time.perf_counter()
        made = work()
        wait_for(self.device)
        return made, time.perf_counter() - started

    def stage(self, name: str, work: Callable[[], _Result]) -> _Result:
        """The result; what it took is kept under ``name``."""
        forget_peak_memory(self.device)
        used = time.process_time()
        made, seconds = self.timed(work)
        self.seconds.setdefault(name, []).append(seconds)
        self.cpu_seconds.setdefault(name, []).append(time.process_time() - used)
        if self.device.startswith("cuda"):
            self.peak_gb[name] = max(self.peak_gb.get(name, 0.0), peak_memory_gb(self.device) or 0.0)
        return made

    def numbers(self, name: str) -> dict[str, float]:
        """Medians of a stage."""
        row = {
            "seconds": round(statistics.median(self.seconds[name]), 4),
            "cpu_seconds": round(statistics.median(self.cpu_seconds[name]), 4),
        }
        return row | ({"peak_memory_gb": self.peak_gb[name]} if name in self.peak_gb else {})


def _located(load: LoadOptions, random_weights: bool) -> SelVAModel:
    if random_weights:
        return untrained_model(
            load.variant, device=load.device, precision=load.precision, offload=load.offload
        )
    try:
        return load_model(**load.model_dump())
    except (MissingFileError, DownloadError) as error:
        raise type(error)(f"{error}\nSpeed can be measured without them: `--random-weights`.") from error


def _drawn(options: BenchOptions, folder: Path) -> Path:
    scene = draw_scene(0, split="test", materials=_MATERIALS, num_objects=2, duration=options.duration)
    return write_video(draw_frames(scene, options.size), FPS, folder / "clip.mp4")


def _load_parts(model: SelVAModel, on_progress: ProgressFn) -> None:
    parts = [part for part in PARTS if part in model.config.files]
    for done, part in enumerate(parts):
        on_progress(Progress(f"loading {part.replace('_', ' ')}", done, len(parts)))
        getattr(model, part)


@torch.no_grad()
def _run(
    watch: _Watch, model: SelVAModel, clip: Path, options: BenchOptions, run: int, on_progress: ProgressFn
) -> None:
    """The main job once; the prompt is new each time, so that nothing remembered is measured."""
    words = f"{prompt(_MATERIALS[0])} {run + 1}"
    wishes = FeatureOptions(prompt=words, duration=options.duration)
    settings = GenerateOptions(steps=options.steps, cfg_strength=options.cfg_strength)
    on_progress(Progress("reading", 0, 100))
    watch.stage("reading", lambda: _read(model, clip, wishes))
    features = watch.stage(
        "features", lambda: encode_video(model, clip, wishes, on_progress=subtask(on_progress, 0.05, 0.4))
    )
    text = watch.stage("text", lambda: encode_prompts(model, words))
    latents = watch.stage(
        "sampling",
        lambda: sample_latents(
            model,
            features,
            text,
            settings,
            duration=features.duration,
            on_progress=subtask(on_progress, 0.4, 0.8),
        ),
    )
    waveform = watch.stage(
        "decoding",
        lambda: decode_latents(
            model, latents, duration=features.duration, on_progress=subtask(on_progress, 0.8, 0.95)
        ),
    )
    rate = model.config.sample_rate
    # Untrained weights give any level; what is written must be a sound.
    audio = Audio(waveform[..., : round(features.duration * rate)].clamp(-1, 1), rate)
    with tempfile.TemporaryDirectory() as folder:
        watch.stage("writing", lambda: mux(clip, audio, Path(folder) / "out.mp4"))
    watch.covered = features.duration
    on_progress(Progress("writing", 100, 100))


def _read(model: SelVAModel, clip: Path, wishes: FeatureOptions) -> None:
    """Decode and scale as the encoders get it, and encode nothing."""
    for _ in open_frames(model, clip, wishes):
        pass


def _account(model: SelVAModel, options: BenchOptions, watch: _Watch) -> dict[str, Any]:
    stages = {name: watch.numbers(name) for name in _STAGES}
    total = sum(stages[name]["seconds"] for name in _ONE_SOUND)
    policy = model.policy
    result: dict[str, Any] = {
        "variant": model.config.name,
        "device": policy.device,
        "precision": policy.precision,
        "staged": policy.staged,
        "steps": options.steps,
        "cfg_strength": options.cfg_strength,
        "runs": options.repeats,
        "duration": watch.covered,
        "stages": stages,
        "total_seconds": round(total, 3),
        "real_time_factor": round(total / watch.covered, 3),
        "peak_memory_gb": peak_memory_gb("cpu"),
        "system": describe_system(),
        "devices": describe_devices(),
        "threads": num_threads(),
        "cores": os.cpu_count(),
    }
    if policy.device == "cpu":
        result["bf16_speed"] = round(_product_seconds(torch.float32) / _product_seconds(torch.bfloat16), 2)
    return result


def _product_seconds(dtype: torch.dtype) -> float:
    """Of a product of two matrices: whether a CPU is made for bf16 shows in nothing as plainly."""
    left, right = (torch.ones(_PRODUCT_SIZE, _PRODUCT_SIZE, dtype=dtype) for _ in range(2))
    left @ right
    watch = _Watch("cpu")
    return min(watch.timed(lambda: left @ right)[1] for _ in range(_PRODUCT_RUNS))


def advice(result: Mapping[str, Any]) -> list[str]:
    """What would make this faster or smaller here, most first."""
    found = []
    on_cpu = result["device"] == "cpu"
    gpu = next((line for line in result["devices"] if not line.startswith("cpu")), None)
    if on_cpu and gpu is not None:
        found.append(f"There is a GPU ({gpu.split(',')[0]}): leave --device out to use it.")
    if on_cpu and result["bf16_speed"] >= 1.3 and result["precision"] == "fp32":
        found.append(f"This CPU multiplies {result['bf16_speed']:g} times as fast in bf16: --precision bf16.")
    if on_cpu and result["bf16_speed"] < 0.8 and result["precision"] == "bf16":
        found.append(
            f"This CPU is not made for bf16 (it multiplies at {result['bf16_speed']:g} times the speed of "
            "fp32): --precision fp32 is faster and takes twice the memory."
        )
    # The demo's networks are so small that a second thread waits for the first one more than it works.
    is_large = result["variant"] != "demo_16k"
    if on_cpu and is_large and result["threads"] < (result["cores"] or 1):
        found.append(
            f"torch uses {result['threads']} of {result['cores']} cores: set OMP_NUM_THREADS to their number "
            "where nothing else needs them."
        )
    if not on_cpu and result["precision"] == "fp32":
        found.append("--precision bf16 halves the memory, and is faster on GPUs that have it.")
    if result["staged"]:
        found.append(
            "Each part visits the GPU for its stage alone; --offload keep_in_vram saves the journeys where "
            "the memory is free."
        )
    found += _about_stages(result)
    if result["random_weights"]:
        found.append("The weights knew nothing: times and memory are true, sounds would mean nothing.")
    return found


def _about_stages(result: Mapping[str, Any]) -> list[str]:
    """What the stages tell that take most."""
    stages, total = result["stages"], result["total_seconds"]
    sampling, features = stages["sampling"]["seconds"], stages["features"]["seconds"]
    found = []
    if sampling > 0.3 * total and result["steps"] > 16:
        saved = sampling * (1 - 16 / result["steps"])
        found.append(
            f"Sampling takes {sampling / total:.0%} of a sound; --steps 16 would save about {saved:.1f} s."
        )
    if features > 0.3 * total:
        found.append(
            f"Features take {features / total:.0%} of a sound and are remembered: a second sound for the "
            f"same video and prompt takes about {total - features:.1f} s, and --takes makes several at once."
        )
    if result["loading_seconds"] > total:
        found.append(
            "Loading takes longer than a sound: give several videos, or a folder, to one `selva generate`."
        )
    return found
