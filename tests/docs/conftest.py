"""What the tests of the pages share: the script that writes their tables, and a folder of sample files."""

import importlib.util
import json
import logging
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import matplotlib.image
import numpy as np
import pytest
from small_generator import moved
from trainable_clips import write_clips

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tables() -> ModuleType:
    """docs/tables.py, as a module."""
    spec = importlib.util.spec_from_file_location("selva_tables", ROOT / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that commands on the pages start from, under the names that the pages use."""
    import torch

    from selva_audio.adapters import Adapter, write_adapter
    from selva_audio.media.encode import write_video
    from selva_audio.records import Audio
    from selva_audio.tasks.adapter import load_generator

    def moving_square(seconds: float) -> np.ndarray:
        pixels = np.zeros((round(25 * seconds), 48, 64, 3), np.uint8)
        for number, picture in enumerate(pixels):
            picture[16:32, 2 * number % 48 :][:, :16] = 200
        return pixels

    folder = tmp_path_factory.mktemp("samples")
    own_sound = Audio(0.1 * torch.sin(torch.arange(16000) / 10)[None, None], 16000)
    write_video(moving_square(1), 25, folder / "clip.mp4", own_sound)
    write_video(moving_square(8.4), 25, folder / "long.mp4")  # the shortest with two windows
    write_video(moving_square(1), 25, folder / "mask.mp4")
    matplotlib.image.imsave(folder / "mask.png", moving_square(1)[0])
    matplotlib.image.imsave(folder / "photo.png", moving_square(1)[0])
    for name in ("a.mp4", "b.mp4"):
        (folder / "clips").mkdir(exist_ok=True)
        shutil.copy(folder / "clip.mp4", folder / "clips" / name)
    for name in ("mono", "recordings"):
        (folder / name / "dog_bark").mkdir(parents=True)
        shutil.copy(folder / "clip.mp4", folder / name / "dog_bark" / "take.mp4")
    write_clips(folder / "sweep_clips", ("bell", "drum"))
    short = {"steps": 1, "batch_size": 1, "sample_steps": 0, "target": "qkv", "rank": 1}
    plan = {"kind": "lora", "data_dir": "sweep_clips", "base": short, "seeds": [1, 2]}
    (folder / "plan.json").write_text(json.dumps(plan))
    for seed, name in enumerate(("glass.pt", "stone.safetensors")):
        adapter = moved(load_generator("demo_16k"), seed=seed, target="qkv")
        told = {**adapter.meta, "variant": "demo_16k", "clip_conditioning": "on"}
        write_adapter(folder / name, Adapter(adapter.deltas, told))
    return folder


@pytest.fixture
def workplace(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the sample files; what the command line sets in this process is set back."""
    folder = tmp_path / "workplace"
    shutil.copytree(samples, folder)
    monkeypatch.chdir(folder)
    handlers, level = list(logging.root.handlers), logging.root.level
    terminated = signal.getsignal(signal.SIGTERM)
    yield folder
    signal.signal(signal.SIGTERM, terminated)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
