"""A folder of pairs and a data set of ours, small and made by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.features import VideoFeatures, save_features
from selva_audio.media.audio import write_audio
from selva_audio.records import Audio


def noise(seconds: float = 1.0, rate: int = 16000, seed: int = 0, channels: int = 1) -> Audio:
    values = np.random.default_rng(seed).standard_normal((1, channels, round(seconds * rate)))
    return Audio(torch.from_numpy(0.1 * values).float(), rate)


@pytest.fixture
def make_pair() -> Callable[..., Path]:
    """``make_pair(folder, stem, prompt="x", suffix=".flac", seed=0)``: features and sound of one name."""

    def make(folder: Path, stem: str, *, prompt: str = "", suffix: str = ".flac", seed: int = 0) -> Path:
        features = VideoFeatures(
            torch.zeros(1, 0, 8), torch.ones(1, 8, 4), prompt=prompt, duration=1.0, fps=25.0
        )
        if suffix:
            write_audio(folder / f"{stem}{suffix}", noise(seed=seed))
        return save_features(folder / f"{stem}.npz", features)

    return make
