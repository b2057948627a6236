"""Longer or shorter at the same pitch, higher or lower at the same length: a phase vocoder.

Letters: C channels, L samples, K frequency bins.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import signal
from torch import Tensor

from ..progress import Progress, ProgressFn, ignore_progress, subtask
from .audio import resample

_WINDOW_SECONDS = 0.046
_OVERLAP = 4
# Growth of a frame's energy, to the one before, that counts as an attack.
_ATTACK = 4.0
_REPORT_EVERY = 64

Spectrum = NDArray[np.complex128]


def shift_pitch(
    waveform: Tensor, sample_rate: int, semitones: float, *, on_progress: ProgressFn = ignore_progress
) -> Tensor:
    """Raise or lower the pitch; length and the times of events stay.

    Args:
        waveform: (C, L) float32.
        sample_rate: hertz.
        semitones: twelve are one octave; 0 gives ``waveform`` itself.
        on_progress: progress and cancel.
    """
    if semitones == 0:
        return waveform
    factor = 2 ** (semitones / 12)
    longer = stretch_time(waveform, sample_rate, factor, on_progress=subtask(on_progress, 0, 0.9))
    shifted = resample(longer, round(sample_rate * factor), sample_rate)
    length = waveform.shape[-1]
    on_progress(Progress("shifting", 1, 1))
    return torch.nn.functional.pad(shifted[:, :length], (0, max(length - shifted.shape[-1], 0)))


def stretch_time(
    waveform: Tensor, sample_rate: int, factor: float, *, on_progress: ProgressFn = ignore_progress
) -> Tensor:
    """Make a sound ``factor`` times as long at the same pitch.

    Phases are carried on at spectral peaks, and what is around a peak turns with it; at attacks they are
    taken as they are, which keeps those sharp. All channels turn alike, which keeps the stereo picture.

    Args:
        waveform: (C, L) float32.
        sample_rate: hertz.
        factor: new length over old; 1 gives ``waveform`` itself.
        on_progress: progress and cancel.

    Returns:
        (C, round(L * factor)).

    Source: Laroche and Dolson, IEEE Trans. Speech Audio Proc. 7(3), 1999, identity phase locking.
    """
    if factor == 1:
        return waveform
    size = 2 ** max(round(math.log2(_WINDOW_SECONDS * sample_rate)), 6)
    hop = size // _OVERLAP
    length = round(waveform.shape[-1] * factor)
    window = signal.windows.hann(size, sym=False)
    # One window of silence before, for the frame that lies a hop before the first; two after.
    padded = np.pad(waveform.double().numpy(), ((0, 0), (size, 2 * size)))
    result = np.zeros((len(padded), length + 2 * size))
    weight = np.zeros(length + 2 * size)
    turn = np.zeros(size // 2 + 1)
    last: Spectrum | None = None
    count = -(-(length + size) // hop)
    for place in range(count):
        if place % _REPORT_EVERY == 0:
            on_progress(Progress("stretching", place, count))
        begin = place * hop
        # Centre of the frame, in the result counted from its padding, and where that is in the sound.
        time = min(max(round((begin - size / 2) / factor + size / 2), 0), waveform.shape[-1] + size)
        here = _spectrum(padded, time, window)
        if last is not None:
            before = _spectrum(padded, max(time - hop, 0), window)
            turn = _next_turn(turn, last, before, here)
        result[:, begin : begin + size] += np.fft.irfft(here * np.exp(1j * turn)) * window
        weight[begin : begin + size] += window**2
        last = here
    middle = slice(size, size + length)
    return torch.from_numpy(result[:, middle] / np.maximum(weight[middle], 1e-3)).float()


def _spectrum(padded: NDArray[np.float64], begin: int, window: NDArray[np.float64]) -> Spectrum:
    found: Spectrum = np.fft.rfft(padded[:, begin : begin + len(window)] * window)
    return found


def _next_turn(
    turn: NDArray[np.float64], last: Spectrum, before: Spectrum, here: Spectrum
) -> NDArray[np.float64]:
    """(K,) angle by which every bin of the next frame is turned.

    Args:
        turn: of the frame before.
        last: (C, K) the frame before, as it was in the sound.
        before: (C, K) the frame one hop earlier in the sound than ``here``.
        here: (C, K) the next frame.
    """
    if float(np.square(np.abs(here)).sum()) > _ATTACK * float(np.square(np.abs(before)).sum()):
        return np.zeros_like(turn)
    bins = np.arange(len(turn))
    loudest = np.abs(here).argmax(axis=0)
    carried = turn + np.angle(last[loudest, bins] * np.conj(before[loudest, bins]))
    magnitude = np.abs(here).max(axis=0)
    peaks, _ = signal.find_peaks(np.pad(magnitude, 2, mode="constant"), distance=2)
    peaks = peaks - 2
    peaks = peaks[(peaks >= 0) & (peaks < len(turn))]
    if not len(peaks):
        return np.asarray(carried)
    borders = (peaks[1:] + peaks[:-1] + 1) // 2
    return np.asarray(carried[peaks[np.searchsorted(borders, bins, side="right")]])
