"""Whether a made sound is a copy of one that was trained on.

Letters: M mel bands, F mel frames.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from ..media.audio import resample
from ..records import Audio
from .sounds import SET_MEL, level, log_mel

Array = NDArray[np.float64]

COPY = 0.98
# A stretch that is compared holds this share of the energy of both sounds at least.
_LEAST_ENERGY = 0.5
_RANGE = 3.0  # log10 units of magnitude


def memorisation(made: Array, trained: Sequence[Array]) -> float:
    """Largest likeness of a log-mel (M, F) with any of those trained on; over ``COPY`` it is a copy.

    FINETUNING 9 says the smallest over the clips; a copy of one of them is what is to be found.
    """
    return max((likeness(made, mel) for mel in trained), default=0.0)


def likeness(made: Array, real: Array) -> float:
    """Cosine of two log-mels (M, F) at the shift in time where it is largest; 1 for a moved copy.

    Each band is taken without its mean, so that two steady sounds of one spectrum are not called copies. What
    is 60 dB below the loudest counts as silence.
    """
    levels = [np.maximum(mel, mel.max() - _RANGE) for mel in (made, real)]
    first, second = (each - each.mean(axis=1, keepdims=True) for each in levels)
    rows = [signal.correlate(*pair, mode="full", method="fft") for pair in zip(first, second, strict=True)]
    correlation = np.sum(rows, axis=0)
    energies = [np.square(each).sum(axis=0) for each in (first, second)]
    # Energy of each sound in the stretch that both share, at every shift.
    shared = [
        signal.correlate(energies[0], np.ones(second.shape[1]), mode="full", method="fft"),
        signal.correlate(np.ones(first.shape[1]), energies[1], mode="full", method="fft"),
    ]
    enough = np.ones(len(correlation), dtype=bool)
    for part, energy in zip(shared, energies, strict=True):
        enough &= part >= _LEAST_ENERGY * energy.sum()
    norms = np.sqrt(np.maximum(shared[0] * shared[1], 0))
    usable = enough & (norms > 1e-9)
    return float((correlation[usable] / norms[usable]).max(initial=0.0).clip(max=1.0))


def coarse_mel(audio: Audio) -> Array:
    """(80, F) log-mel at 16 kHz of the first take, at -23 LUFS: what ``memorisation`` compares.

    Raises:
        InputError: it is too short for a mel.
    """
    wave = resample(audio.waveform[0].mean(dim=0), audio.sample_rate, SET_MEL.sample_rate)
    return log_mel(level(wave.numpy(), SET_MEL.sample_rate), SET_MEL)
