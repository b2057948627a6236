"""``python -m benchmarks.style_costs``: what each way to sound like a reference costs at full size.

Weights are untrained, so that the published ones are not needed: this tells time, memory and sizes, not
quality. Every row is a process of its own on one thread in float32, with one clip of 8 seconds at a time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from selva_audio.adapters import write_adapter
from selva_audio.adapters.textual_inversion import write_inversion
from selva_audio.adapters.vocoder import write_vocoder
from selva_audio.bundle import SelVAModel, untrained_model
from selva_audio.features import VideoFeatures
from selva_audio.flow.steering import block_paths
from selva_audio.flow.steering_file import write_steering
from selva_audio.options import (
    DittoOptions,
    GenerateOptions,
    LoraOptions,
    SteeringExtractionOptions,
    TextualInversionOptions,
    VocoderOptions,
)
from selva_audio.records import Audio
from selva_audio.training.clips import Clips
from selva_audio.training.corpus import Corpus
from selva_audio.training.ditto import StyleSampler
from selva_audio.training.keyed import keyed
from selva_audio.training.loop import Trainable
from selva_audio.training.lora import LoraTraining
from selva_audio.training.steering import find_directions
from selva_audio.training.textual_inversion import TextualInversionTrainable
from selva_audio.training.vocoder import VocoderTrainable

from .lora_memory import random_clips
from .results import write_result
from .speed.measure import resident_gb

_VARIANTS = ("small_16k", "medium_44k")
_SECONDS = 8.0


def main() -> None:
    """All tools on some variants, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", default=",".join(_VARIANTS))
    parser.add_argument("--only", choices=tuple(TOOLS), help="in this process, for one variant, as JSON")
    given = parser.parse_args()
    variants = given.variants.split(",")
    torch.set_num_threads(1)
    if given.only:
        print(json.dumps(measured(given.only, variants[0])))
        return
    rows = []
    for variant in variants:
        for tool in TOOLS:
            command = [sys.executable, "-m", "benchmarks.style_costs", "--only", tool, "--variants", variant]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
    write_result("style_costs", {"seconds": _SECONDS, "rows": rows})


def measured(tool: str, variant: str) -> dict[str, Any]:
    """One row: numbers that are found, bytes of their file, CPU seconds of the second round, most memory."""
    model = untrained_model(variant, device="cpu", precision="fp32")
    clips = random_clips(variant, 2)
    seconds = []
    with ExitStack() as stack, tempfile.TemporaryDirectory() as name:
        rounds, numbers, write = TOOLS[tool](model, clips, stack)
        started = time.process_time()
        for _ in islice(rounds, 2):
            seconds.append(time.process_time() - started)
            started = time.process_time()
        path = write(Path(name)) if write else None
        size = path.stat().st_size if path else 0
    return {
        "variant": variant,
        "tool": tool,
        "numbers": numbers,
        "bytes": size,
        "cpu_seconds": round(seconds[-1], 2),
        "peak_gb": round(resident_gb(), 2),
    }


# Rounds that can be timed one by one, how many numbers are found, and what writes them.
Rounds = tuple[Iterator[None], int, Callable[[Path], Path] | None]


def _lora(model: SelVAModel, clips: Clips, stack: ExitStack) -> Rounds:
    options = LoraOptions(batch_size=1, lr=1e-4)
    training = LoraTraining(
        model.generator, clips, options, variant=model.config.name, base="noise", clip_conditioning=False
    )
    count = training.report.num_parameters(options.rank)
    return (
        _updates(training, 1e-4),
        count,
        lambda folder: write_adapter(folder / "a.safetensors", training.adapter(0)),
    )


def _inversion(model: SelVAModel, clips: Clips, stack: ExitStack) -> Rounds:
    options = TextualInversionOptions(space="feature", batch_size=1)
    training = TextualInversionTrainable(model, clips, options)
    count = training.embeddings.numel()
    return (
        _updates(training, 1e-2),
        count,
        lambda folder: write_inversion(folder / "t.pt", training.inversion(0)),
    )


def _vocoder(model: SelVAModel, clips: Clips, stack: ExitStack) -> Rounds:
    rate = model.config.sample_rate
    noise = torch.randn(2, round(_SECONDS * rate), generator=torch.Generator().manual_seed(2)) * 0.1
    corpus = Corpus(Path(), ("a", "b"), tuple(noise), (), rate, "noise")
    training = VocoderTrainable(model, corpus, VocoderOptions(batch_size=1, val_fraction=0))
    return (
        _updates(training, 1e-4),
        training.num_parameters,
        lambda folder: write_vocoder(folder / "v.pt", training.result(0)),
    )


def _steering(model: SelVAModel, clips: Clips, stack: ExitStack) -> Rounds:
    found: list[Any] = []

    def rounds() -> Iterator[None]:
        while True:
            options = SteeringExtractionOptions(n_samples=1)
            found.append(find_directions(model.generator, clips, options, use_clip=False))
            yield

    bins, width = SteeringExtractionOptions().time_bins, model.config.generator.hidden_dim
    return (
        rounds(),
        len(block_paths(model.generator)) * bins * width,
        lambda folder: write_steering(folder / "s.pt", found[-1]),
    )


def _ditto(model: SelVAModel, clips: Clips, stack: ExitStack) -> Rounds:
    features = VideoFeatures(clips.clip[:1], clips.sync[:1], prompt="a", duration=_SECONDS)
    options, sampling = DittoOptions(), GenerateOptions()
    studio = stack.enter_context(StyleSampler.opened(model, features, sampling, duration=_SECONDS))
    noise = studio.noise()
    rate = model.config.sample_rate
    sound = Audio(torch.randn(1, 1, 2 * rate, generator=torch.Generator().manual_seed(3)) * 0.1, rate)
    with torch.no_grad():
        target = studio.target([sound], options)

    def rounds() -> Iterator[None]:
        while True:
            x = noise.clone().requires_grad_()
            torch.autograd.grad(sum(studio.loss(x, target, options)), x)
            yield

    return rounds(), noise.numel(), None


def _updates(training: Trainable, lr: float) -> Iterator[None]:
    optimizer = torch.optim.AdamW(training.parameters(lr), weight_decay=0.0)
    step = 0
    while True:
        optimizer.zero_grad()
        for part in training.loss(step, partial(keyed, 0, step)):
            part.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        step += 1
        yield


TOOLS: dict[str, Callable[[SelVAModel, Clips, ExitStack], Rounds]] = {
    "LoRA, an update": _lora,
    "textual inversion, an update": _inversion,
    "vocoder, an update of 1 s": _vocoder,
    "steering, a clip": _steering,
    "DITTO, an iteration": _ditto,
}

if __name__ == "__main__":
    main()
