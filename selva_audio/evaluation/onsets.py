"""Onsets heard in a sound, and how they match the ones that truly happened.

Letters: L samples, M mel bands, F mel frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..configs import MelConfig
from ..errors import InputError
from ..media.audio import resample
from ..models.mel import mel_spectrogram

Array = NDArray[np.float64]

# Finer in time than the models' own analysis; the same rate, so that codecs above it do not matter.
ANALYSIS = MelConfig(16000, n_fft=512, hop_length=128, num_mels=64, fmin=0, fmax=8000, log_base="10")
_FRAME = ANALYSIS.hop_length / ANALYSIS.sample_rate
# Levels in log10 of mel magnitude. White noise of -60 dBFS stays under the floor in every band.
_FLOOR = -2.3
# What is further below the loudest band of the clip is codec noise, reverberation or hiss.
_RANGE = 2.6
# A rise is taken over this many frames: a window that slides over an attack shows it little by little.
_LAG = 3
# A steady tone breaks off at the mirrored end of the clip, which looks like a click.
_EDGE = 2
_THRESHOLD = 0.2
# Of the largest rise in the clip: impacts of one source are seldom further apart than this.
_RELATIVE = 0.15
_SEPARATION = 0.06
# From the start of the frame with the largest rise to the attack: median over true stems of the val split.
_BIAS = 0.002


@dataclass(frozen=True, slots=True)
class Match:
    """How detected onsets match true ones.

    Attributes:
        matched: pairs of the largest one-to-one matching.
        detected: detected onsets in all.
        true: true onsets in all.
        offsets: (matched) detected minus true time of each pair, seconds.
    """

    matched: int
    detected: int
    true: int
    offsets: tuple[float, ...] = ()

    @property
    def precision(self) -> float:
        """Matched share of the detected; 0 where nothing was detected."""
        return self.matched / self.detected if self.detected else 0.0

    @property
    def recall(self) -> float:
        """Matched share of the true; 0 where there are none."""
        return self.matched / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where either list is empty, as mir_eval has it."""
        return 2 * self.matched / (self.detected + self.true) if self.matched else 0.0

    @property
    def median_offset(self) -> float:
        """Median signed offset in seconds, late is positive; NaN without a pair."""
        return float(np.median(self.offsets)) if self.offsets else float("nan")


def detect_onsets(waveform: NDArray[np.float32], sample_rate: int) -> Array:
    """Seconds at which a sound suddenly rises, in ascending order.

    The level of the sound as a whole does not matter, until it falls under an absolute floor: silence and
    noise of -60 dBFS have no onsets.

    Args:
        waveform: (L,) in [-1, 1].
        sample_rate: hertz; other rates than 16 kHz are resampled.

    Raises:
        InputError: not (L,).
    """
    samples = np.asarray(waveform, dtype=np.float32)
    if samples.ndim != 1:
        raise InputError(f"Onsets are found in one channel (L,), not in {samples.shape}. Mix it down first.")
    wave = resample(torch.from_numpy(samples), sample_rate, ANALYSIS.sample_rate)
    if len(wave) < ANALYSIS.n_fft:
        return np.zeros(0)
    return _peaks(_rises(mel_spectrogram(wave[None], ANALYSIS)[0].numpy().astype(np.float64)))


def match_onsets(detected: Array, true: Array, window: float) -> Match:
    """Largest one-to-one matching of onsets at most ``window`` seconds apart, the edge included.

    In ascending order, the earliest possible partner is always a best one: all windows are equally wide.

    Source: mir_eval (Raffel et al., ISMIR 2014), ``onset.f_measure``, to which a test holds this.
    """
    found, wanted = np.sort(detected), np.sort(true)
    offsets, place = [], 0
    for time in found:
        while place < len(wanted) and wanted[place] < time - window:
            place += 1
        if place < len(wanted) and wanted[place] <= time + window:
            offsets.append(float(time - wanted[place]))
            place += 1
    return Match(len(offsets), len(found), len(wanted), tuple(offsets))


def total(matches: Sequence[Match]) -> Match:
    """The counts of all clips together, so that every onset weighs the same."""
    return Match(
        sum(each.matched for each in matches),
        sum(each.detected for each in matches),
        sum(each.true for each in matches),
        tuple(offset for each in matches for offset in each.offsets),
    )


def _rises(mel: Array) -> Array:
    """(F,) mean rise over the bands of a log-mel (M, F), above the floor."""
    levels = np.maximum(mel, float(mel.max()) - _RANGE)
    before = np.concatenate([np.repeat(levels[:, :1], _LAG, axis=1), levels[:, :-_LAG]], axis=1)
    rise: Array = np.maximum(levels - before, 0).mean(axis=0)
    rise[-_EDGE:] = 0
    return np.where(mel.max(axis=0) > _FLOOR, rise, 0.0)


def _peaks(rise: Array) -> Array:
    """Seconds of the peaks of a curve (F,), to a fraction of a frame."""
    reach = round(_SEPARATION / _FRAME)
    threshold = max(_THRESHOLD, _RELATIVE * float(rise.max(initial=0.0)))
    padded = np.pad(rise, reach)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    peaks = np.flatnonzero((rise >= windows.max(axis=1)) & (rise > threshold))
    before, top, after = (padded[peaks + reach + shift] for shift in (-1, 0, 1))
    curve = before - 2 * top + after
    shift = np.where(curve < 0, 0.5 * (before - after) / np.where(curve < 0, curve, 1), 0.0)
    return np.asarray((peaks + shift) * _FRAME + _BIAS)
