"""Which material made a sound: a linear classifier on log-mel patches of real stems of the val split."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from selva_audio.scenes import MATERIALS, stem

from .data import mels, training_scene
from .onsets import FRAME

_BEFORE, _AFTER = 1, 15
_TIME_CELLS, _BAND_CELLS = 4, 20
_SCENES_OF_MATERIAL = 16
_FIRST_SEED = 1_000_000
_FLOOR = -3.3
# Levels are not trusted more closely than this, though real stems agree better with each other.
_LEVEL_ERROR = 0.2
_NAMES = tuple(name for name, material in MATERIALS.items() if not material.continuous)


class MaterialClassifier:
    """Linear on the levels of a coarse grid of time and frequency after an impact.

    Args:
        through: applied to mels (1, M, F) of the stems it is fitted on; None leaves them.
    """

    def __init__(self, through: "nn.Module | None" = None) -> None:
        rows, labels = [], []
        for label, name in enumerate(_NAMES):
            for number in range(_SCENES_OF_MATERIAL):
                seed = _FIRST_SEED + number
                scene = training_scene(seed, split="val", materials=(name,), num_objects=1)
                mel = mels(torch.from_numpy(stem(scene, 0))[None])
                if through is not None:
                    mel = through(mel)
                rows.append(_patches(mel[0].numpy(), scene.objects[0].impacts))
                labels += [label] * len(rows[-1])
        patches = torch.cat(rows)
        self._mean, self._std = patches.mean(dim=0), patches.std(dim=0) + _LEVEL_ERROR
        self._linear = _fit_linear((patches - self._mean) / self._std, torch.tensor(labels))

    def classify(self, mel: NDArray[np.float32], times: NDArray[np.float64]) -> list[str]:
        """Material heard at each of ``times`` (seconds) of a mel (M, F)."""
        if not len(times):
            return []
        scores = self._linear((_patches(mel, times) - self._mean) / self._std)
        return [_NAMES[index] for index in scores.argmax(dim=1).tolist()]


def _patches(mel: NDArray[np.float32], times: NDArray[np.float64]) -> Tensor:
    """(K, cells): level of the grid cells around each time."""
    padded = np.pad(np.maximum(mel, _FLOOR), ((0, 0), (_BEFORE, _AFTER)), mode="edge")
    width = _BEFORE + _AFTER
    starts = np.clip(np.floor(times / FRAME).astype(int), 0, mel.shape[1] - 1)
    patches = torch.from_numpy(np.stack([padded[:, first : first + width] for first in starts]))
    cells = nn.functional.adaptive_avg_pool2d(patches[:, None].float(), (_BAND_CELLS, _TIME_CELLS))
    return cells.flatten(1)


def _fit_linear(rows: Tensor, labels: Tensor) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = nn.Linear(rows.shape[1], len(_NAMES))
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(linear(rows), labels) + 1e-3 * linear.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return linear.requires_grad_(False)
