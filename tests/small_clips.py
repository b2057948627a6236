"""Clips of noise for the small generator, and a training of them."""

from pathlib import Path

import torch
from small_generator import LATENTS, make_generator

from selva_audio.configs import VARIANTS
from selva_audio.models.generator import Generator
from selva_audio.options import LoraOptions
from selva_audio.training.clips import Clips
from selva_audio.training.lora import LoraTraining

SMALL = {
    "rank": 2,
    "target": "qkv",
    "batch_size": 2,
    "warmup_steps": 2,
    "save_every": 4,
    "lr": 1e-2,
    "lr_schedule": "constant",
}


def make_clips(count: int = 6, *, held: int = 2, seed: int = 0) -> Clips:
    """``held`` of the clips are for validation; the sound is a function of the video."""
    random = torch.Generator().manual_seed(seed)
    config = VARIANTS["small_16k"].generator
    clip, sync, text = (
        torch.randn(count, rows, width, generator=random)
        for rows, width in ((3, config.clip_dim), (8, config.sync_dim), (config.text_length, config.text_dim))
    )
    return Clips(
        names=tuple(f"clip{index}" for index in range(count)),
        mean=torch.randn(count, LATENTS, 4, generator=random),
        std=torch.full((count, LATENTS, 4), 0.1),
        valid=torch.ones(count, LATENTS, dtype=torch.bool),
        clip=clip,
        has_clip=torch.ones(count, dtype=torch.bool),
        sync=sync,
        text=text,
        prompts=("glass",) * count,
        recordings=tuple(f"clip{index}" for index in range(count)),
        splits=("train",) * (count - held) + ("val",) * held,
        pad="zero",
        fingerprint=f"clips {count} {held} {seed}",
        encoded=count,
    )


def make_training(
    generator: Generator | None = None, clips: Clips | None = None, **settings: object
) -> LoraTraining:
    return LoraTraining(
        generator if generator is not None else make_generator(),
        clips if clips is not None else make_clips(),
        LoraOptions.parse(**{**SMALL, **settings}),
        variant="small_16k",
        base="weights 0",
        clip_conditioning=True,
    )


def run(folder: Path, training: LoraTraining | None = None, **settings: object):
    """``fit`` on a toy; ``settings`` are options, and resume, should_stop, on_checkpoint, on_progress."""
    from selva_audio.training.loop import fit

    names = ("resume", "should_stop", "on_checkpoint", "on_progress")
    call = {name: settings.pop(name) for name in names if name in settings}
    training = training or make_training(**settings)
    return fit(training, training.options, folder, **call)
