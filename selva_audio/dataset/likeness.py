"""Knowing a sound again: its mel, coarse enough that level, rate and coding do not matter.

Letters: M mel bands, F mel frames.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..configs import get_config
from ..media.audio import resample
from ..models.mel import mel_spectrogram
from ..records import Audio

_MEL = get_config("small_16k").mel
_MEL_RANGE_DB = 60.0
# Copies that went through a lossy codec differ by about 1 dB, two takes of one steady noise by over 3.
_SAME_DB = 1.5
_FRAMES_APART, _PROFILE_SLACK_DB = 4, 1.0


@dataclass(frozen=True, slots=True)
class Picture:
    """The mel of a clip, by which copies are known again.

    Attributes:
        mel: (M, F) decibels below its peak, cut at -60.
        profile: (M,) its mean over time.
    """

    mel: NDArray[np.int8]
    profile: NDArray[np.float64]

    def is_copy_of(self, other: "Picture") -> bool:
        """Whether both are the same sound from the same moment on, at any level."""
        # No further apart in the mean of a band than they are in its cells, whose mean is wanted.
        if float(np.abs(self.profile - other.profile).mean()) > _SAME_DB + _PROFILE_SLACK_DB:
            return False
        lengths = self.mel.shape[1], other.mel.shape[1]
        if abs(lengths[0] - lengths[1]) > _FRAMES_APART:
            return False
        first, second = (each.mel[:, : min(lengths)].astype(np.float32) for each in (self, other))
        heard = np.maximum(first, second) > -_MEL_RANGE_DB
        return bool(heard.any()) and float(np.abs(first - second)[heard].mean()) < _SAME_DB


def mel_picture(audio: Audio) -> Picture:
    """What ``Picture`` holds of a sound of any rate."""
    mono = audio.waveform[0].mean(dim=0)
    wave = resample(mono, audio.sample_rate, _MEL.sample_rate)
    wave = torch.nn.functional.pad(wave, (0, max(_MEL.n_fft - len(wave), 0)))
    decibels = 20 * mel_spectrogram(wave[None], _MEL)[0].numpy()
    levels = np.maximum(decibels - decibels.max(), -_MEL_RANGE_DB).round().astype(np.int8)
    return Picture(levels, levels.mean(axis=1))
