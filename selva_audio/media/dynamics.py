"""A parallel compressor: what is loud turned down, mixed with the sound as it was.

Letters: C channels, L samples.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..progress import Progress, ProgressFn, ignore_progress

# The level is followed in steps of this many seconds, half of the shortest attack.
_STEP = 0.0005
_REPORT_EVERY = 2**17
_LEAST_LEVEL_DB = -120.0

Curve = NDArray[np.float64]


def compress(
    waveform: Tensor,
    sample_rate: int,
    *,
    threshold_db: float,
    ratio: float,
    attack_ms: float,
    release_ms: float,
    mix: float,
    on_progress: ProgressFn = ignore_progress,
) -> tuple[Tensor, float]:
    """Turn down what is above a level, the same in all channels, and mix: ``(1 - mix) x + mix gain x``.

    Args:
        waveform: (C, L) float32.
        sample_rate: hertz.
        threshold_db: level in dBFS from which on the gain falls; of the loudest channel's peaks.
        ratio: decibels above the threshold that become one; at least 1.
        attack_ms: time in which the gain falls, to 1 - 1/e of the way.
        release_ms: time in which it comes back.
        mix: share of the compressed sound, 0 to 1; 0 gives ``waveform`` itself.
        on_progress: progress and cancel.

    Returns:
        (C, L) float32, nowhere louder than ``waveform``, and the deepest gain of the compressed part in dB.

    Source: Giannoulis, Massberg and Reiss, JAES 60(6), 2012: feed-forward, level in decibels, smooth
    decoupled detector, hard knee.
    """
    if mix == 0 or not bool(waveform.any()):
        return waveform, 0.0
    size = max(round(_STEP * sample_rate), 1)
    excess = (1 - 1 / ratio) * np.maximum(_levels(waveform, size) - threshold_db, 0)
    step = size / sample_rate
    smooth = _followed(excess, _share(attack_ms, step), _share(release_ms, step), on_progress)
    if not smooth.any():
        return waveform, 0.0
    middles = (np.arange(len(smooth)) + 0.5) * size
    reduction = np.interp(np.arange(waveform.shape[-1]), middles, smooth)
    gain = torch.from_numpy(1 - mix + mix * 10 ** (-reduction / 20)).float()
    return waveform * gain, -float(reduction.max())


def _levels(waveform: Tensor, size: int) -> Curve:
    """Largest sample of every step over all channels, in dBFS."""
    peaks = waveform.abs().amax(dim=0).double().numpy()
    largest = np.maximum.reduceat(peaks, np.arange(0, len(peaks), size))
    return np.asarray(20 * np.log10(np.maximum(largest, 10 ** (_LEAST_LEVEL_DB / 20))))


def _followed(excess: Curve, attack: float, release: float, on_progress: ProgressFn) -> Curve:
    """The reduction in dB, held by the release and then smoothed by the attack."""
    result = np.empty_like(excess)
    held = smooth = 0.0
    for place, value in enumerate(excess.tolist()):
        if place % _REPORT_EVERY == 0:
            on_progress(Progress("compressing", place, len(excess)))
        held = max(value, release * held + (1 - release) * value)
        smooth = attack * smooth + (1 - attack) * held
        result[place] = smooth
    return result


def _share(milliseconds: float, step: float) -> float:
    return math.exp(-step * 1000 / milliseconds)
