"""Impacts heard in a log-mel, and how they match the ones that happened. For the recipe's own report."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .data import CONFIG

Array = NDArray[np.float64]

FRAME = CONFIG.mel.hop_length / CONFIG.mel.sample_rate
# Just over room tone; what is under it is silence.
_FLOOR = -3.1
_THRESHOLD = 0.1
_RELATIVE = 0.12
_SEPARATION = 3
# Median of detected minus true time on ground-truth stems of the val split.
_BIAS = -0.0134


@dataclass(frozen=True, slots=True)
class Match:
    """Counts of matched, detected and true onsets, and the signed offsets of the matched in seconds."""

    matched: int
    detected: int
    true: int
    offsets: tuple[float, ...] = ()

    @property
    def f1(self) -> float:
        """2 matched / (detected + true); 1 where there is nothing to find and nothing found."""
        return 2 * self.matched / (self.detected + self.true) if self.detected + self.true else 1.0


def detect_onsets(mel: NDArray[np.float32]) -> Array:
    """Seconds of sudden rises in a log-mel (M, F)."""
    levels = np.maximum(mel.astype(np.float64), _FLOOR)
    levels = np.concatenate([levels[:, :1], levels], axis=1)
    rise = np.maximum(np.diff(levels, axis=1), 0).mean(axis=0)
    threshold = max(_THRESHOLD, _RELATIVE * float(rise.max(initial=0.0)))
    padded = np.pad(rise, _SEPARATION)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _SEPARATION + 1)
    peaks = np.flatnonzero((rise >= windows.max(axis=1)) & (rise > threshold))
    around = np.stack([padded[peaks + _SEPARATION + shift] for shift in (-1, 0, 1)])
    curve = around[0] - 2 * around[1] + around[2]
    shift = np.where(curve < 0, 0.5 * (around[0] - around[2]) / np.where(curve < 0, curve, 1), 0.0)
    return (peaks + 0.5 + shift) * FRAME - _BIAS


def match_onsets(detected: Array, true: Array, window: float) -> Match:
    """Largest one-to-one matching within ``window`` seconds; for sorted times, greedy is optimal."""
    offsets, position = [], 0
    for time in np.sort(true):
        while position < len(detected) and detected[position] < time - window:
            position += 1
        if position < len(detected) and detected[position] <= time + window:
            offsets.append(float(detected[position] - time))
            position += 1
    return Match(len(offsets), len(detected), len(true), tuple(offsets))


def total(matches: list[Match]) -> Match:
    """Counts of all clips together."""
    return Match(
        sum(each.matched for each in matches),
        sum(each.detected for each in matches),
        sum(each.true for each in matches),
        tuple(offset for each in matches for offset in each.offsets),
    )
