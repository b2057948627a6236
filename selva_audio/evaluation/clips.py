"""Offline metrics of one sound file, alone and against its reference."""

import math
from dataclasses import dataclass, replace

from torch import Tensor

from ..configs import get_config
from ..media.audio import resample
from ..media.loudness import GATE_SECONDS, MAX_CHANNELS, lufs, rms_dbfs, true_peak_dbtp
from ..records import Audio
from .comparison import centroid_hz
from .distances import log_mel_l1, multi_resolution_stft
from .onsets import detect_onsets, match_onsets

_MATCH_WINDOW = 0.05
# The rate and the mel in which sounds are compared; what lies above 8 kHz is left out.
_COMPARED = get_config("small_16k").mel


@dataclass(frozen=True, slots=True)
class ClipMetrics:
    """What a sound is like by itself.

    Attributes:
        duration: seconds.
        loudness_lufs: integrated; None for silence and under 0.4 s.
        rms_dbfs: level; None for digital silence.
        true_peak_dbtp: highest true peak; None for digital silence.
        onsets: how many sudden rises.
        centroid_hz: median over loud frames of the spectral centre of gravity; None for silence.
    """

    duration: float
    loudness_lufs: float | None
    rms_dbfs: float | None
    true_peak_dbtp: float | None
    onsets: int
    centroid_hz: float | None


@dataclass(frozen=True, slots=True)
class ReferenceMetrics:
    """How far a sound is from its reference, over the length of the shorter one.

    Attributes:
        log_mel_l1: mean absolute difference of log10 mels at 16 kHz.
        stft_distance: see ``multi_resolution_stft``.
        onset_f1_50ms: onsets of the sound against those of the reference.
        level_difference_db: RMS of the sound minus that of the reference; None where one is silent.
    """

    log_mel_l1: float
    stft_distance: float
    onset_f1_50ms: float
    level_difference_db: float | None


def measure(audio: Audio) -> ClipMetrics:
    """Metrics of the first take of ``audio``; onsets and centroid of its channels' mean."""
    wave, rate = audio.waveform[0], audio.sample_rate
    mono = wave.mean(dim=0)
    has_loudness = wave.shape[0] <= MAX_CHANNELS and audio.duration >= GATE_SECONDS
    return ClipMetrics(
        duration=round(audio.duration, 4),
        loudness_lufs=_finite(lufs(wave, rate)) if has_loudness else None,
        rms_dbfs=_finite(rms_dbfs(wave)),
        true_peak_dbtp=_finite(true_peak_dbtp(wave)),
        onsets=len(detect_onsets(mono.numpy(), rate)),
        centroid_hz=_centroid(mono, rate),
    )


def compare(made: Audio, real: Audio) -> ReferenceMetrics:
    """Distances of the first takes, mixed to one channel at 16 kHz.

    Raises:
        InputError: they share less than about 0.07 s.
    """
    rate = _COMPARED.sample_rate
    pair = [resample(each.waveform[0].mean(dim=0), each.sample_rate, rate) for each in (made, real)]
    length = min(len(wave) for wave in pair)
    first, second = (wave[None, :length] for wave in pair)
    distances = {
        "stft_distance": multi_resolution_stft(first, second),
        "log_mel_l1": log_mel_l1(first, second, _COMPARED),
    }
    onsets = [detect_onsets(wave[0].numpy(), rate) for wave in (first, second)]
    return ReferenceMetrics(
        **{name: round(float(value), 4) for name, value in distances.items()},
        onset_f1_50ms=round(match_onsets(onsets[0], onsets[1], _MATCH_WINDOW).f1, 4),
        level_difference_db=_finite(rms_dbfs(first) - rms_dbfs(second)),
    )


def _centroid(wave: Tensor, sample_rate: int) -> float | None:
    """Of a waveform (L,); None for silence and for less than half a window."""
    if len(wave) <= _COMPARED.n_fft // 2:
        return None
    centroid = centroid_hz(wave[None], replace(_COMPARED, sample_rate=sample_rate))
    return None if centroid is None else round(centroid, 1)


def _finite(level: float) -> float | None:
    return round(level, 2) if math.isfinite(level) else None
