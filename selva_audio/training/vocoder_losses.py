"""How far a vocoder's waveform is from the recording; every distance is the mean of absolute differences.

Letters: B batch, L samples, K frequency bins, F frames, M mel bands.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..configs import MelConfig
from ..models.mel import mel_spectrogram

# FFT size, hop and window in samples.
RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)
_BANDS = (5, 10, 20, 40, 80, 160, 320)
_POWER_FLOOR = 1e-9


def mel_distance(made: Tensor, real: Tensor, config: MelConfig) -> Tensor:
    """Of the log-mels of (B, L), in the model's own scale."""
    return (mel_spectrogram(made, config) - mel_spectrogram(real, config)).abs().mean()


def multi_mel_distance(made: Tensor, real: Tensor, sample_rate: int) -> Tensor:
    """Of log10-mels of seven windows, a quarter of a window apart; their mean.

    Source: DAC (arXiv:2306.06546) section 3.3, which BigVGAN v2 is trained with.
    """
    parts = [
        mel_distance(made, real, MelConfig(sample_rate, window, window // 4, bands, 0, sample_rate / 2, "10"))
        for window, bands in zip(WINDOWS, _BANDS, strict=True)
    ]
    return torch.stack(parts).mean()


def stft_distance(made: Tensor, real: Tensor) -> Tensor:
    """Of magnitudes at three resolutions; their mean."""
    parts = [(_magnitude(first) - _magnitude(second)).abs().mean() for first, second in _spectra(made, real)]
    return torch.stack(parts).mean()


def phase_distance(made: Tensor, real: Tensor) -> Tensor:
    """Of real parts, imaginary parts and magnitudes at three resolutions; the mean of the nine."""
    parts = []
    for first, second in _spectra(made, real):
        parts += [
            (first.real - second.real).abs().mean(),
            (first.imag - second.imag).abs().mean(),
            (_magnitude(first) - _magnitude(second)).abs().mean(),
        ]
    return torch.stack(parts).mean()


def feature_distance(made: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Of the outputs of a discriminator's layers; their mean.

    Source: MelGAN (arXiv:1910.06711) section 2.2, feature matching.
    """
    return torch.stack([(one - two).abs().mean() for one, two in zip(made, real, strict=True)]).mean()


def _spectra(made: Tensor, real: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(_spectrum(made, *each), _spectrum(real, *each)) for each in RESOLUTIONS]


def _spectrum(waveform: Tensor, n_fft: int, hop: int, length: int) -> Tensor:
    """(B, K, F) complex."""
    window = torch.hann_window(length, device=waveform.device)
    return torch.stft(waveform, n_fft, hop, length, window, return_complex=True)


def _magnitude(spectrum: Tensor) -> Tensor:
    return (spectrum.real.square() + spectrum.imag.square() + _POWER_FLOOR).sqrt()
