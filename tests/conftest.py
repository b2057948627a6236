"""Shared fixtures: golden numbers, rule-made weights, no network, one thread."""

import importlib.util
import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import hypothesis
import numpy as np
import pytest
import torch
from hub_server import hub  # noqa: F401 (a fixture for every folder)

torch.set_num_threads(1)

# A law that holds late still holds: timing is never part of a claim.
hypothesis.settings.register_profile("selva", deadline=None)
hypothesis.settings.load_profile("selva")

GOLDEN = Path(__file__).parent / "golden"
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--reference", default=None, help="folder with the complete golden set; default: the part kept here"
    )
    parser.addoption(
        "--update-surface", action="store_true", help="write tests/surface/surface.json anew before comparing"
    )


def _load_fill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("selva_fill", GOLDEN / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILL = _load_fill()


class Golden:
    """One golden file: recorded inputs, outputs and the comparison rule of their README."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrays = np.load(path)
        self.meta = json.loads(str(self.arrays["meta"]))

    def __contains__(self, key: str) -> bool:
        return key in self.arrays.files

    def input(self, suffix: str, shape: tuple[int, ...], **kwargs) -> torch.Tensor:
        """The rule-made input ``tag.suffix``."""
        return torch.from_numpy(
            FILL.make_input(f"{self.meta['tag']}.{suffix}", shape, self.meta["input_seed"], **kwargs)
        )

    def error(self, key: str, got: torch.Tensor | np.ndarray) -> float:
        """Largest difference, relative to the largest expected magnitude."""
        expected = self.arrays[key].astype(np.float64).ravel()
        values = np.asarray(got.detach() if isinstance(got, torch.Tensor) else got, dtype=np.float64)
        info = self.meta["outputs"].get(key, {})
        if "shape" in info:
            assert list(values.shape) == info["shape"], f"{key}: shape {values.shape}, not {info['shape']}"
        values = values.ravel()
        if "sub_index" in info:
            values = values[FILL.sub_index(values.size, info["sub_index"])]
        assert values.shape == expected.shape
        return float(np.abs(values - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="session")
def fill() -> ModuleType:
    """The rule that makes weights and inputs (tests/golden/fill.py)."""
    return FILL


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest):
    """Open a golden file by name; skips with one line where only the complete set has it."""
    reference = request.config.getoption("--reference")

    def open_golden(name: str) -> Golden:
        for folder in (GOLDEN / "data", Path(reference or os.devnull)):
            if (folder / f"{name}.npz").is_file():
                return Golden(folder / f"{name}.npz")
        pytest.skip(f"{name}.npz is in the complete golden set only; give --reference FOLDER")

    return open_golden


@pytest.fixture(scope="session")
def rule_state(fill: ModuleType):
    """Rule-made state dict for a {key: shape} mapping: ``rule_state(shapes, seed, constants={})``."""

    def build(shapes: dict[str, list[int]], seed: int, constants=None) -> dict[str, torch.Tensor]:
        manifest = {key: {"shape": shape, "dtype": "float32"} for key, shape in shapes.items()}
        arrays = fill.make_state_dict(manifest, seed, constants)
        return {key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()}

    return build


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail any test that connects to something other than this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address) -> None:
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Take back those that a command has left: it ends its process, which a test does not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def private_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own caches and models out of the tests, and the tests out of them."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.delenv("SELVA_MODELS_DIR", raising=False)


def _load_clips() -> ModuleType:
    spec = importlib.util.spec_from_file_location("selva_clips", Path(__file__).parent / "media" / "clips.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_clip():
    """``make_clip(path, times, ...)`` writes a video with a frame at each time (tests/media/clips.py)."""
    return _load_clips().write_clip


@pytest.fixture(scope="session")
def demo_model():
    """The demo variant in float32 on the CPU, shared by all tests: nothing may change it."""
    from selva_audio.bundle import load_model

    return load_model("demo_16k", device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def mmaudio_model():
    """An MMAudio variant at toy width with untrained weights, shared by all tests."""
    from published import toy_config, untrained_model

    return untrained_model(toy_config("mmaudio_small_16k"))


@pytest.fixture
def frames():
    """``frames(count, fps=25, seed=0)``: noise pictures in memory, 32 x 48."""
    from selva_audio.records import Frames

    def make(count: int, *, fps: float = 25.0, seed: int = 0, height: int = 32, width: int = 48) -> Frames:
        pixels = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        return Frames(pixels, np.arange(count) / fps)

    return make


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium; without one the test is skipped, or fails where SELVA_REQUIRE_BROWSER is set."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        message = "no Chromium on this machine"
        if os.environ.get("SELVA_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    return found
