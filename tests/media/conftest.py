"""Clips for the media tests; how they are made is in clips.py."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("selva_clips", Path(__file__).parent / "clips.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLIPS = _load()


@pytest.fixture(scope="session")
def clips() -> ModuleType:
    """The functions that make and recognise clips."""
    return CLIPS


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for clips that several tests read."""
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def clip(folder: Path) -> Path:
    """Two seconds of 25 fps H.264 without sound."""
    return CLIPS.write_clip(folder / "clip.mp4", np.arange(50) / 25)


@pytest.fixture(scope="session")
def clip_with_sound(folder: Path) -> Path:
    """Two seconds of 25 fps H.264 with a 440 Hz tone."""
    return CLIPS.write_clip(folder / "sound.mp4", np.arange(50) / 25, tone=440.0)


@pytest.fixture(scope="session")
def webm(folder: Path) -> Path:
    """Two seconds of 25 fps VP9."""
    return CLIPS.write_clip(folder / "clip.webm", np.arange(50) / 25)
