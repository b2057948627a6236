"""Constant-Q transform: bins a fixed part of an octave apart, each seen through a window as long as it needs.

The octaves are computed one after another from the top, the signal at half the rate for each. The scale, and
a small lead of the lower octaves, are those of the transform that published discriminators were trained
with. Pure functions of a waveform, in float32.

Letters: B batch, L samples, K bins, F frames.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

LOWEST_HZ = 32.703  # the note C1
_HALVING_TAPS = 127
_LEAD = 0.25  # samples that each halving looks ahead, by the even number of taps of the filter it is to equal
_SHAPE = 9.0


def constant_q(
    waveform: Tensor, sample_rate: float, hop: int, *, bins_per_octave: int, num_octaves: int
) -> Tensor:
    """Complex transform from C1 on; differentiable.

    Args:
        waveform: (B, L).
        sample_rate: hertz.
        hop: samples between frames.
        bins_per_octave: how many.
        num_octaves: how many; all of them under half the sample rate.

    Returns:
        (B, K, F) complex64, F = L // hop + 1. The window of a bin sums up to the square root of its length in
        samples at twice the rate.

    Source: C. Schörkhuber and A. Klapuri, Constant-Q transform toolbox for music processing (2010). Against
    the transform of nnAudio 0.3.4 at twice the rate, chirp and noise differ by about 1 %.
    """
    signal, rate, step, missing = waveform.float()[:, None], sample_rate, hop, 0
    octaves: list[Tensor] = []
    for octave in reversed(range(num_octaves)):
        lead = _LEAD * (2**missing - 1)
        kernels = torch.tensor(
            _kernels(rate, 2 * sample_rate, octave, bins_per_octave, lead), device=waveform.device
        )
        parts = functional.conv1d(signal, kernels[:, None], stride=step, padding=kernels.shape[1] // 2)
        octaves.insert(0, torch.complex(parts[:, :bins_per_octave], parts[:, bins_per_octave:]))
        if step % 2:
            missing += 1  # frames are as close as samples: longer windows do the same
        elif octave:
            signal, rate, step = _halved(signal), rate / 2, step // 2
    frames = min(waveform.shape[1] // hop + 1, *(part.shape[2] for part in octaves))
    return torch.cat([part[..., :frames] for part in octaves], dim=1)


@lru_cache(maxsize=128)
def _kernels(
    rate: float, length_rate: float, octave: int, bins_per_octave: int, lead: float
) -> NDArray[np.float32]:
    """(2 K, taps) real parts, then imaginary ones, of the windows of an octave at a rate, ``lead`` ahead."""
    quality = 1 / (2 ** (1 / bins_per_octave) - 1)
    frequencies = LOWEST_HZ * 2 ** (octave + np.arange(bins_per_octave) / bins_per_octave)
    lengths = quality * rate / frequencies
    half = int(np.ceil(lengths.max() / 2 + lead)) + 1
    times = np.arange(-half, half + 1) - lead
    kernels = []
    for frequency, length in zip(frequencies, lengths, strict=True):
        count = np.ceil(length)
        window = np.where(np.abs(times) < count / 2, 0.5 + 0.5 * np.cos(2 * np.pi * times / count), 0.0)
        turning = np.exp(-2j * np.pi * frequency / rate * times)
        kernels.append(np.sqrt(length * length_rate / rate) * window / window.sum() * turning)
    values = np.stack(kernels)
    return np.concatenate((values.real, values.imag)).astype(np.float32)


def _halved(signal: Tensor) -> Tensor:
    """(B, 1, L) at half the rate."""
    taps = torch.tensor(_halving_filter(), device=signal.device)
    return functional.conv1d(signal, taps[None, None], stride=2, padding=_HALVING_TAPS // 2)


@lru_cache(maxsize=1)
def _halving_filter() -> NDArray[np.float32]:
    times = np.arange(_HALVING_TAPS) - _HALVING_TAPS // 2 - _LEAD
    edge = _HALVING_TAPS / 2 + 1
    window = np.i0(_SHAPE * np.sqrt(1 - (times / edge) ** 2))
    taps = window * np.sinc(times / 2)
    values: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return values
