"""What a sound's spectrum is like, and how far two spectra are apart. 0 for equal sounds.

Power is relative to a full-scale sine, with a floor of -100 dB. Functions take one channel (L,).

Letters: L samples, K frequency bins, F frames.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

Wave = NDArray[np.float32]
Array = NDArray[np.float64]

FLOOR = 1e-10
_GATE_DB = 60.0
_HIGH_HZ = 8000.0
# Third octaves around 1 kHz.
_LOWEST, _HIGHEST, _PER_OCTAVE = -15, 14, 3
# Bands this far below the loudest of both spectra are not heard beside it.
_LTAS_RANGE_DB = 60.0
DESCRIPTORS = ("centroid", "bandwidth", "rolloff85", "rolloff95", "flatness", "crest", "zcr")
# Of these, distances are told in octaves; of the others in dB.
IN_HERTZ = ("centroid", "bandwidth", "rolloff85", "rolloff95", "zcr")


def window_of(sample_rate: int) -> tuple[int, int]:
    """Window and hop of the analysis: 2048 and 512 at 32 kHz and more, else 1024 and 256."""
    return (2048, 512) if sample_rate >= 32000 else (1024, 256)


def power_spectrum(waveform: Wave, sample_rate: int) -> Array:
    """(K, F) power of all whole windows; a sound under one window is filled up with silence."""
    size, hop = window_of(sample_rate)
    samples = torch.from_numpy(np.pad(waveform, (0, max(size - len(waveform), 0)))).double()
    window = torch.hann_window(size, dtype=torch.float64)
    spectrum = torch.stft(samples, size, hop, window=window, center=False, return_complex=True)
    return np.asarray((spectrum.abs() * 2 / window.sum()).square().numpy())


def descriptors(waveform: Wave, sample_rate: int) -> dict[str, tuple[float, float]] | None:
    """Median and interquartile range over the frames within 60 dB of the loudest; None for silence.

    ``centroid``, ``bandwidth``, ``rolloff85``, ``rolloff95`` and ``zcr`` (zero crossings per second) in
    hertz; ``flatness`` (geometric over arithmetic mean) and ``crest`` (largest over mean) of the power in dB.
    """
    power = power_spectrum(waveform, sample_rate)
    energy = power.sum(axis=0)
    if not energy.any():
        return None
    heard = energy >= energy.max() * 10 ** (-_GATE_DB / 10)
    power, energy = power[:, heard], energy[heard]
    size, hop = window_of(sample_rate)
    bins = np.fft.rfftfreq(size, 1 / sample_rate)[:, None]
    centroid = (bins * power).sum(axis=0) / energy
    share = np.cumsum(power, axis=0) / energy
    level = power + FLOOR
    mean = level.mean(axis=0)
    values = {
        "centroid": centroid,
        "bandwidth": np.sqrt((np.square(bins - centroid) * power).sum(axis=0) / energy),
        "rolloff85": bins[(share < 0.85).sum(axis=0).clip(max=len(bins) - 1), 0],
        "rolloff95": bins[(share < 0.95).sum(axis=0).clip(max=len(bins) - 1), 0],
        "flatness": 10 * (np.log10(level).mean(axis=0) - np.log10(mean)),
        "crest": 10 * np.log10(level.max(axis=0) / mean),
        "zcr": _zero_crossings(waveform, size, hop)[heard] * sample_rate / size,
    }
    return {name: _median_and_range(each) for name, each in values.items()}


def hf_ratio(waveform: Wave, sample_rate: int) -> float | None:
    """Share of the energy above 8 kHz; None for silence, and at rates that have nothing there."""
    if sample_rate <= 2 * _HIGH_HZ:
        return None
    power = power_spectrum(waveform, sample_rate).sum(axis=1)
    bins = np.fft.rfftfreq(window_of(sample_rate)[0], 1 / sample_rate)
    return float(power[bins > _HIGH_HZ].sum() / power.sum()) if power.any() else None


def spectral_convergence(made: Wave, real: Wave, sample_rate: int) -> float | None:
    """Norm of the difference of magnitudes over the reference's norm; None for a silent reference."""
    first, second = (np.sqrt(power_spectrum(wave, sample_rate)) for wave in (made, real))
    norm = np.linalg.norm(second)
    return float(np.linalg.norm(second - first) / norm) if norm else None


def long_term_spectrum(waveform: Wave, sample_rate: int) -> Array:
    """Mean power over time in each third octave: (bands,)."""
    power = power_spectrum(waveform, sample_rate).mean(axis=1)
    bins = np.fft.rfftfreq(window_of(sample_rate)[0], 1 / sample_rate)
    edges = 1000 * 2 ** ((np.arange(_LOWEST, _HIGHEST + 1) - 0.5) / _PER_OCTAVE)
    bands = [power[(bins >= low) & (bins < high)] for low, high in pairwise(edges)]
    return np.array([band.sum() for band in bands if len(band)])


def ltas_distance(made: Sequence[Array], real: Sequence[Array]) -> float:
    """Difference of the long-term average spectra of two sets: root mean square over third octaves, dB.

    The principal number of "the timbre moved". The sets need not be paired, nor of one size.

    Args:
        made: ``long_term_spectrum`` of each sound.
        real: likewise, at the same rate.
    """
    first, second = (np.mean(spectra, axis=0) for spectra in (made, real))
    floor = max(float(max(first.max(), second.max())) * 10 ** (-_LTAS_RANGE_DB / 10), FLOOR)
    difference = 10 * np.log10(np.maximum(first, floor) / np.maximum(second, floor))
    return float(np.sqrt(np.square(difference).mean()))


def _zero_crossings(waveform: Wave, size: int, hop: int) -> Array:
    """(F,) sign changes in each window."""
    padded = np.pad(waveform, (0, max(size - len(waveform), 0)))
    changes = np.concatenate([[0], np.cumsum(np.signbit(padded[1:]) != np.signbit(padded[:-1]))])
    first = np.arange((len(padded) - size) // hop + 1) * hop
    return np.asarray(changes[first + size - 1] - changes[first], dtype=np.float64)


def _median_and_range(values: Array) -> tuple[float, float]:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float(high - low)
