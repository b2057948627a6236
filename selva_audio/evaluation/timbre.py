"""How far two sounds are apart in mels: cepstra frame by frame, and how bands go together in whole sets.

Letters: M mel bands, F mel frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

Array = NDArray[np.float64]

_CEPSTRA = 13
_GATE = 3.0  # log10 units of magnitude below the loudest band of the clip: 60 dB


@dataclass(frozen=True, slots=True, eq=False)
class Gram:
    """Products of the mel bands of one sound, summed over its frames that are heard.

    Attributes:
        products: (M, M).
        frames: how many were summed.
    """

    products: Array
    frames: int


def mcd(made: Array, real: Array) -> float:
    """Mel-cepstral distortion in dB: 13 cepstra of natural log magnitudes (M, F), without the level.

    The root mean square difference of the two smoothed spectra, averaged over frames, which are not moved
    against each other.
    """
    length = min(made.shape[1], real.shape[1])
    # Cepstra of the power, so that the factor gives decibels.
    difference = 2 * (made[:, :length] - real[:, :length])
    cepstra = dct(difference, type=2, axis=0)[1 : _CEPSTRA + 1] / (2 * len(difference))
    frames = 10 * math.sqrt(2) / math.log(10) * np.linalg.norm(cepstra, axis=0)
    return float(frames.mean())


def mel_gram(mel: Array, std: Array, *, base: float = 10.0) -> Gram:
    """Gram matrix of a log-mel (M, F) in units of ``std`` (M,), each band without its mean over time.

    With the means, the matrix would mostly repeat them (FINETUNING 14), and ``ltas_distance`` tells those.
    Frames and bands 60 dB and more below the loudest count as silence, and silent frames are left out;
    ``base`` is that of the logarithm.
    """
    lowest = mel.max() - _GATE / math.log10(base)
    heard = np.maximum(mel[:, mel.max(axis=0) >= lowest], lowest) / std[:, None]
    centred = heard - heard.mean(axis=1, keepdims=True)
    return Gram(centred @ centred.T, centred.shape[1])


def mel_gram_distance(made: Sequence[Gram], real: Sequence[Gram]) -> float:
    """Frobenius norm of the difference of the mean Gram matrices of two sets, which need not be paired."""
    first, second = (
        np.sum([each.products for each in grams], axis=0) / sum(each.frames for each in grams)
        for grams in (made, real)
    )
    return float(np.linalg.norm(first - second))
