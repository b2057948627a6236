"""Which material made a sound: a linear classifier on the shape of real impacts in time and frequency.

It is fitted on true stems of the scene generator's "val" split, as they are and with some hiss, never on
anything a model made. It looks at levels relative to the loudest moment only, so that normalised loudness
changes nothing.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..media.audio import resample
from ..models.mel import mel_spectrogram
from ..scenes import MATERIALS, SAMPLE_RATE, draw_scene, stem
from .onsets import ANALYSIS, Array

IMPACT_MATERIALS = tuple(name for name, material in MATERIALS.items() if not material.continuous)
MISS_WINDOW = 0.08
_FRAME = ANALYSIS.hop_length / ANALYSIS.sample_rate
# Frames of 8 ms before and after an onset; the next impact of the same object is further away.
_BEFORE, _AFTER = 2, 26
_TIME_CELLS, _BAND_CELLS = 4, 16
# log10 units below the loudest cell; what is further down is codec noise as often as sound.
_RANGE = 2.0
_SCENES_OF_MATERIAL = 16
# log10 of the amplitude of white noise under half of the examples: hiss does not change the material.
_NOISE_LEVELS = (-3.5, -1.5)
# Levels are not trusted more closely than this, though real stems agree better with each other.
_LEVEL_ERROR = 0.2
_WEIGHT_PENALTY = 1e-3


class MaterialClassifier:
    """Linear on the relative levels of a coarse grid of time and frequency after an onset."""

    def __init__(self) -> None:
        patches, labels = [], []
        rng = np.random.default_rng(0)
        for label, name in enumerate(IMPACT_MATERIALS):
            for seed in range(_SCENES_OF_MATERIAL):
                scene = draw_scene(seed, split="val", materials=(name,), num_objects=1)
                wave, noise = stem(scene, 0), rng.standard_normal(scene.num_samples, dtype=np.float32)
                for level in (0.0, 10 ** rng.uniform(*_NOISE_LEVELS)):
                    noisy = wave + np.float32(level) * noise
                    patches.append(_patches(noisy, SAMPLE_RATE, scene.objects[0].impacts))
                    labels += [label] * len(patches[-1])
        rows = torch.cat(patches)
        self._mean, self._std = rows.mean(dim=0), rows.std(dim=0) + _LEVEL_ERROR
        self._linear = _fit_linear((rows - self._mean) / self._std, torch.tensor(labels))

    def classify(self, waveform: NDArray[np.float32], sample_rate: int, times: Array) -> list[str]:
        """Material heard at each of ``times`` (seconds of onsets) of a waveform (L,)."""
        if not len(times):
            return []
        rows = _patches(waveform, sample_rate, times)
        scores = self._linear((rows - self._mean) / self._std)
        return [IMPACT_MATERIALS[index] for index in scores.argmax(dim=1).tolist()]


@lru_cache(maxsize=1)
def material_classifier() -> MaterialClassifier:
    """The classifier, fitted once per process (about 2 CPU seconds)."""
    return MaterialClassifier()


def count_right(
    waveform: NDArray[np.float32], sample_rate: int, onsets: Array, true: Array, material: str
) -> int:
    """How many true impacts are heard as ``material``; one without an onset within 80 ms is a miss."""
    nearest = nearest_onsets(onsets, true, MISS_WINDOW)
    heard = material_classifier().classify(waveform, sample_rate, nearest)
    return sum(name == material for name in heard)


def nearest_onsets(onsets: Array, true: Array, window: float) -> Array:
    """The onset closest to each true time, in order; times without one within ``window`` are left out."""
    chosen = []
    for time in true if len(onsets) else ():
        index = int(np.abs(onsets - time).argmin())
        if abs(onsets[index] - time) <= window:
            chosen.append(onsets[index])
    return np.array(chosen, dtype=np.float64)


def _patches(waveform: NDArray[np.float32], sample_rate: int, times: Sequence[float] | Array) -> Tensor:
    """(K, cells) level of the grid cells after each time, relative to the loudest cell."""
    wave = resample(torch.from_numpy(waveform), sample_rate, ANALYSIS.sample_rate)
    mel = mel_spectrogram(wave[None], ANALYSIS)[0].numpy()
    padded = np.pad(mel, ((0, 0), (_BEFORE, _AFTER)), mode="edge")
    starts = np.clip(np.floor(np.asarray(times) / _FRAME).astype(int), 0, mel.shape[1] - 1)
    windows = torch.from_numpy(np.stack([padded[:, at : at + _BEFORE + _AFTER] for at in starts]))
    cells = nn.functional.adaptive_avg_pool2d(windows[:, None], (_BAND_CELLS, _TIME_CELLS)).flatten(1)
    return (cells - cells.amax(dim=1, keepdim=True)).clamp(min=-_RANGE)


def _fit_linear(rows: Tensor, labels: Tensor) -> nn.Linear:
    """Multinomial logistic regression by L-BFGS from zero; deterministic."""
    linear = nn.Linear(rows.shape[1], len(IMPACT_MATERIALS))
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(linear(rows), labels)
        loss = loss + _WEIGHT_PENALTY * linear.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return linear.requires_grad_(False)
