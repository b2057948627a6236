"""Linear-phase filters without delay, and the smoother of high frequencies made of one.

A filter here is a symmetric row of taps whose delay is taken out, so that nothing moves in time and a mix
with the unfiltered sound has no comb. Sound is continued by its mirror image at both ends.

Letters: B takes, C channels, L samples.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import signal
from torch import Tensor

from ..progress import Progress, ProgressFn, ignore_progress

# What a filter leaves of the frequencies it takes out; the claim made of it is 60 dB.
_STOPBAND_DB = 80.0
_BLOCK = 2**18


def smooth_hf(
    waveform: Tensor,
    sample_rate: int,
    *,
    cutoff_hz: float,
    blend: float,
    transition_hz: float,
    on_progress: ProgressFn = ignore_progress,
) -> Tensor:
    """Turn high frequencies down: ``(1 - blend) * x + blend * lowpass(x)``, with zero phase.

    The gain is 0 dB (within 0.1 dB) up to ``cutoff_hz - transition_hz`` and ``20 log10(1 - blend)`` from
    ``cutoff_hz`` on; with ``blend`` 1, at most -60 dB.

    Args:
        waveform: (B, C, L) float32.
        sample_rate: hertz.
        cutoff_hz: where the low-pass has ended; above half the sample rate nothing is left to do.
        blend: share of the filtered sound, 0 to 1; 0 gives ``waveform`` itself.
        transition_hz: width of the slope below the cutoff, less than ``cutoff_hz``.
        on_progress: progress and cancel.

    Returns:
        (B, C, L) float32.
    """
    if blend == 0 or cutoff_hz >= sample_rate / 2:
        return waveform
    taps = lowpass(cutoff_hz, transition_hz, sample_rate) * blend
    taps[len(taps) // 2] += 1 - blend
    return convolve(waveform, taps, on_progress=on_progress)


def lowpass(cutoff_hz: float, transition_hz: float, sample_rate: int) -> NDArray[np.float64]:
    """Odd number of taps that pass ``cutoff_hz - transition_hz`` and stop ``cutoff_hz``.

    Source: the window method with a Kaiser window (J. F. Kaiser, 1974), by scipy.
    """
    nyquist = sample_rate / 2
    count, beta = signal.kaiserord(_STOPBAND_DB, transition_hz / nyquist)
    taps: NDArray[np.float64] = signal.firwin(
        count | 1, cutoff_hz - transition_hz / 2, window=("kaiser", beta), fs=sample_rate
    )
    return taps


def highpass(cutoff_hz: float, transition_hz: float, sample_rate: int) -> NDArray[np.float64]:
    """Odd number of taps that stop ``cutoff_hz - transition_hz`` and pass ``cutoff_hz``."""
    taps = -lowpass(cutoff_hz, transition_hz, sample_rate)
    taps[len(taps) // 2] += 1
    return taps


def convolve(
    waveform: Tensor, taps: NDArray[np.float64], *, on_progress: ProgressFn = ignore_progress
) -> Tensor:
    """Filter with symmetric taps and no delay, block by block, so that memory stays flat.

    Args:
        waveform: (B, C, L) float32, L at least 1.
        taps: an odd number; the middle one is time zero.
        on_progress: called before every block.

    Returns:
        (B, C, L) float32.
    """
    length, half = waveform.shape[-1], len(taps) // 2
    rows = waveform.detach().cpu().float().reshape(-1, length).numpy()
    result = np.empty_like(rows)
    for index, row in enumerate(rows):
        extended = np.pad(row, half, mode="symmetric")
        for begin in range(0, length, _BLOCK):
            on_progress(Progress("filtering", index * length + begin, len(rows) * length))
            block = extended[begin : begin + _BLOCK + 2 * half].astype(np.float64)
            result[index, begin : begin + _BLOCK] = signal.oaconvolve(block, taps, mode="valid")
    on_progress(Progress("filtering", len(rows) * length, len(rows) * length))
    return torch.from_numpy(result).reshape(waveform.shape)
