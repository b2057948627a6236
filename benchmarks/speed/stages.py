"""The stages of the main job on both sides, each with inputs of its own, and the job as a whole."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selva_audio.bundle import PARTS
from selva_audio.configs import VARIANTS
from selva_audio.records import Frames

from .clips import fit_clip, write_clip
from .files import VARIANT, given
from .measure import Tally, error, in_turn, ratio, top_operations
from .ours import Ours, read_sync
from .upstream import Upstream

STEPS = 25
PROMPT = "a rubber ball bouncing on a wooden floor"
STAGES = ("reading", "text", "text_synch", "generator", "vae", "vocoder", "writing")
# Those of a CPU second or less; the others take up to a minute.
CHEAP = frozenset({"text", "vae"})
_REPEATS = {True: 5, False: 2}
# What each side has in memory before its clock starts.
_PARTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "reading": ((), ()),
    "text": (("features",), ("clip", "t5", "generator")),
    "text_synch": (("features", "encoder"), ("t5", "video_encoder")),
    "generator": (("generator",), ("generator",)),
    "vae": (("coder",), ("vae",)),
    "vocoder": (("coder",), ("vocoder",)),
    "writing": ((), ()),
    "whole": (("features", "encoder", "generator"), PARTS),
}


@dataclass(slots=True)
class Inputs:
    """What the stages get: the same numbers on both sides, whatever the precision.

    Attributes:
        video: file to read and to write into.
        frames: (T, 224, 224, 3) uint8 at 25 per second.
        sync: (1, 192, 768).
        clip: (1, 77, 1024), of the prompt.
        negative: of the empty prompt.
        noise: (1, N, C).
        latent: (1, N, C), in the VAE's scale.
        mel: (1, M, F).
        wave: (1, L) in [-1, 1].
    """

    video: Path
    frames: Frames
    sync: Tensor
    clip: Tensor
    negative: Tensor
    noise: Tensor
    latent: Tensor
    mel: Tensor
    wave: Tensor


def make_inputs(work: Path, video: Path | None, duration: float) -> Inputs:
    """Inputs by rule; the mel has the level and the spread of real ones."""
    # A little longer than what is used: upstream loses a grid time at the end of a video.
    seconds = duration + 0.2
    video = fit_clip(video, work, seconds) if video else write_clip(work, seconds)
    pixels = ((read_sync(video, duration).permute(0, 2, 3, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    config = VARIANTS[VARIANT]
    lengths = config.lengths(duration)
    noise = given("noise", (1, lengths.latent, config.generator.latent_dim))
    latent = given("latent", tuple(noise.shape))
    return Inputs(
        video=video,
        # A little late: the grid's running sum may pass a time by rounding, and would then take the next one.
        frames=Frames(pixels, np.arange(len(pixels)) / 25 + 1e-6),
        sync=given("sync", (1, lengths.sync, 768), scale=0.5),
        clip=given("clip", (1, 77, 1024), kind="l2"),
        negative=given("negative", (1, 77, 1024), kind="l2"),
        noise=noise,
        latent=latent,
        mel=given("mel", (1, config.mel.num_mels, 2 * lengths.latent), scale=0.8) - 1.5,
        wave=given("wave", (1, lengths.samples), kind="wave")[:, : round(duration * config.sample_rate)],
    )


def measure(
    name: str,
    upstream: Upstream | None,
    ours: Ours,
    inputs: Inputs,
    exact: dict[str, Tensor],
    *,
    repeats: int,
    count: bool,
    profile: bool = False,
) -> dict[str, Any]:
    """The row of a stage, or of the job as a whole.

    ``exact`` holds what upstream gives in fp32, by stage: that pass fills it, and later ones are compared
    with it.
    """
    load_parts(name, upstream, ours)
    with tempfile.TemporaryDirectory() as folder:
        theirs, own = _calls(upstream, ours, inputs, Path(folder))[name]
        times = repeats or _REPEATS[name in CHEAP]
        a, b = in_turn(theirs, own, repeats=times, count=count, device=ours.model.policy.device)
        row = _row(name, a, b, exact)
        if profile:
            row["ours"]["top"] = top_operations(own, ours.model.policy.device)
    return row


def load_parts(name: str, upstream: Upstream | None, ours: Ours) -> None:
    """Have in memory what a stage needs."""
    theirs, own = _PARTS[name]
    ours.load(own)
    for part in theirs if upstream is not None else ():
        getattr(upstream, part)


def _calls(
    upstream: Upstream | None, ours: Ours, inputs: Inputs, folder: Path
) -> Mapping[str, tuple[Callable[[int], Any] | None, Callable[[int], Any]]]:
    # A prompt is new in each run: what was encoded once may be kept, and is not what is measured.
    prompt = lambda run: f"{PROMPT} {run}"
    pixels = torch.from_numpy(inputs.frames.pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    state = inputs.sync, inputs.clip, inputs.negative, inputs.noise, STEPS
    output = folder / "out.mp4"
    own: dict[str, Callable[[int], Any]] = {
        "reading": lambda run: read_sync(inputs.video, ours.duration),
        "text": lambda run: torch.cat(ours.text(prompt(run))),
        "text_synch": lambda run: ours.sync(inputs.frames, prompt(run)),
        "generator": lambda run: ours.sample(*state),
        "vae": lambda run: ours.decode(inputs.latent),
        "vocoder": lambda run: ours.vocode(inputs.mel),
        "writing": lambda run: ours.write(inputs.video, inputs.wave, output),
        "whole": lambda run: ours.whole(inputs.video, prompt(run), inputs.noise, output, STEPS),
    }
    if upstream is None:
        return {name: (None, run) for name, run in own.items()}
    held: list[Any] = []

    def write() -> None:
        if not held:
            held.append(upstream.read(inputs.video))
        upstream.write(held[0], inputs.wave, output)

    theirs: dict[str, Callable[[int], Any]] = {
        "reading": lambda run: upstream.read(inputs.video).sync_frames,
        "text": lambda run: torch.cat(upstream.text(prompt(run))),
        "text_synch": lambda run: upstream.sync(pixels, prompt(run)),
        "generator": lambda run: upstream.sample(*state),
        "vae": lambda run: upstream.decode(inputs.latent),
        "vocoder": lambda run: upstream.vocode(inputs.mel),
        "writing": lambda run: write(),
        "whole": lambda run: upstream.whole(inputs.video, prompt(run), inputs.noise, output, STEPS),
    }
    return {name: (theirs[name], own[name]) for name in own}


def _row(name: str, upstream: Tally | None, ours: Tally, exact: dict[str, Tensor]) -> dict[str, Any]:
    row: dict[str, Any] = {"ours": ours.numbers()}
    if upstream is not None:
        row |= {"upstream": upstream.numbers()} | ratio(upstream, ours)
        if isinstance(upstream.result, Tensor):
            exact.setdefault(name, upstream.result.float().cpu().clone())
            row["upstream"]["error"] = error(upstream.result, exact[name])
    if name in exact and isinstance(ours.result, Tensor):
        row["ours"]["error"] = error(ours.result, exact[name])
    return row
