"""How far a sound is from the one it was made from: level spectra, mels, brightness, delay.

Letters: C channels, L samples, M mel bands, F frames, K frequency bins.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import signal
from torch import Tensor

from ..configs import MelConfig

_OCTAVES_HZ = (63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)
_POWER_FLOOR = 1e-10
_GATE_DB = 60.0
_CHUNK_FRAMES = 2048
_LAG_SECONDS = 0.05
_EXCERPT_SECONDS = 10.0
# Below this, the highest correlation of a search is chance or one period of a tone taken for another.
_LEAST_CORRELATION = 0.5
_WORTH_MOVING = 0.02


@dataclass(frozen=True, slots=True)
class Loss:
    """What is lost between two sounds, or two mels.

    Attributes:
        mel_l1: mean absolute difference of the log-mels, in the model's own logarithm.
        long_term_mel_db: root mean square over bands of the difference of their mean levels.
        lsd_db: log-spectral distance; None where only mels were compared.
        lsd_per_octave_db: the same per octave, by its centre in hertz.
    """

    mel_l1: float
    long_term_mel_db: float
    lsd_db: float | None = None
    lsd_per_octave_db: Mapping[int, float] = field(default_factory=dict)


def mel_loss(reference: Tensor, other: Tensor, config: MelConfig) -> Loss:
    """Loss between two log-mels (C, M, F) of ``config``."""
    decibels = 20.0 if config.log_base == "10" else 20 / math.log(10)
    long_term = (other.mean(dim=(0, 2)) - reference.mean(dim=(0, 2))) * decibels
    return Loss(
        mel_l1=float((other - reference).abs().mean()),
        long_term_mel_db=float(long_term.square().mean().sqrt()),
    )


def spectral_distances(reference: Tensor, other: Tensor, config: MelConfig) -> tuple[float, dict[int, float]]:
    """Log-spectral distance over all frequencies and per octave, dB.

    Mean over frames of the root mean square difference of the level spectra. Levels end at -100 dB of a
    full-scale sine, so that digital silence and inaudible noise are equal.

    Args:
        reference: (C, L).
        other: (C, L).
        config: sample rate, window and hop.
    """
    bins = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate)
    octaves = {
        centre: (bins >= centre / math.sqrt(2)) & (bins < centre * math.sqrt(2)) for centre in _OCTAVES_HZ
    }
    octaves = {centre: inside for centre, inside in octaves.items() if inside.any()}
    pieces: dict[int, list[NDArray[np.float32]]] = {centre: [] for centre in (0, *octaves)}
    for first, second in zip(_powers(reference, config), _powers(other, config), strict=True):
        squared = np.square(10 * np.log10(first + _POWER_FLOOR) - 10 * np.log10(second + _POWER_FLOOR))
        pieces[0].append(np.sqrt(squared.mean(axis=1)))
        for centre, inside in octaves.items():
            pieces[centre].append(np.sqrt(squared[:, inside].mean(axis=1)))
    distances = {centre: float(np.concatenate(parts, axis=1).mean()) for centre, parts in pieces.items()}
    return distances.pop(0), distances


def centroid_hz(waveform: Tensor, config: MelConfig) -> float | None:
    """Median over the frames within 60 dB of the loudest of the spectral centroid; None for silence.

    Args:
        waveform: (C, L).
        config: sample rate, window and hop.
    """
    bins = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate)
    centroids, energies = [], []
    for power in _powers(waveform, config):
        energy = power.sum(axis=1)
        centroids.append((power * bins[:, None]).sum(axis=1) / np.maximum(energy, 1e-30))
        energies.append(energy)
    centroid, energy = (np.concatenate(parts, axis=1) for parts in (centroids, energies))
    if not energy.any():
        return None
    return float(np.median(centroid[energy >= energy.max() * 10 ** (-_GATE_DB / 10)]))


def find_lag(reference: Tensor, other: Tensor, sample_rate: int) -> int:
    """Samples by which ``other`` is late, up to 50 ms either way, by cross-correlation.

    0 unless the correlation there is clearly above that at 0: a vocoder makes its own phases, and what it
    made of noise correlates with the original nowhere.

    Args:
        reference: (C, L).
        other: (C, L).
        sample_rate: hertz.
    """
    limit = min(round(_LAG_SECONDS * sample_rate), reference.shape[-1] - 1)
    begin, stop = _loudest(reference, round(_EXCERPT_SECONDS * sample_rate))
    first, second = reference[:, begin:stop].double().numpy(), other[:, begin:stop].double().numpy()
    scale = math.sqrt(float(np.square(first).sum()) * float(np.square(second).sum()))
    if scale == 0:
        return 0
    correlation = sum(
        signal.correlate(late, early, mode="full", method="fft")
        for early, late in zip(first, second, strict=True)
    )
    middle = first.shape[1] - 1
    near = np.asarray(correlation)[middle - limit : middle + limit + 1] / scale
    best = int(near.argmax())
    if near[best] < max(_LEAST_CORRELATION, near[limit] + _WORTH_MOVING):
        return 0
    return best - limit


def shifted(waveform: Tensor, lag: int) -> Tensor:
    """(..., L) moved ``lag`` samples earlier, with silence where there is nothing."""
    result = torch.zeros_like(waveform)
    length = waveform.shape[-1]
    if lag >= 0:
        result[..., : length - lag] = waveform[..., lag:]
    else:
        result[..., -lag:] = waveform[..., :lag]
    return result


def _powers(waveform: Tensor, config: MelConfig) -> Iterator[NDArray[np.float64]]:
    """Power spectra (C, K, F) of a bounded number of frames at a time; 1 is a full-scale sine."""
    window = torch.hann_window(config.n_fft)
    scale = 2 / float(window.sum())
    missing = max(config.n_fft - waveform.shape[-1], 0)
    padded = torch.nn.functional.pad(waveform, (0, missing))
    count = (padded.shape[-1] - config.n_fft) // config.hop_length + 1
    for first in range(0, count, _CHUNK_FRAMES):
        begin = first * config.hop_length
        frames = min(_CHUNK_FRAMES, count - first)
        block = padded[:, begin : begin + (frames - 1) * config.hop_length + config.n_fft]
        spectrum = torch.stft(
            block, config.n_fft, config.hop_length, window=window, center=False, return_complex=True
        )
        yield (spectrum * scale).abs().double().square().numpy()


def _loudest(waveform: Tensor, length: int) -> tuple[int, int]:
    """Range of at most ``length`` samples with the most energy, on a grid of half its length."""
    total = waveform.shape[-1]
    starts = range(0, max(total - length // 2, 1), max(length // 2, 1))
    begin = max(starts, key=lambda start: float(waveform[:, start : start + length].square().sum()))
    return begin, min(begin + length, total)
