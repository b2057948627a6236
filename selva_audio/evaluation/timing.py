"""Whether a sound happens when its reference does: onsets, and the shift of the whole.

Functions take two sounds of one channel (L,) at one rate.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from .onsets import detect_onsets, match_onsets

Wave = NDArray[np.float32]
Array = NDArray[np.float64]

_WINDOWS_MS = (50, 100)
_REACH_SECONDS = 1.0
_HOP_SECONDS = 0.005
_LEAST_CORRELATION = 0.1


def timing_metrics(made: Wave, real: Wave, sample_rate: int) -> dict[str, float | None]:
    """Onsets of a sound against those of its reference, and by how much the whole is late.

    Returns:
        ``onset_f1_50ms``, ``onset_precision_50ms``, ``onset_recall_50ms``, the same at 100 ms, and
        ``onset_error_ms``, the mean distance of pairs within 100 ms; None where the reference has no onsets.
        ``offset_ms`` of ``find_offset``.
    """
    found, true = (detect_onsets(wave, sample_rate) for wave in (made, real))
    numbers: dict[str, float | None] = {}
    for window in _WINDOWS_MS:
        match = match_onsets(found, true, window / 1000)
        values = (match.f1, match.precision, match.recall)
        for name, value in zip(("f1", "precision", "recall"), values, strict=True):
            numbers[f"onset_{name}_{window}ms"] = value if len(true) else None
        error = 1000 * float(np.abs(match.offsets).mean()) if match.offsets else None
        numbers["onset_error_ms"] = error
    offset = find_offset(made, real, sample_rate)
    return numbers | {"offset_ms": None if offset is None else 1000 * offset}


def find_offset(made: Wave, real: Wave, sample_rate: int) -> float | None:
    """Seconds by which the envelope of a sound is late, up to one second either way.

    None where the envelopes have nothing to do with each other.
    """
    first, second = (_envelope(wave, sample_rate) for wave in (made, real))
    norm = math.sqrt(float(np.square(first).sum()) * float(np.square(second).sum()))
    if norm < 1e-12:
        return None
    correlation = signal.correlate(first, second, mode="full", method="fft") / norm
    reach = round(_REACH_SECONDS / _HOP_SECONDS)
    lags = np.arange(len(correlation)) - (len(second) - 1)
    near = np.abs(lags) <= reach
    best = int(correlation[near].argmax())
    if correlation[near][best] < _LEAST_CORRELATION:
        return None
    return float(lags[near][best]) * _HOP_SECONDS


def _envelope(waveform: Wave, sample_rate: int) -> Array:
    """Level of every 5 ms without its mean."""
    size = max(round(_HOP_SECONDS * sample_rate), 1)
    padded = np.pad(waveform.astype(np.float64), (0, -len(waveform) % size))
    level = np.sqrt(np.square(padded.reshape(-1, size)).mean(axis=1))
    return np.asarray(level - level.mean())
