"""Frozen discriminators from the published file, for feature matching.

The file is ``{"mpd": ..., "mrd": ..., optimisers}``. Where the entry ``mrd`` has ``conv_pres``, as that of
BigVGAN v2, it is a discriminator of constant-Q transforms and not one of spectra. The two share most names,
so that whatever fits is never just taken: names and shapes are all there, or the file is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, MissingFileError, shown
from ..models.bigvgan import fold_weight_norm
from ..models.discriminators import (
    PERIODS,
    MultiConstantQDiscriminator,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
)
from ..weights.io import read_object
from .vocoder_losses import feature_distance

_LAYERS = 5
_SPECTRAL_RATES = (22050, 24000, 44100)  # that published discriminators of spectra were trained at


@dataclass(frozen=True, slots=True)
class Discriminators:
    """What listens, and sentences that the user should see."""

    modules: tuple[MultiPeriodDiscriminator | MultiResolutionDiscriminator | MultiConstantQDiscriminator, ...]
    notes: tuple[str, ...] = ()

    def to(self, device: str) -> "Discriminators":
        """The same, moved."""
        for module in self.modules:
            module.to(device)
        return self

    def distance(self, made: Tensor, real: Tensor) -> Tensor:
        """Of the features of (B, 1, L) waveforms, summed over discriminators."""
        parts = []
        for module in self.modules:
            with torch.no_grad():
                wanted = module.features(real)
            parts.append(feature_distance(module.features(made), wanted))
        return torch.stack(parts).sum()


def read_discriminators(path: str | Path, sample_rate: int) -> Discriminators:
    """Read what can judge sound of a rate: all of it, or at 16 kHz that of periods alone.

    Raises:
        MissingFileError: no such file.
        CheckpointError: another layout, damaged, or not safe to read.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"There is no discriminator {path}. Give the bigvgan_discriminator_optimizer.pt of the vocoder."
        )
    content = read_object(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("mpd"), Mapping):
        found = (
            f"the keys {', '.join(map(str, list(content)[:5]))}"
            if isinstance(content, Mapping)
            else shown(content)
        )
        raise CheckpointError(
            f"{path} is no discriminator file: it holds {found} where mpd and mrd are needed. Give "
            "bigvgan_discriminator_optimizer.pt, or train without it."
        )
    periods = _state(path, content["mpd"])
    modules: list[Any] = [
        _filled(path, "mpd", MultiPeriodDiscriminator(_period_channels(path, periods)), periods)
    ]
    other = content.get("mrd")
    if not isinstance(other, Mapping):
        return Discriminators(tuple(modules))
    if sample_rate not in _SPECTRAL_RATES:
        note = (
            f"The discriminator of spectra was not trained at {sample_rate} Hz; only that of periods listens."
        )
        return Discriminators(tuple(modules), (note,))
    state = _state(path, other)
    width = _first_size(path, "mrd", state, "discriminators.0.convs.0.weight")
    modules.append(
        _filled(path, "mrd", MultiConstantQDiscriminator(width, sample_rate), state)
        if any("conv_pres" in key for key in state)
        else _filled(path, "mrd", MultiResolutionDiscriminator(width), state)
    )
    return Discriminators(tuple(modules))


def _state(path: Path, entry: Mapping[Any, Any]) -> dict[str, Tensor]:
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in entry.items()):
        raise CheckpointError(
            f"{path} holds something other than tensors in its discriminators. Get it again."
        )
    return {key: value.float() for key, value in fold_weight_norm(entry).items()}


def _period_channels(path: Path, state: Mapping[str, Tensor]) -> list[int]:
    return [
        _first_size(path, "mpd", state, f"discriminators.0.convs.{index}.weight") for index in range(_LAYERS)
    ]


def _first_size(path: Path, entry: str, state: Mapping[str, Tensor], key: str) -> int:
    if key not in state or not state[key].ndim or not state[key].shape[0]:
        raise _not_one(path, entry, f"{key} is missing")
    return int(state[key].shape[0])


def _filled(path: Path, entry: str, module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    needed = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if needed != found:
        wrong = sorted(key for key in needed.keys() | found.keys() if needed.get(key) != found.get(key))
        raise _not_one(path, entry, f"{len(wrong)} tensors differ, the first is {wrong[0]}")
    module.load_state_dict(dict(state))
    return module.eval().requires_grad_(False)


def _not_one(path: Path, entry: str, reason: str) -> CheckpointError:
    kinds = {"mpd": f"of the periods {PERIODS}", "mrd": "of three spectra or three constant-Q transforms"}
    return CheckpointError(
        f"The entry {entry} of {path} is not a discriminator {kinds[entry]}: {reason}. Give the published "
        "file."
    )
