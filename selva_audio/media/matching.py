"""Spectral matching: the long-term spectrum of a sound, brought towards what a mel VAE was trained on.

One filter per take, the same at all times and for all channels, so that neither musical noise nor a shift
of the stereo picture can come of it.

Letters: B takes, C channels, L samples, M mel bands, F mel frames.
"""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal
from torch import Tensor

from ..configs import MEL_16K, MEL_44K, MelConfig
from ..errors import InputError, unknown_name
from ..models.mel import FLOOR, mel_frequencies, mel_spectrogram
from ..progress import Progress, ProgressFn, ignore_progress, subtask
from .audio import resample
from .filters import convolve
from .loudness import guard_peak

_STATISTICS = Path(__file__).parent.parent / "assets" / "mel_statistics.json"
_MEL_CONFIGS = {"16k": MEL_16K, "44k": MEL_44K}
_GATE_DB = 50.0
_SMOOTHING_BANDS = 2.0
# A band whose mean log level is less than this above the floor is called empty and is never boosted.
_EMPTY_MARGIN = 1.0
_LEAST_TAPS = 4096
_FILTER_SECONDS = 0.09
_CHUNK = 2**20

Curve = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SpectrumTarget:
    """The spectrum to come near to.

    Attributes:
        config: the mel that ``mean`` and ``std`` are in.
        mean: (M,) mean log magnitude of each band over the training sounds.
        std: (M,) its standard deviation.
    """

    config: MelConfig
    mean: Curve
    std: Curve

    @property
    def frequencies(self) -> Curve:
        """(M,) centre of each band in hertz."""
        return mel_frequencies(self.config)

    @property
    def decibels(self) -> float:
        """One unit of log magnitude in dB."""
        return 20.0 if self.config.log_base == "10" else 20 / math.log(10)

    @property
    def floor(self) -> float:
        """The least log magnitude that a mel holds."""
        return math.log(FLOOR) / (math.log(10) if self.config.log_base == "10" else 1)


@dataclass(frozen=True, slots=True)
class SpectrumLevels:
    """Long-term spectrum of one sound.

    Attributes:
        mean: (M,) mean log magnitude over the frames that are not silent.
    """

    mean: Curve


@dataclass(frozen=True, slots=True)
class MatchedTake:
    """One matched take.

    Attributes:
        waveform: (C, L) float32, at its own rate and level.
        gains_db: (M,) gain at each band's centre; zeros for silence.
        guard_db: gain of the whole sound, 0 or less, that kept its true peak in bounds.
        before: spectrum of the sound that came in; None for silence.
        after: spectrum of ``waveform``; None for silence.
    """

    waveform: Tensor
    gains_db: Curve
    guard_db: float
    before: SpectrumLevels | None
    after: SpectrumLevels | None


def match_spectrum(
    waveform: Tensor,
    sample_rate: int,
    target: SpectrumTarget,
    *,
    strength: float,
    max_gain_db: float,
    keep_level: bool,
    peak_ceiling: float,
    on_progress: ProgressFn = ignore_progress,
) -> MatchedTake:
    """Filter one take towards a target spectrum, at its own rate, length and channels.

    Args:
        waveform: (C, L) float32.
        sample_rate: hertz.
        target: what to come near to.
        strength: share of the difference to take away, 0 to 1; 0 gives ``waveform`` itself.
        max_gain_db: no band is boosted or cut by more.
        keep_level: bring the RMS level back to what it was.
        peak_ceiling: true peak in dBTP past which a raised sound is turned down again.
        on_progress: progress and cancel.

    Raises:
        InputError: the sound is shorter than one analysis window.
    """
    if not bool(waveform.any()):
        return MatchedTake(waveform, np.zeros(target.config.num_mels), 0.0, None, None)
    before = spectrum_levels(waveform, sample_rate, target.config, on_progress=subtask(on_progress, 0, 0.35))
    gains = band_gains(before, target, strength=strength, max_gain_db=max_gain_db)
    if not gains.any():
        return MatchedTake(waveform, gains, 0.0, before, before)
    taps = gain_filter(gains, target.config, sample_rate)
    matched = convolve(waveform[None], taps, on_progress=subtask(on_progress, 0.35, 0.55))[0]
    if keep_level:
        matched = matched * (_rms(waveform) / _rms(matched))
    matched, guard = guard_peak(
        matched, peak_ceiling, original=waveform, on_progress=subtask(on_progress, 0.55, 0.65)
    )
    after = spectrum_levels(matched, sample_rate, target.config, on_progress=subtask(on_progress, 0.65, 1))
    return MatchedTake(matched, gains, guard, before, after)


@lru_cache
def spectrum_target(mode: str) -> SpectrumTarget:
    """Statistics of the sounds that the published VAE of a rate class was trained on.

    Args:
        mode: "16k" or "44k".

    Raises:
        InputError: another mode.

    Source: the VAE's own ``data_mean`` and ``data_std`` (SPEC 13.9).
    """
    if mode not in _MEL_CONFIGS:
        raise InputError(unknown_name("mode", mode, _MEL_CONFIGS))
    statistics = json.loads(_STATISTICS.read_text(encoding="utf-8"))[mode]
    return SpectrumTarget(_MEL_CONFIGS[mode], np.array(statistics["mean"]), np.array(statistics["std"]))


