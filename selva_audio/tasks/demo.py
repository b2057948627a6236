"""The demo: a drawn clip, the sound of each of its two objects, a picture of what came out, and its score.

Or the demo model on a clip of the user's own, of which there is nothing to score.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..bundle import SelVAModel, load_model
from ..errors import InputError, OutputError
from ..evaluation.selectivity import score_clip, summarize
from ..media.audio import read_audio_track, resample
from ..media.encode import write_video
from ..options import FeatureOptions, GenerateOptions
from ..plots import save_figure, takes_figure
from ..progress import Progress, ProgressFn, ignore_progress, subtask
from ..scenes import FPS, draw_frames, draw_scene, prompt
from .batch import plan_jobs
from .run import run_video

# Two balls that hop, of the family of scenes that training never sees.
_MATERIALS = ("rubber", "metal")
_SEED = 1
_DURATION = 8.0
_SIZE = 256
_LONGEST_WORDS = 60

WARNING = (
    "The demo model knows a few drawn materials and nothing else. On real footage its sound means nothing; "
    "use a published model for that: selva generate VIDEO -p TEXT -o FILE."
)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo wrote.

    Attributes:
        videos: with sound, one per prompt.
        picture: their spectrograms.
        clip: the drawn clip; None for one of the user's own.
        scores: prompt -> the numbers of ``evaluation.selectivity.summarize``, of its video as written.
        overall: the same over all videos.
        notes: sentences the user should see.
        warning: why the sound means nothing; empty when it does.
    """

    videos: tuple[Path, ...]
    picture: Path
    clip: Path | None = None
    scores: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    overall: Mapping[str, float | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warning: str = ""


def run_demo(folder: str | Path, *, seed: int = 0, on_progress: ProgressFn = ignore_progress) -> DemoResult:
    """Write ``clip.mp4``, one video with sound per object, and their spectrograms into ``folder``.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    on_progress(Progress("drawing", 0, 1))
    scene = draw_scene(
        _SEED, split="test", materials=_MATERIALS, num_objects=len(_MATERIALS), duration=_DURATION
    )
    clip = write_video(draw_frames(scene, _SIZE), FPS, folder / "clip.mp4")
    model = _load()
    videos, rows, scores = [], [], {}
    for index, each in enumerate(scene.objects):
        words = prompt(each.material.name)
        video = folder / f"{_as_name(words)}.mp4"
        share = subtask(on_progress, 0.9 * index / len(_MATERIALS), 0.9 * (index + 1) / len(_MATERIALS))
        wave, _ = _make_sound(model, clip, video, words, seed=seed, on_progress=share)
        videos.append(video)
        rows.append((f"prompt: {words}", wave, each.impacts.tolist()))
    for each, (_, wave, _) in zip(scene.objects, rows, strict=True):
        on_progress(Progress("scoring", 900, 1000))
        scores[prompt(each.material.name)] = score_clip(wave, model.config.sample_rate, scene, each)
    title = "Sound per prompt; dashed: impacts in the picture"
    picture = save_figure(takes_figure(rows, model.config.sample_rate, title=title), folder / "demo.png")
    on_progress(Progress("done", 1000, 1000))
    return DemoResult(
        tuple(videos),
        picture,
        clip,
        {words: summarize([score]) for words, score in scores.items()},
        summarize(list(scores.values())),
    )


def run_demo_on_video(
    video: str | Path,
    words: str,
    folder: str | Path,
    *,
    seed: int = 0,
    on_progress: ProgressFn = ignore_progress,
) -> DemoResult:
    """Write a clip of the user's own with the sound the demo model makes for ``words``, and its spectrogram.

    Raises:
        InputError: no words.
        MediaError: not a readable video.
        OutputError: the folder cannot be written.
    """
    if not words.strip():
        raise InputError("The demo needs to know what the video should sound of. Say it with --prompt TEXT.")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot create the folder {folder}: {error.strerror}. Choose another one with --output."
        ) from error
    (job,) = plan_jobs([Path(video)], folder)
    assert job.video is not None
    output = job.output.with_stem(f"{job.output.stem}_{_as_name(words)}")
    model = _load()
    wave, notes = _make_sound(
        model, job.video, output, words, seed=seed, on_progress=subtask(on_progress, 0, 0.95)
    )
    figure = takes_figure([(f"prompt: {words}", wave, ())], model.config.sample_rate)
    picture = save_figure(figure, output.with_suffix(".png"))
    on_progress(Progress("done", 1000, 1000))
    return DemoResult((output,), picture, notes=notes, warning=WARNING)


def _load() -> SelVAModel:
    return load_model("demo_16k", device="cpu", precision="fp32")


def _make_sound(
    model: SelVAModel, clip: Path, output: Path, words: str, *, seed: int, on_progress: ProgressFn
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Write ``output``; returns its sound (L,) read back from there, at the model's rate, and the notes."""
    with tempfile.TemporaryDirectory() as cache:
        features = FeatureOptions(prompt=words, cache_dir=Path(cache))
        run = run_video(model, clip, output, features, GenerateOptions(seed=seed), on_progress=on_progress)
    sound = read_audio_track(output)
    assert sound is not None
    wave = resample(sound.waveform[0, 0], sound.sample_rate, model.config.sample_rate)
    return wave.numpy(), run.notes


def _as_name(words: str) -> str:
    return re.sub(r"\W+", "_", words).strip("_")[:_LONGEST_WORDS] or "sound"
