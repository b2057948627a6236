"""Results on disk, and the page made of them (``python -m benchmarks.results`` makes it anew)."""

import json
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from selva_audio.files import write_text
from selva_audio.progress import Progress

from .sections import SECTIONS

FOLDER = Path(__file__).parent / "results"
PAGE = Path(__file__).parent / "RESULTS.md"
_HEAD = """# Results

Made by the scripts in this folder, each of which writes a file in `results/`; `python -m benchmarks.results`
makes this page of them.
"""


def write_result(name: str, result: dict[str, Any]) -> None:
    """Keep a result with where and when it was measured, and make the page anew."""
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps({"measured": metadata(), **result}, indent=1)
    write_text(FOLDER / f"{name}.json", text + "\n")
    write_text(PAGE, page())


def metadata() -> dict[str, Any]:
    """Commit and versions."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def say_progress(name: str) -> Callable[[Progress], None]:
    """Prints each percent once."""
    shown = -1

    def show(progress: Progress) -> None:
        nonlocal shown
        percent = int(100 * progress.step / progress.total) if progress.total else 0
        if percent > shown:
            shown = percent
            print(f"{name}: {percent} %", flush=True)

    return show


def page() -> str:
    """RESULTS.md of all results that are there."""
    parts = [_HEAD]
    for name, section in SECTIONS.items():
        path = FOLDER / f"{name}.json"
        if path.is_file():
            parts.append(section(json.loads(path.read_text())))
    return "\n".join(parts)


if __name__ == "__main__":
    write_text(PAGE, page())