def spectrum_levels(
    waveform: Tensor, sample_rate: int, config: MelConfig, *, on_progress: ProgressFn = ignore_progress
) -> SpectrumLevels:
    """Mean log-mel over all frames within 50 dB of the loudest; channels are joined by their power.

    Args:
        waveform: (C, L), not all zero.
        sample_rate: hertz; the sound is resampled to the mel's rate for looking at it.
        config: the mel.
        on_progress: called every few seconds of sound.
    """
    # The mel clamps to [-1, 1]; a louder sound is looked at quieter and the difference added again.
    peak = max(float(waveform.abs().max()), 1.0)
    samples = resample(waveform / peak, sample_rate, config.sample_rate)
    magnitudes = []
    for first, stop in _chunks(samples.shape[-1], config.n_fft):
        on_progress(Progress("measuring", first, samples.shape[-1]))
        log_mel = mel_spectrogram(samples[:, first:stop], config).double().numpy()
        linear = 10.0**log_mel if config.log_base == "10" else np.exp(log_mel)
        magnitudes.append(np.sqrt(np.square(linear).mean(axis=0)))
    magnitude = np.concatenate(magnitudes, axis=1)  # (M, F)
    power = np.square(magnitude) * _bandwidths(config)[:, None]
    level = power.sum(axis=0)
    heard = level >= level.max() * 10 ** (-_GATE_DB / 10)
    logarithm = np.log10 if config.log_base == "10" else np.log
    mean = logarithm(np.maximum(magnitude[:, heard] * peak, FLOOR)).mean(axis=1)
    return SpectrumLevels(mean)


def band_gains(
    levels: SpectrumLevels, target: SpectrumTarget, *, strength: float, max_gain_db: float
) -> Curve:
    """(M,) gain in dB of each band that brings the colour of ``levels`` nearer to that of ``target``.

    The difference is taken without its mean over bands: the targets are means over sounds with much silence
    in them, 20 dB and more below a sound that fills its clip, and following them down would leave nothing to
    hear. The rest is smoothed over two bands, scaled by ``strength`` and clipped to ``max_gain_db``. Bands
    that are empty in the sound or in the target (the highest ones at 44.1 kHz are) are cut, never boosted.

    Source: the mean is weighted by the inverse variances, as in ``spectrum_distance``, so that what is left
    of the distance is the level; by energy, as usual, a sound with most of it in a few bands would have all
    others clipped.
    """
    empty = np.minimum(levels.mean, target.mean) < target.floor + _EMPTY_MARGIN
    raw = target.decibels * (target.mean - levels.mean)
    if not empty.all():
        raw = raw - np.average(raw[~empty], weights=target.std[~empty] ** -2)
    # Before smoothing too: the huge boost that an empty band asks for would leak into its neighbours.
    raw = np.where(empty, np.minimum(raw, 0), raw)
    smooth = ndimage.gaussian_filter1d(raw, _SMOOTHING_BANDS, mode="nearest")
    gains = np.clip(strength * smooth, -max_gain_db, max_gain_db)
    return np.asarray(np.where(empty, np.minimum(gains, 0), gains))


def gain_filter(gains_db: Curve, config: MelConfig, sample_rate: int) -> Curve:
    """Symmetric taps with ``gains_db`` at the band centres of ``config``, for sound at ``sample_rate``.

    Beyond the outermost centres their gains are held, so that 16k mode keeps what lies above 8 kHz.
    Source: frequency sampling with a Hann window.
    """
    half = max(_LEAST_TAPS // 2, math.ceil(sample_rate * _FILTER_SECONDS / 2))
    frequencies = np.fft.rfftfreq(8 * half, 1 / sample_rate)
    # Between neighbouring centres, straight in hertz is straight in mel to a hundredth of a decibel.
    decibels = np.interp(frequencies, mel_frequencies(config), gains_db)
    response = np.fft.fftshift(np.fft.irfft(10 ** (decibels / 20)))
    middle = len(response) // 2
    taps: Curve = response[middle - half : middle + half + 1] * signal.windows.hann(2 * half + 1)
    return taps


def spectrum_distance(levels: SpectrumLevels, target: SpectrumTarget, *, with_level: bool = True) -> float:
    """Root mean square over bands of the difference in standard deviations of the target; 0 = on target.

    Without level it is the least value that any gain of the whole sound could give.
    """
    difference = (levels.mean - target.mean) / target.std
    if not with_level:
        weight = 1 / target.std
        difference = difference - weight * float(weight @ difference) / float(weight @ weight)
    return float(np.sqrt(np.square(difference).mean()))


def _chunks(length: int, least: int) -> list[tuple[int, int]]:
    """Ranges that cover ``length``, none shorter than ``least`` unless it is the only one."""
    starts = list(range(0, max(length - least, 1), _CHUNK))
    return list(zip(starts, [*starts[1:], length], strict=True))


def _bandwidths(config: MelConfig) -> Curve:
    widths: Curve = np.gradient(mel_frequencies(config))
    return widths


def _rms(waveform: Tensor) -> float:
    return float(waveform.double().square().mean().sqrt())
