"""A toy model with clips, sounds and discriminators for it: for textual inversion and vocoder tuning."""

import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from published import toy_config, untrained_model

from selva_audio.bundle import SelVAModel
from selva_audio.media.audio import write_audio
from selva_audio.models.discriminators import (
    MultiConstantQDiscriminator,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
)
from selva_audio.options import TextualInversionOptions, VocoderOptions
from selva_audio.records import Audio
from selva_audio.training.clips import Clips
from selva_audio.training.corpus import Corpus
from selva_audio.training.keyed import keyed
from selva_audio.weights.io import write_object

RATE = 16000


@cache
def toy_model(variant: str = "small_16k") -> SelVAModel:
    """Untrained; shared by all tests, so nothing may change it."""
    return untrained_model(toy_config(variant))


def toy_clips(model: SelVAModel, count: int = 5, held: int = 1, seed: int = 0) -> Clips:
    """Clips of noise, the last ones for validation."""
    random = torch.Generator().manual_seed(seed)
    config, num_latents = model.config.generator, 12
    prompts = tuple(("a glass bell", "a dog")[index % 2] for index in range(count))
    with torch.no_grad():
        text = model.clip.encode_text(list(prompts))
    return Clips(
        names=tuple(f"clip{index}" for index in range(count)),
        mean=torch.randn(count, num_latents, config.latent_dim, generator=random),
        std=torch.full((count, num_latents, config.latent_dim), 0.1),
        valid=torch.ones(count, num_latents, dtype=torch.bool),
        clip=torch.randn(count, 3, config.clip_dim, generator=random),
        has_clip=torch.ones(count, dtype=torch.bool),
        sync=torch.randn(count, 8, config.sync_dim, generator=random),
        text=text,
        prompts=prompts,
        recordings=tuple(f"clip{index}" for index in range(count)),
        splits=("train",) * (count - held) + ("val",) * held,
        pad="zero",
        fingerprint=f"clips {count} {held} {seed}",
        encoded=count,
    )


def inversion_options(**settings: object) -> TextualInversionOptions:
    defaults = {
        "steps": 4, "batch_size": 2, "save_every": 2, "warmup_steps": 1, "sample_steps": 0, "lr": 2e-2,
        "lr_schedule": "constant",
    }  # fmt: skip
    return TextualInversionOptions.parse(**defaults | settings)


def vocoder_options(**settings: object) -> VocoderOptions:
    defaults = {
        "steps": 4, "batch_size": 2, "save_every": 2, "warmup_steps": 1, "lr": 1e-2, "segment_seconds": 0.25,
        "val_fraction": 0.25, "grad_checkpoint": False,
    }  # fmt: skip
    return VocoderOptions.parse(**defaults | settings)


def tones(count: int = 5, seconds: float = 0.4) -> list[torch.Tensor]:
    """Decaying tones, each with its own pitch."""
    time = torch.arange(int(seconds * RATE)) / RATE
    return [
        0.3 * torch.sin(2 * math.pi * 220 * (1 + number) * time) * torch.exp(-4 * time)
        for number in range(count)
    ]


def toy_corpus(count: int = 5, rate: int = RATE) -> Corpus:
    waves = tones(count)
    names = tuple(f"sound{chr(97 + number)}.wav" for number in range(count))
    return Corpus(Path("sounds"), names, tuple(waves), (), rate, f"tones {count}")


def write_tones(folder: Path, count: int = 5, *, suffix: str = ".wav", seconds: float = 0.4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, wave in enumerate(tones(count, seconds)):
        write_audio(folder / f"sound{chr(97 + number)}{suffix}", Audio(wave[None, None], RATE))
    return folder


def discriminator_content(kind: str = "spectra", width: int = 2) -> dict[str, object]:
    """The published layout at toy width: weight norm, optimisers and counts beside the weights."""
    torch.manual_seed(0)
    other = (
        MultiResolutionDiscriminator(width)
        if kind == "spectra"
        else MultiConstantQDiscriminator(width, 44100)
    )
    content: dict[str, object] = {}
    for name, module in {"mpd": MultiPeriodDiscriminator([2, 4, 4, 4, 4]), "mrd": other}.items():
        state: dict[str, torch.Tensor] = {}
        for key, value in module.state_dict().items():
            is_plain = kind != "spectra" and (".convs.0." in key or ".conv_pres." in key)
            if not key.endswith("weight") or (name == "mrd" and is_plain):
                state[key] = value
                continue
            norm = value.flatten(1).norm(dim=1)
            state[key.replace("weight", "weight_g")] = norm.reshape(-1, *[1] * (value.ndim - 1))
            state[key.replace("weight", "weight_v")] = 2 * value
        content[name] = state
    return content | {"optim_g": {"state": {}}, "optim_d": {"state": {}}, "steps": 5, "epoch": 1}


def write_discriminators(path: Path, kind: str = "spectra") -> Path:
    write_object(path, discriminator_content(kind))
    return path


def update(training: Any, steps: int = 1, lr: float = 1e-2) -> Any:
    """A few plain updates without files and figures, which is quicker than ``fit``."""
    parameters = [each for group in training.parameters(lr) for each in group["params"]]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        for part in training.loss(step, partial(keyed, training.options.seed, step)):
            part.backward()
        optimizer.step()
        training.constrain()
    return training


def equal_tensors(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


def mel_of(frames: int = 12, bands: int = 80, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(-2, 1, (1, bands, frames)).astype(np.float32))
