"""Levels of a sound, and faults of its samples. Functions take one channel (L,)."""

import math

import numpy as np
import pyloudnorm
from numpy.typing import NDArray

from ..media.loudness import GATE_SECONDS

Wave = NDArray[np.float32]
Array = NDArray[np.float64]

LOWEST_DBFS = -120.0
_SILENT_DBFS = -60.0
_CLIPPED = 0.999
_FRAME_SECONDS = 0.02
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, 20.0


def sample_metrics(waveform: Wave, sample_rate: int) -> dict[str, float | None]:
    """Numbers of a sound as it is.

    Returns:
        ``noise_floor``: 10th percentile of the level of 20 ms frames, dBFS, -120 at least.
        ``silence_fraction``: share of frames under -60 dBFS. ``clipping_fraction``: share of samples at full
        scale. ``dc``: mean. ``loudness_range``: 95th minus 10th percentile of the loudness of 0.4 s blocks,
        LU; None for silence and short sounds.
    """
    frames = frame_levels(waveform, sample_rate)
    return {
        "noise_floor": float(np.quantile(frames, 0.1)),
        "silence_fraction": float((frames < _SILENT_DBFS).mean()),
        "clipping_fraction": float((np.abs(waveform) >= _CLIPPED).mean()),
        "dc": float(waveform.astype(np.float64).mean()),
        "loudness_range": loudness_range(waveform, sample_rate),
    }


def frame_levels(waveform: Wave, sample_rate: int) -> Array:
    """Level of each 20 ms, dBFS, -120 at least."""
    size = max(round(_FRAME_SECONDS * sample_rate), 1)
    padded = np.pad(waveform.astype(np.float64), (0, -len(waveform) % size))
    power = np.square(padded.reshape(-1, size)).mean(axis=1)
    return np.asarray(10 * np.log10(np.maximum(power, 10 ** (LOWEST_DBFS / 10))))


def loudness_range(waveform: Wave, sample_rate: int) -> float | None:
    """Like the loudness range of EBU Tech 3342, on blocks of 0.4 s instead of 3 s: clips are short."""
    if len(waveform) < GATE_SECONDS * sample_rate or not waveform.any():
        return None
    meter = pyloudnorm.Meter(sample_rate)
    whole = float(meter.integrated_loudness(waveform.astype(np.float64)))
    if not math.isfinite(whole):
        return None
    blocks = np.asarray(meter.blockwise_loudness)
    heard = blocks[blocks >= max(_ABSOLUTE_GATE, whole - _RELATIVE_GATE)]
    low, high = np.quantile(heard, [0.1, 0.95])
    return float(high - low)
