"""Joins that can be heard: how a sound changes where two pieces meet, against how it changes elsewhere."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from ..media.audio import resample
from ..models.mel import mel_spectrogram
from .onsets import ANALYSIS, Array

_FRAME = ANALYSIS.hop_length / ANALYSIS.sample_rate
# Half the stretch in which the change at a moment is sought; the part around joins left out of the rest.
_REACH, _APART = 0.024, 0.1
_ORDINARY = 0.9
# Change per frame, mean over bands in log10, that nobody hears: the score of a join in silence stays small.
_LEAST_CHANGE = 0.02


def seam_scores(waveform: NDArray[np.float32], sample_rate: int, joins: Sequence[float]) -> Array:
    """How much each join stands out: its spectral change over that of the 10 % liveliest moments elsewhere.

    Up to 1, a join changes no more than the sound does anyway; above, it is one of the largest changes of the
    clip. A jump in level, in timbre or in phase (a click) all count, upwards or downwards.

    Args:
        waveform: (L,) in [-1, 1].
        sample_rate: hertz.
        joins: seconds.

    Returns:
        (joins,), 0 or more.

    Raises:
        InputError: a join outside the sound, or one channel too many.
    """
    samples = np.asarray(waveform, dtype=np.float32)
    if samples.ndim != 1:
        raise InputError(f"Seams are sought in one channel (L,), not in {samples.shape}. Mix it down first.")
    seconds = len(samples) / sample_rate
    if outside := [join for join in joins if not 0 < join < seconds]:
        raise InputError(f"A join at {outside[0]:g} s is not inside a sound of {seconds:g} s.")
    wave = resample(torch.from_numpy(samples), sample_rate, ANALYSIS.sample_rate)
    mel = mel_spectrogram(wave[None], ANALYSIS)[0].numpy().astype(np.float64)
    change = np.abs(np.diff(mel, axis=1)).mean(axis=0)
    reach = round(_REACH / _FRAME)
    padded = np.pad(change, reach, mode="edge")
    strongest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    times = (np.arange(len(change)) + 1) * _FRAME
    distance = np.abs(times[:, None] - np.asarray(joins)[None]).min(axis=1, initial=np.inf)
    rest = strongest[distance > _APART]
    ordinary = max(float(np.quantile(rest, _ORDINARY)) if len(rest) else 0.0, _LEAST_CHANGE)
    nearest = [int(np.abs(times - join).argmin()) for join in joins]
    return np.asarray(strongest[nearest] / ordinary, dtype=np.float64)
