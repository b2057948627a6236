"""Log-mel analysis in the scale the VAE and the vocoder were trained on.

Pure functions of a waveform and a ``MelConfig``: no module owns a mel, so nothing here is moved, cast or
trained with one. Everything is float32, whatever the caller computes in.

Letters: B batch, L samples, M mel bands, F mel frames, K frequency bins (``n_fft // 2 + 1``).
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..configs import MelConfig
from ..errors import InputError

FLOOR = 1e-5
_POWER_FLOOR = 1e-9
_LINEAR_HZ_PER_MEL = 200 / 3
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27


def mel_spectrogram(waveform: Tensor, config: MelConfig) -> Tensor:
    """Log-mel spectrogram; differentiable.

    Args:
        waveform: (B, L) at ``config.sample_rate`` hertz; values beyond [-1, 1] are clamped.
        config: filter bank, window and logarithm.

    Returns:
        (B, M, F) float32, F = L // hop: log magnitude (not power) floored at 1e-5, in the logarithm of
        ``config.log_base``.

    Raises:
        InputError: not (B, L), or too short for the reflected edges.

    Source: SPEC 14.
    """
    padding = (config.n_fft - config.hop_length) // 2
    if waveform.ndim != 2:
        raise InputError(f"A mel is made from a waveform (B, L), not {tuple(waveform.shape)}.")
    if waveform.shape[1] <= padding:
        raise InputError(
            f"A waveform of {waveform.shape[1]} samples is too short for a mel: at "
            f"{config.sample_rate} Hz it needs {padding + 1} or more. Use a longer sound."
        )
    device = waveform.device
    with torch.autocast(device.type, enabled=False):  # a bf16 product of the magnitudes loses the quiet bands
        padded = functional.pad(waveform.float().clamp(-1, 1), (padding, padding), mode="reflect")
        window = torch.hann_window(config.n_fft, device=device)
        spectrum = torch.stft(
            padded, config.n_fft, config.hop_length, window=window, center=False, return_complex=True
        )
        magnitude = torch.sqrt(spectrum.real.square() + spectrum.imag.square() + _POWER_FLOOR)
        filters = torch.tensor(mel_filters(config), device=device)
        mel = (filters @ magnitude).clamp(min=FLOOR)
        return mel.log10() if config.log_base == "10" else mel.log()


@lru_cache
def mel_filters(config: MelConfig) -> NDArray[np.float32]:
    """(M, K) triangular filters on the Slaney mel scale, each of unit area in hertz; read-only.

    The public fine-tuning pack used the HTK scale without the area normalisation here, which made every
    log-mel 28 to 55 dB too large (COMPAT 5.1); a test pins these to librosa's.

    Source: M. Slaney, Auditory Toolbox (1998); SPEC 14.3.
    """
    edges = _band_edges(config)
    bins = np.arange(config.n_fft // 2 + 1) * config.sample_rate / config.n_fft
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    filters = (triangles * 2 / (upper - lower)).astype(np.float32)
    filters.flags.writeable = False
    return filters


def mel_frequencies(config: MelConfig) -> NDArray[np.float64]:
    """(M,) centre of each band in hertz."""
    return _band_edges(config)[1:-1]


def _band_edges(config: MelConfig) -> NDArray[np.float64]:
    """(M + 2,) hertz, evenly spaced in mel: band m reaches from edge m to edge m + 2."""
    low, high = (_hz_to_mel(frequency) for frequency in (config.fmin, config.fmax))
    mels = np.linspace(low, high, config.num_mels + 2)
    logarithmic = _LOG_START_HZ * np.exp(_LOG_STEP * (mels - _LOG_START_MEL))
    return np.where(mels < _LOG_START_MEL, mels * _LINEAR_HZ_PER_MEL, logarithmic)


def _hz_to_mel(frequency: float) -> float:
    if frequency < _LOG_START_HZ:
        return frequency / _LINEAR_HZ_PER_MEL
    return float(_LOG_START_MEL + np.log(frequency / _LOG_START_HZ) / _LOG_STEP)
