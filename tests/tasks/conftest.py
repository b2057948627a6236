"""A clip and features that several tests of tasks use."""

from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.bundle import SelVAModel
from selva_audio.features import VideoFeatures


@pytest.fixture(scope="session")
def clip(make_clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of 25 fps with a tone."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", np.arange(25) / 25, tone=440.0)


@pytest.fixture(scope="session")
def features(demo_model: SelVAModel) -> VideoFeatures:
    """Two seconds of noise."""
    noise = torch.Generator().manual_seed(0)
    clip, sync = (torch.randn(1, *shape, generator=noise) for shape in ((16, 64), (40, 96)))
    return VideoFeatures(clip, sync, prompt="dog", duration=2.0)
