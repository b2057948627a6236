"""Harmonic exciter: overtones of what lies above a frequency, mixed in.

Letters: B takes, C channels, L samples.
"""

import numpy as np
import torch
from scipy import signal
from torch import Tensor

from ..progress import Progress, ProgressFn, ignore_progress, subtask
from .filters import convolve, highpass

_MAX_TRANSITION_HZ = 1000.0
_OVERSAMPLING = 4
_BLOCK = 2**18
# Covers twice the half length (10 samples) of scipy's default filters for going up and down again.
_MARGIN = 64


def excite(
    waveform: Tensor,
    sample_rate: int,
    *,
    cutoff_hz: float,
    drive: float,
    mix: float,
    on_progress: ProgressFn = ignore_progress,
) -> Tensor:
    """Add saturated high frequencies: ``x + mix * tanh(drive * highpass(x)) / drive``.

    The saturation runs at four times the rate, so that overtones past half the sample rate are dropped
    instead of folding back as tones that belong to nothing. The high-pass has zero phase. (The public pack
    sent the sum through another tanh, which bent the sound even at mix 0.)

    Args:
        waveform: (B, C, L) float32.
        sample_rate: hertz.
        cutoff_hz: from where on frequencies are excited.
        drive: gain into the saturation, above 0.
        mix: how much of it is added; 0 gives ``waveform`` itself.
        on_progress: progress and cancel.

    Returns:
        (B, C, L) float32; it may be louder than its input.
    """
    if mix == 0 or cutoff_hz >= sample_rate / 2:
        return waveform
    taps = highpass(cutoff_hz, min(_MAX_TRANSITION_HZ, cutoff_hz / 2), sample_rate)
    high = convolve(waveform, taps, on_progress=subtask(on_progress, 0, 0.3))
    overtones = _saturate(high, drive, on_progress=subtask(on_progress, 0.3, 1))
    return waveform + mix * overtones


def _saturate(waveform: Tensor, drive: float, *, on_progress: ProgressFn) -> Tensor:
    """``tanh(drive * x) / drive`` without aliases, block by block."""
    length = waveform.shape[-1]
    rows = waveform.reshape(-1, length).numpy()
    result = np.empty_like(rows)
    for index, row in enumerate(rows):
        for begin in range(0, length, _BLOCK):
            on_progress(Progress("exciting", index * length + begin, len(rows) * length))
            first = max(begin - _MARGIN, 0)
            block = row[first : begin + _BLOCK + _MARGIN].astype(np.float64)
            dense = np.tanh(drive * signal.resample_poly(block, _OVERSAMPLING, 1)) / drive
            bent = signal.resample_poly(dense, 1, _OVERSAMPLING)[begin - first :]
            result[index, begin : begin + _BLOCK] = bent[: min(_BLOCK, length - begin)]
    on_progress(Progress("exciting", len(rows) * length, len(rows) * length))
    return torch.from_numpy(result).reshape(waveform.shape)
