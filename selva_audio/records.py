"""What crosses a task boundary: frames in, audio out, and the account of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Audio:
    """Sound.

    Attributes:
        waveform: (B, C, L) float32 on the CPU, in [-1, 1]; B counts takes.
        sample_rate: hertz.
        notes: sentences the user should see (silence, a shortened duration, ...).
    """

    waveform: "Tensor"
    sample_rate: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.waveform.ndim != 3:
            raise InputError(f"A waveform must be (B, C, L), not {tuple(self.waveform.shape)}.")
        if self.sample_rate <= 0:
            raise InputError(f"The sample rate must be positive, not {self.sample_rate}.")

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return float(self.waveform.shape[-1]) / self.sample_rate


@dataclass(frozen=True, slots=True)
class Frames:
    """Pictures with their times.

    Attributes:
        pixels: (T, H, W, C) uint8, C = 3 (RGB) or 4 (RGBA; alpha is not looked at).
        times: (T,) float64 seconds from the container's time zero.
    """

    pixels: "np.ndarray"
    times: "np.ndarray"

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[-1] not in (3, 4) or str(self.pixels.dtype) != "uint8":
            raise InputError(
                f"Frames must be (T, H, W, 3 or 4) uint8, not {tuple(self.pixels.shape)} {self.pixels.dtype}."
            )
        if len(self.times) != len(self.pixels):
            raise InputError(f"{len(self.pixels)} frames came with {len(self.times)} times.")


@dataclass(frozen=True, slots=True)
class RunResult:
    """Account of one finished job.

    Attributes:
        outputs: files written, in order.
        recipe: everything needed to make the result again.
        seconds: wall seconds per stage.
        notes: sentences the user should see (a repeated frame, silent sound, ...).
    """

    outputs: tuple[Path, ...]
    recipe: Mapping[str, Any]
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
