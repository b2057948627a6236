"""A process of its own for what only a whole process shows: cold start, peak memory, long videos.

``python -m benchmarks.speed.fresh SIDE ...`` prints one line of JSON: CPU seconds from process start to the
waveform, and to the end; peak resident memory. For "media", which is reading a video and writing it with a
sound: the fewest CPU seconds of the runs after the first (other programs on a machine only ever add to them),
and how far memory rises above what the imports take.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PROMPT = "a rubber ball bouncing on a wooden floor"
_MEDIA_RUNS = 3


def start(
    side: str,
    work: Path,
    video: Path,
    *,
    checkout: Path | None = None,
    steps: int = 25,
    duration: float = 8.0,
    precision: str = "bf16",
    job: str = "whole",
) -> dict[str, Any]:
    """Run one side in a process of its own; returns what it printed, or {"not run": why}."""
    asked = {
        "side": side,
        "job": job,
        "work": str(work.absolute()),
        "video": str(video.absolute()),
        "checkout": str(checkout.absolute()) if checkout else "",
        "steps": steps,
        "duration": duration,
        "precision": precision,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.fresh", json.dumps(asked)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        told = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"not run": told[-1]}
    return json.loads(lines[-1])


def main() -> None:
    """One run, in this process."""
    asked = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        run = _upstream if asked["side"] == "upstream" else _ours
        run = _media if asked["job"] == "media" else run
        print(json.dumps(run(asked, Path(folder))))


def _media(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    import torch

    from .files import given
    from .measure import resident_gb, resident_now_gb

    torch.set_num_threads(1)
    video, output, duration = Path(asked["video"]), folder / "out.mp4", asked["duration"]
    wave = given("wave", (1, round(duration * 16_000)), kind="wave")
    if asked["side"] == "upstream":
        from .upstream import Upstream, open_checkout

        open_checkout(Path(asked["checkout"]))
        upstream = Upstream(Path(asked["work"]), "cpu", torch.float32, duration)
        read_and_write = lambda: upstream.write(upstream.read(video), wave, output)
    else:
        from .ours import read_in_blocks, write

        def read_and_write() -> None:
            read_in_blocks(video, duration)
            write(video, wave, 16_000, output)

    before = resident_now_gb()
    read_and_write()
    above = resident_gb() - before
    times = [_seconds()]
    for _ in range(_MEDIA_RUNS):
        read_and_write()
        times.append(_seconds())
    runs = [later - earlier for earlier, later in itertools.pairwise(times)]
    return {
        "seconds": round(min(runs), 3),
        "runs": [round(each, 3) for each in runs],
        "above_gb": round(above, 3),
    }


def _upstream(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    from .upstream import run_demo

    arguments = ["--video", asked["video"], "--prompt", PROMPT, "--output", str(folder)]
    arguments += ["--duration", str(asked["duration"]), "--num_steps", str(asked["steps"])]
    arguments += ["--full_precision"] if asked["precision"] == "fp32" else []
    first: list[float] = []
    try:
        run_demo(Path(asked["checkout"]), Path(asked["work"]), arguments, lambda _: first.append(_seconds()))
    except (RuntimeError, AssertionError):
        # After the sound, the demo asks CUDA for its memory also where there is none.
        if not list(folder.glob("*.mp4")):
            raise
    return _account(first)


def _ours(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    from selva_audio.cli import app

    arguments = ["generate", asked["video"], "-p", PROMPT, "-o", str(folder / "out.mp4")]
    arguments += ["--models-dir", asked["work"], "--offline", "--cache-dir", str(folder / "features")]
    arguments += ["--duration", str(asked["duration"]), "--steps", str(asked["steps"])]
    arguments += ["--precision", asked["precision"]]
    first: list[float] = []
    from selva_audio.tasks import run as main_job

    made = main_job.generate

    def generate(*args, **kwargs):
        audio = made(*args, **kwargs)
        first.append(_seconds())
        return audio

    main_job.generate = generate
    code = app.run(arguments)
    if code:
        raise SystemExit(f"selva ended with {code}")
    return _account(first)


def _seconds() -> float:
    """CPU seconds of this process since its start, by all threads."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _account(first: list[float]) -> dict[str, Any]:
    from .measure import resident_gb

    return {
        "to_audio": round(first[0], 2),
        "to_end": round(_seconds(), 2),
        "peak_gb": round(resident_gb(), 3),
    }


if __name__ == "__main__":
    main()
