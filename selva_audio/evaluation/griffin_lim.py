"""Griffin-Lim: the vocoder that needs no training, which a trained one has to beat."""

import numpy as np
import torch
from torch import Tensor

from ..configs import MelConfig
from ..models.mel import mel_filters

_MOMENTUM = 0.99
_UNMIXING_STEPS = 50


@torch.no_grad()
def griffin_lim(mel: Tensor, config: MelConfig, iterations: int = 64) -> Tensor:
    """Waveform (B, F * hop) of a log-mel (B, M, F) in the scale of ``mel_spectrogram``; deterministic.

    Phases start at random under a fixed seed.

    Source: D. Griffin and J. Lim (1984); the momentum is of Perraudin et al. (WASPAA 2013).
    """
    length = mel.shape[-1] * config.hop_length
    padding = (config.n_fft - config.hop_length) // 2
    window = torch.hann_window(config.n_fft)
    magnitude = _magnitude(mel, config)
    phase = torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0)) * 2 * np.pi
    spectrum, previous = torch.polar(magnitude, phase), torch.zeros(())
    for _ in range(iterations):
        wave = _inverse(spectrum, window, config)
        rebuilt = torch.stft(
            wave, config.n_fft, config.hop_length, window=window, center=False, return_complex=True
        )
        moved = rebuilt - _MOMENTUM / (1 + _MOMENTUM) * previous
        spectrum, previous = torch.polar(magnitude, moved.angle()), rebuilt
    return _inverse(spectrum, window, config)[:, padding : padding + length]


def _magnitude(mel: Tensor, config: MelConfig) -> Tensor:
    """Least-squares magnitudes, clipped and improved by multiplicative updates so that none is negative."""
    filters = torch.from_numpy(np.array(mel_filters(config)))
    target = 10**mel if config.log_base == "10" else mel.exp()
    magnitude: Tensor = (torch.linalg.pinv(filters) @ target).clamp(min=1e-6)
    for _ in range(_UNMIXING_STEPS):
        magnitude = magnitude * (filters.T @ target) / (filters.T @ (filters @ magnitude)).clamp(min=1e-9)
    return magnitude


def _inverse(spectrum: Tensor, window: Tensor, config: MelConfig) -> Tensor:
    """Overlap-add without centring, so that frames lie where ``mel_spectrogram`` puts them."""
    frames = torch.fft.irfft(spectrum, config.n_fft, dim=1) * window[:, None]
    size = (1, (spectrum.shape[-1] - 1) * config.hop_length + config.n_fft)
    fold = {"kernel_size": (1, config.n_fft), "stride": (1, config.hop_length)}
    wave = torch.nn.functional.fold(frames, size, **fold)[:, 0, 0]
    weights = window.square()[None, :, None].expand(1, -1, spectrum.shape[-1])
    result: Tensor = wave / torch.nn.functional.fold(weights, size, **fold)[:, 0, 0].clamp(min=1e-3)
    return result
