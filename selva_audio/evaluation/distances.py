"""How far a sound is from its reference; 0 for equal sounds. Differentiable, so that a trainer can use them.

Letters: B batch, L samples, M mel bands, F mel frames.
"""

import torch
from torch import Tensor

from ..configs import MelConfig
from ..errors import InputError
from ..models.mel import mel_spectrogram

RESOLUTIONS = ((2048, 512), (1024, 256), (512, 128), (128, 32))
# Magnitudes of 1 are a full-scale sine; what is under -80 dB counts as silence.
STFT_FLOOR = 1e-4


def log_mel_l1(made: Tensor, real: Tensor, config: MelConfig) -> Tensor:
    """Mean absolute difference of log-mels, in the logarithm of ``config``: a scalar.

    Args:
        made: (B, L) at ``config.sample_rate`` hertz.
        real: (B, L).
        config: the analysis; its floor of 1e-5 makes silence equal silence.

    Raises:
        InputError: the shapes differ.
    """
    _check_pair(made, real)
    return (mel_spectrogram(made, config) - mel_spectrogram(real, config)).abs().mean()


def multi_resolution_stft(
    made: Tensor, real: Tensor, resolutions: tuple[tuple[int, int], ...] = RESOLUTIONS
) -> Tensor:
    """Spectral convergence plus mean absolute log10 magnitude difference, over all resolutions: a scalar.

    Magnitudes are floored smoothly at ``STFT_FLOOR``, so that differences 80 dB below full scale count for
    next to nothing in either term; a silent reference has the norm of the floor, and the convergence of a
    sound against it is large but finite.

    Args:
        made: (B, L) in [-1, 1].
        real: (B, L).
        resolutions: pairs of window and hop, in samples.

    Raises:
        InputError: the shapes differ, or L is not longer than half the largest window.

    Source: Parallel WaveGAN (arXiv:1910.11480) section 2.2; base 10 and the floor are ours.
    """
    _check_pair(made, real)
    longest = max(size for size, _ in resolutions)
    if made.shape[1] <= longest // 2:
        raise InputError(
            f"{made.shape[1]} samples are too short to compare: {longest // 2 + 1} or more are needed."
        )
    terms = []
    for size, hop in resolutions:
        first, second = (stft_magnitude(wave, size, hop) for wave in (made, real))
        convergence = torch.linalg.vector_norm(second - first) / torch.linalg.vector_norm(second)
        terms.append(convergence + (first.log10() - second.log10()).abs().mean())
    return torch.stack(terms).mean()


def stft_magnitude(waveform: Tensor, size: int, hop: int) -> Tensor:
    """(B, L) -> (B, size // 2 + 1, frames): 1 is a full-scale sine, never under ``STFT_FLOOR``."""
    window = torch.hann_window(size, device=waveform.device)
    spectrum = torch.stft(waveform.float(), size, hop, window=window, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    return (power / (window.sum() / 2).square() + STFT_FLOOR**2).sqrt()


def _check_pair(made: Tensor, real: Tensor) -> None:
    if made.ndim != 2 or made.shape != real.shape:
        raise InputError(
            f"Two sounds of one shape (B, L) are compared, not {tuple(made.shape)} and {tuple(real.shape)}. "
            "Resample and cut them first."
        )
