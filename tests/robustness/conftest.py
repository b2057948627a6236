"""A private set of folders around every run of ``selva``, and a check that nothing is left in them."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from media.clips import write_clip

from selva_audio.cli import app

SELVA = [sys.executable, "-c", "from selva_audio.cli import main; main()"]
TOY = ("--variant", "demo_16k", "--precision", "fp32", "--device", "cpu", "--json", "--steps=1")


@dataclass(frozen=True)
class Outcome:
    """What a run of the command showed: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line on stderr that tells what is wrong."""
        lines = [line for line in self.err.splitlines() if line.startswith(("Error: ", "Cancelled"))]
        assert len(lines) == 1, f"not one sentence: {self.err!r}"
        return lines[0]

    def check_refused(self, *words: str, code: int = 2, lines: int | None = 1) -> str:
        """One sentence with ``words``, no traceback, stdout empty or JSON; returns the sentence."""
        assert "Traceback" not in self.err, self.err
        assert self.code == code, (self.code, self.err)
        if self.out:
            json.loads(self.out)
        if lines is not None:
            assert len(self.err.splitlines()) == lines, self.err
        for word in words:
            assert word in self.err, (word, self.err)
        return self.sentence


@dataclass
class Bench:
    """The folders of one test and two ways to run the command in them.

    Attributes:
        root: holds ``inputs`` (made by the test) and the folders that a run may touch.
        env: environment for a process of its own.
    """

    root: Path
    env: dict[str, str]
    capture: Callable[[], tuple[str, str]]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def write(self, name: str, content: bytes = b"") -> Path:
        path = self.root / "inputs" / name
        path.write_bytes(content)
        return path

    def run(self, *arguments: str | Path) -> Outcome:
        """Run in this process."""
        self.capture()
        code = app.run([str(argument) for argument in arguments])
        return Outcome(code, *self.capture())

    def spawn(self, *arguments: str | Path, command: list[str] = SELVA, **options) -> Outcome:
        """Run as the user does, in a process of its own."""
        process = self.start(*arguments, command=command, **options)
        out, err = process.communicate(timeout=120)
        return Outcome(process.returncode, out, err)

    def start(self, *arguments: str | Path, command: list[str] = SELVA, **options) -> "subprocess.Popen[str]":
        env = self.env | options.pop("env", {})
        process = subprocess.Popen(
            [*command, *map(str, arguments)],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.root / "inputs",
            **options,
        )
        self.processes.append(process)
        return process

    def listing(self) -> dict[str, int]:
        """Every file below the root with its size; folders count as files of size -1.

        Without the register of hashes in the user's data folder, and the empty folder that torch makes
        when transformers is imported.
        """
        return {
            str(path.relative_to(self.root)): -1 if path.is_dir() else path.lstat().st_size
            for path in sorted(self.root.rglob("*"))
            if not path.name.startswith(("torchinductor", "verified.json"))
            and path != self.root / "data" / "selva-audio"
        }


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of 25 fps H.264 with a tone."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_clip(path, np.arange(25) / 25, tone=440.0)


@pytest.fixture(scope="session")
def mute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of 25 fps H.264 without sound."""
    return write_clip(tmp_path_factory.mktemp("clip") / "mute.mp4", np.arange(25) / 25)


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds of 25 fps H.264: three windows."""
    return write_clip(tmp_path_factory.mktemp("clip") / "long.mp4", np.arange(500) / 25)


@pytest.fixture(scope="session")
def webm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of 25 fps VP9."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.webm", np.arange(25) / 25)


@pytest.fixture(scope="session")
def toy() -> tuple[str, ...]:
    """Options of the smallest and shortest run; the last one is of ``generate`` alone."""
    return TOY


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    for name in ("inputs", "out", "cache", "data", "tmp", "hf"):
        (tmp_path / name).mkdir()
    private = {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "HF_HOME": str(tmp_path / "hf"),
        "TMPDIR": str(tmp_path / "tmp"),
        "HF_HUB_OFFLINE": "1",
        "no_proxy": "127.0.0.1",
    }
    for name, value in private.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "inputs")
    bench = Bench(tmp_path, dict(os.environ) | private, lambda: tuple(capfd.readouterr()))
    yield bench
    for process in bench.processes:
        if process.poll() is None:
            process.kill()
            process.wait()
