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

FOLDER = Path(__file__).parent / "results"
PAGE = Path(__file__).parent / "RESULTS.md"
_HEAD = """# Results

Made by the scripts in this folder, each of which writes a file in `results/`; `python -m benchmarks.results`
makes this page of them.
"""
_SCORES = ("onset_f1_50ms", "onset_f1_80ms", "cross_hits", "material_accuracy", "median_offset_ms")
_SCORE_HEAD = "F1 50 ms | F1 80 ms | hits on others | material accuracy | median offset, ms |"


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
    for name, section in _SECTIONS.items():
        path = FOLDER / f"{name}.json"
        if path.is_file():
            parts.append(section(json.loads(path.read_text())))
    return "\n".join(parts)


def _selectivity(result: dict[str, Any]) -> str:
    controls = result["controls"]
    exchanged = controls["prompt_exchanged"]
    rows = {f"generation seed {row['seed']}": row for row in result["per_seed"]}
    rows |= {
        "worst of each": result["worst"],
        "no sync features": controls["null_sync"],
        "prompt exchanged, scored on the first": exchanged | {"cross_hits": exchanged["other_hits"]},
        "true stem": controls["truth"],
        "true stem through VAE and vocoder": controls["truth_coded"],
        "true mixture": controls["mixture"],
        "stem of another scene": controls["other_scene"],
        "held-out materials": result["held_out"],
    }
    return f"""## Selectivity of the embedded model

{result["scenes"]} test scenes (seed {result["seed"]}) of two and three objects, {result["impacts"]} impacts
prompted, {result["steps"]} steps, guidance {result["cfg_strength"]}, {result["precision"]}; scored from
written mp4 files. {_where(result)}

| | {_SCORE_HEAD}
|---|---|---|---|---|---|
{_score_rows(rows)}

- Prompt exchanged: hits on the object it names {exchanged["other_hits"]}, on the first
  {exchanged["own_hits"]}.
- Clips without any onset for a material that is not there: {result["absent_silent"]}.
- Continuous source, correlation of loudness and speed: {result["continuous_correlation"]} (worst clip \
{result["continuous_correlation_worst"]}).
"""


def _settings(result: dict[str, Any]) -> str:
    name = "{precision}, {steps} steps, guidance {cfg_strength:g} | {cpu_seconds}"
    rows = {name.format(**row): row for row in result["rows"]}
    return f"""## What precision, steps and guidance cost and give

Embedded model, {result["scenes"]} test scenes, one generation seed; CPU seconds from a video of 8 s to the
video with sound, one thread, models loaded. The weights are {result["bytes"] / 1e6:.1f} MB. {_where(result)}

| | CPU s | {_SCORE_HEAD}
|---|---|---|---|---|---|---|
{_score_rows(rows)}
"""


def _score_rows(rows: dict[str, dict[str, Any]]) -> str:
    return "\n".join(
        f"| {name} | " + " | ".join("-" if row[key] is None else f"{row[key]:.3f}" for key in _SCORES) + " |"
        for name, row in rows.items()
    )


def _where(result: dict[str, Any]) -> str:
    measured = result["measured"]
    return f"Commit {measured['commit']}, Python {measured['python']}, torch {measured['torch']}."


_SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "demo_selectivity": _selectivity,
    "demo_settings": _settings,
}

if __name__ == "__main__":
    write_text(PAGE, page())
