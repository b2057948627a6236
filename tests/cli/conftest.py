"""Runs of the ``selva`` command inside the test process, on the demo model."""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selva_audio.cli.app import run

TOY = ("--variant", "demo_16k", "--precision", "fp32", "--device", "cpu")


@dataclass(frozen=True)
class Outcome:
    """Exit code, stdout and stderr of a run."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def selva(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``selva("generate", path, "--json")``: the command line, without a new process."""
    handler = signal.getsignal(signal.SIGTERM)

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    yield call
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def generate(selva: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """``selva generate`` on the demo model with one step."""
    return lambda *arguments: selva("generate", *TOY, "--steps", 1, *arguments)


@pytest.fixture(scope="session")
def clip(make_clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of 25 fps."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", np.arange(25) / 25)
