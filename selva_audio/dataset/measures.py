"""Measurements on one sound by which a data set is judged.

Letters: C channels, L samples.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from ..media.loudness import BLOCK_SECONDS, block_levels

Wave = NDArray[np.float32]
Levels = NDArray[np.float64]

# Neighbouring samples of exactly one value near the peak: what is left of a wave cut off at a level.
_FLAT_RUN, _LEAST_PEAK = 4, 0.25
# A codec or an upsampling ends the spectrum like a wall: decibels from below to above it.
_WALL_DB, _LEAST_WALL_HZ = 35.0, 3000.0
# What is further below the loudest block is taken for silence, which is no noise.
_RANGE_DB = 60.0
_LEAST_BLOCKS = 16
# A background holds its level: this share of the blocks lies within so many decibels of the quietest.
_FLOOR_DB, _FLOOR_SHARE = 3.0, 0.3
# A sound that swells keeps its colour; pauses between events have that of the background.
_LEAST_COLOUR_DB, _COLOUR_RANGE_DB = 5.0, 40.0
_COLOUR_BANDS = 24


def silence_fraction(wave: Wave, sample_rate: int, *, under_dbfs: float) -> float:
    """Share of the blocks of 50 ms that are under a level."""
    return float((block_levels(wave, sample_rate) < under_dbfs).mean())


def flat_samples(wave: Wave) -> int:
    """Samples in runs of equal neighbours at the peak, over all channels."""
    count = 0
    for channel in np.abs(wave):
        peak = float(channel.max())
        if peak < _LEAST_PEAK:
            continue
        same = (np.diff(channel) == 0) & (channel[1:] >= 0.98 * peak)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], same.astype(np.int8), [0]))))
        runs = edges[1::2] - edges[::2] + 1
        count += int(runs[runs >= _FLAT_RUN].sum())
    return count


def dc_dbfs(wave: Wave) -> float:
    """Level of the largest constant part of a channel, dBFS."""
    largest = float(np.abs(wave.mean(axis=1, dtype=np.float64)).max())
    return 20 * float(np.log10(max(largest, 1e-10)))


def band_limit(wave: NDArray[np.float32], sample_rate: int) -> float | None:
    """Hertz at which a wide-band spectrum ends like a wall; None where it does not.

    A sound that has no more to say up there fades out, or stands in single lines with gaps between; only
    a filter ends a dense spectrum within a few hundred hertz.

    Args:
        wave: (L,).
        sample_rate: hertz.
    """
    size = 2048
    if len(wave) < 4 * size or sample_rate < 4 * _LEAST_WALL_HZ:
        return None
    hertz, power = signal.welch(wave.astype(np.float64), sample_rate, nperseg=size)
    levels = 10 * np.log10(power + 1e-20)
    step = hertz[1]
    reach, gap = round(1200 / step), round(200 / step)
    best: tuple[float, float] | None = None
    for place in range(round(_LEAST_WALL_HZ / step), len(levels) - round(600 / step)):
        below, above = levels[place - gap - reach : place - gap], levels[place + gap :]
        drop = float(np.percentile(below, 10) - above.max())
        if drop > _WALL_DB and (best is None or drop > best[0]):
            best = (drop, float(hertz[place]))
    return best[1] if best is not None else None


def background_snr(wave: Wave, sample_rate: int) -> float | None:
    """Decibels from the background in the pauses of a sound to its loud parts.

    None where no background can be told from the sound: in steady ones such as rain and engines, where
    nothing pauses; in ones that swell without changing colour; and where pauses are silent.

    Args:
        wave: (C, L).
        sample_rate: hertz.
    """
    levels = block_levels(wave, sample_rate)
    loud = levels > levels.max() - _RANGE_DB
    # A block beside silence is partly silent itself.
    heard = loud & np.append(True, loud[:-1]) & np.append(loud[1:], True)
    if int(heard.sum()) < _LEAST_BLOCKS:
        return None
    floor = float(np.percentile(levels[heard], 5))
    quiet = heard & (levels <= floor + _FLOOR_DB)
    top = float(np.percentile(levels[heard], 95))
    if quiet.sum() < _FLOOR_SHARE * heard.sum() or top - floor < 2 * _FLOOR_DB:
        return None
    spectra = _block_spectra(wave, sample_rate, len(levels))
    difference = _colour(spectra[quiet]) - _colour(spectra[heard & (levels >= top - _FLOOR_DB)])
    if float(np.sqrt(np.square(difference).mean())) < _LEAST_COLOUR_DB:
        return None
    return top - float(levels[quiet].mean())


def _block_spectra(wave: Wave, sample_rate: int, count: int) -> Levels:
    """(count, 24) power of every block of 50 ms in bands of equal width in octaves."""
    block = max(round(BLOCK_SECONDS * sample_rate), 1)
    padded = np.pad(wave.astype(np.float64), ((0, 0), (0, max(count * block - wave.shape[1], 0))))
    blocks = padded[:, : count * block].reshape(len(wave), count, block) * signal.windows.hann(block)
    power = np.square(np.abs(np.fft.rfft(blocks))).mean(axis=0)
    hertz = np.fft.rfftfreq(block, 1 / sample_rate)
    edges = np.geomspace(60.0, sample_rate / 2, _COLOUR_BANDS + 1)
    bands = [power[:, (hertz >= low) & (hertz < high)] for low, high in pairwise(edges)]
    return np.stack([band.mean(axis=1) if band.shape[1] else np.zeros(count) for band in bands], axis=1)


def _colour(spectra: Levels) -> Levels:
    """(24,) decibels below the loudest band of the mean, cut at -40."""
    mean = spectra.mean(axis=0)
    levels = 10 * np.log10(np.maximum(mean / max(float(mean.max()), 1e-30), 1e-30))
    return np.asarray(np.maximum(levels, -_COLOUR_RANGE_DB))
