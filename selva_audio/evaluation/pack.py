"""The numbers of the public ComfyUI pack under their names, so that its summaries and ours compare.

Window and hop are 2048 and 512 at any rate. "Cepstral" is the pack's word: its distortion is of mels.

Source: COMPAT 3.9.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ..configs import MelConfig
from ..models.mel import mel_spectrogram

Wave = NDArray[np.float32]
Array = NDArray[np.float64]

_SIZE, _HOP = 2048, 512
_HIGH_HZ = 4000.0
_EPSILON = 1e-10
_BANDS = 80


def pack_metrics(waveform: Wave, sample_rate: int) -> dict[str, float | None]:
    """Of one sound (L,): of its mean spectrum over time, and how its level varies; None for silence."""
    magnitude = _magnitude(waveform)
    names = (
        "hf_energy_ratio",
        "spectral_centroid_hz",
        "spectral_rolloff_hz",
        "spectral_flatness",
        "temporal_variance",
    )
    power = np.square(magnitude).mean(axis=1)
    total = float(power.sum())
    if total == 0:
        return dict.fromkeys(names)
    bins = np.fft.rfftfreq(_SIZE, 1 / sample_rate)
    level = np.sqrt(np.square(magnitude).mean(axis=0))
    rolloff = min(int((np.cumsum(power) < 0.85 * total).sum()), len(bins) - 1)
    geometric = math.exp(float(np.log(power + _EPSILON).mean()))
    values = (
        float(power[bins >= _HIGH_HZ].sum()) / total,
        float((bins * power).sum()) / total,
        float(bins[rolloff]),
        geometric / (float(power.mean()) + _EPSILON),
        float(level.std() / level.mean()),
    )
    return dict(zip(names, values, strict=True))


def pack_distances(made: Wave, real: Wave, sample_rate: int) -> dict[str, float | None]:
    """Of a sound and its recording, both (L,): differences over all frames, and how bands go together."""
    first, second = (20 * np.log10(_magnitude(wave) + _EPSILON) for wave in (made, real))
    mels = [_mel(wave, sample_rate) for wave in (made, real)]
    centred = [mel - mel.mean(axis=1, keepdims=True) for mel in mels]
    norms = [np.linalg.norm(each, axis=1) for each in centred]
    alive = (norms[0] > 0) & (norms[1] > 0)
    products = (centred[0] * centred[1]).sum(axis=1)[alive] / (norms[0] * norms[1])[alive]
    frames = np.sqrt(np.square(mels[0] - mels[1]).mean(axis=0))
    return {
        "log_spectral_distance_db": float(np.sqrt(np.square(first - second).mean())),
        "mel_cepstral_distortion": float(10 / math.log(10) * frames.mean()),
        "per_band_correlation": float(products.mean()) if len(products) else None,
    }


def _magnitude(waveform: Wave) -> Array:
    """(K, F)."""
    samples = torch.from_numpy(np.pad(waveform, (0, max(_SIZE - len(waveform), 0)))).double()
    window = torch.hann_window(_SIZE, dtype=torch.float64)
    spectrum = torch.stft(samples, _SIZE, _HOP, window=window, center=False, return_complex=True)
    return np.asarray(spectrum.abs().numpy())


def _mel(waveform: Wave, sample_rate: int) -> Array:
    """(80, F) natural log of mel magnitudes."""
    config = MelConfig(sample_rate, _SIZE, _HOP, _BANDS, fmin=0, fmax=sample_rate / 2, log_base="e")
    padded = np.pad(waveform, (0, max(_SIZE - len(waveform), 0)))
    return np.asarray(mel_spectrogram(torch.from_numpy(padded)[None], config)[0].double().numpy())
