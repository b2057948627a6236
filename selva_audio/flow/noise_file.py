"""Files of noise that sounds start from, as DITTO finds it: safetensors with one tensor (N, C)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, MissingFileError
from ..weights.io import read_state_dict, write_safetensors

_KEY = "noise"


def write_noise(path: str | Path, noise: Tensor, told: Mapping[str, str] | None = None) -> Path:
    """Write noise (N, C), with texts about it, whole or not at all; returns the path.

    Raises:
        OutputError: the place cannot be written.
    """
    path = Path(path)
    write_safetensors(path, {_KEY: noise.detach().float().cpu().contiguous()}, told)
    return path


def read_noise(path: str | Path) -> Tensor:
    """Noise (N, C) float32 on the CPU.

    Raises:
        MissingFileError: no such file.
        CheckpointError: not such a file, damaged, or with values that are not finite.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"There is no noise {path}. `selva ditto` writes it beside its sound.")
    found = read_state_dict(path)
    noise = found.get(_KEY)
    if set(found) != {_KEY} or noise is None or noise.ndim != 2 or not noise.is_floating_point():
        raise CheckpointError(f"{path} holds no noise of `selva ditto`. Give the file beside its sound.")
    if not bool(torch.isfinite(noise).all()):
        raise CheckpointError(f"{path} holds noise that is not finite. Optimise it again.")
    return noise.float()
