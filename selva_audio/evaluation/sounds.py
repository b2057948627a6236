"""All metrics of one sound, alone and against its recording, and what the metrics of sets need of it.

Letters: L samples, M mel bands, F mel frames, W windows of one second.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..configs import MelConfig, get_config
from ..media.audio import resample
from ..media.loudness import GATE_SECONDS, lufs, rms_dbfs
from ..models.mel import mel_spectrogram
from ..records import Audio
from .clips import measure
from .comparison import spectral_distances
from .distances import log_mel_l1
from .levels import sample_metrics
from .pack import pack_distances, pack_metrics
from .spectra import (
    descriptors,
    hf_ratio,
    long_term_spectrum,
    ltas_distance,
    spectral_convergence,
)
from .timbre import Gram, mcd, mel_gram, mel_gram_distance
from .timing import timing_metrics

Wave = NDArray[np.float32]
Array = NDArray[np.float64]
Metrics = dict[str, float | None]

TARGET_LUFS = -23.0
# Statistics of sets are of this mel, whatever the variant.
SET_MEL = get_config("small_16k").mel
_HEARD = 3.0  # log10 units under the loudest band of the clip: 60 dB
_WINDOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """How a model sees sound: its mel, and each band's deviation over what its VAE was trained on.

    Attributes:
        mel: analysis at the model's rate.
        std: (M,).
    """

    mel: MelConfig
    std: Array


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """One sound at -23 LUFS and what is known of it.

    Attributes:
        waveform: (L,) at the rate of ``scale``.
        scale: the model's.
        metrics: of the sound alone.
        spectrum: long-term power in third octaves.
        gram: of its standardised mel.
        mel: (80, F) at 16 kHz.
        windows: (W, 80) mean log-mel of each second, of its frames that are heard.
    """

    waveform: Wave
    scale: Scale
    metrics: Metrics
    spectrum: Array
    gram: Gram
    mel: Array
    windows: Array


def analyse(audio: Audio, scale: Scale) -> Sound:
    """Everything about the first take of ``audio``, mixed to one channel at the model's rate.

    Raises:
        InputError: it is too short for a mel.
    """
    rate = scale.mel.sample_rate
    wave = resample(audio.waveform[0].mean(dim=0), audio.sample_rate, rate)
    raw = wave.numpy()
    alone = measure(Audio(wave[None, None], rate))
    metrics: Metrics = {
        "loudness_lufs": alone.loudness_lufs,
        "true_peak_dbtp": alone.true_peak_dbtp,
        "onsets": float(alone.onsets),
        **sample_metrics(raw, rate),
    }
    levelled = level(raw, rate)
    shape = descriptors(levelled, rate)
    for name, (middle, spread) in (shape or {}).items():
        metrics |= {name: middle, f"{name}_iqr": spread}
    metrics |= {"hf_ratio": hf_ratio(levelled, rate), **pack_metrics(levelled, rate)}
    own = log_mel(levelled, scale.mel)
    base = 10.0 if scale.mel.log_base == "10" else math.e
    coarse = log_mel(resample(torch.from_numpy(levelled), rate, SET_MEL.sample_rate).numpy(), SET_MEL)
    return Sound(
        levelled,
        scale,
        metrics,
        long_term_spectrum(levelled, rate),
        mel_gram(own, scale.std, base=base),
        coarse,
        _windows(coarse),
    )


def against(made: Sound, real: Sound) -> Metrics:
    """Distances of a sound from its own recording, over the length of the shorter one."""
    scale, rate = made.scale, made.scale.mel.sample_rate
    length = min(len(made.waveform), len(real.waveform))
    first, second = made.waveform[:length], real.waveform[:length]
    pair = [torch.from_numpy(wave)[None] for wave in (first, second)]
    window = replace(scale.mel, n_fft=2048, hop_length=512) if rate >= 32000 else scale.mel
    log = 1.0 if scale.mel.log_base == "e" else math.log(10)
    mels = [log * log_mel(wave, scale.mel) for wave in (first, second)]
    return {
        "lsd": spectral_distances(pair[1], pair[0], window)[0],
        "spectral_convergence": spectral_convergence(first, second, rate),
        "mel_l1": float(log_mel_l1(pair[0], pair[1], scale.mel)),
        "mcd": mcd(mels[0], mels[1]),
        "ltas_distance": ltas_distance([made.spectrum], [real.spectrum]),
        "mel_gram_distance": mel_gram_distance([made.gram], [real.gram]),
        **timing_metrics(first, second, rate),
        **pack_distances(first, second, rate),
    }


def level(waveform: Wave, sample_rate: int) -> Wave:
    """(L,) at -23 LUFS; by RMS where loudness cannot be told, and silence as it is."""
    wave = torch.from_numpy(waveform)[None]
    peak = float(wave.abs().max()) if wave.numel() else 0.0
    if peak == 0:
        return waveform
    wave = wave / peak
    loudness = lufs(wave, sample_rate) if wave.shape[1] >= GATE_SECONDS * sample_rate else -math.inf
    if not math.isfinite(loudness):
        loudness = rms_dbfs(wave)
    gain = 10 ** ((TARGET_LUFS - loudness) / 20)
    return np.asarray((wave[0] * gain).numpy(), dtype=np.float32)


def log_mel(waveform: Wave, config: MelConfig) -> Array:
    """(M, F) of a waveform (L,) at the rate of ``config``."""
    return np.asarray(mel_spectrogram(torch.from_numpy(waveform)[None], config)[0].double().numpy())


def _windows(mel: Array) -> Array:
    """(W, M) means of each second that holds a frame which is heard; one of everything for a silent sound."""
    heard = mel.max(axis=0) >= mel.max() - _HEARD
    size = round(_WINDOW_SECONDS * SET_MEL.sample_rate / SET_MEL.hop_length)
    parts = [slice(first, first + size) for first in range(0, max(mel.shape[1] - size // 2, 1), size)]
    return np.stack([mel[:, part][:, heard[part]].mean(axis=1) for part in parts if heard[part].any()])
