"""A folder of clips, one by one beside overlapped: seconds by the clock and CPU seconds.

Both ways run in turns in one process on the same drawn clips, each time with a new prompt and an empty cache;
the sounds are the same to the byte. Weights are random where the package has none.

What overlapping wins by the clock depends on a core that nothing else uses. CPU seconds of the thread that
the model works in do not: they are what is left to wait for where that core is free.

``OMP_NUM_THREADS=1 python -m benchmarks.folder`` prints a JSON line for each variant and writes
`results/folder.json`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

from selva_audio.bundle import SelVAModel, load_model, untrained_model
from selva_audio.media.encode import write_video
from selva_audio.options import FeatureOptions, GenerateOptions, OutputOptions
from selva_audio.progress import ignore_progress
from selva_audio.records import RunResult
from selva_audio.scenes import FPS, draw_frames, draw_scene
from selva_audio.tasks.batch import Job, plan_jobs
from selva_audio.tasks.pipeline import Outcome, run_in_turn, run_overlapped
from selva_audio.tasks.run import PlannedRun, plan_run

from .results import write_result

# Variant -> clips, steps and rounds.
_SIZES = {"demo_16k": (6, 25, 15), "small_16k": (2, 8, 3)}
_WAYS: dict[str, Callable[..., None]] = {"one by one": run_in_turn, "overlapped": run_overlapped}


def measure(model: SelVAModel, clips: Path, options: GenerateOptions, rounds: int) -> dict[str, Any]:
    """Seconds per clip of both ways, and how many times as fast the second one is, in each round."""
    clocks = (time.perf_counter, time.process_time, time.thread_time)
    taken: dict[str, list[list[float]]] = {way: [] for way in _WAYS}
    stages: dict[str, list[float]] = {"features": [], "generate": [], "write": []}
    for number in range(-1, rounds):  # the first round is for what is made once
        for way in sorted(_WAYS, reverse=bool(number % 2)):
            with tempfile.TemporaryDirectory() as folder:
                jobs = plan_jobs([clips], Path(folder) / "out")
                before = [clock() for clock in clocks]
                ended = run_folder(
                    model, jobs, options, _WAYS[way], f"{way} {number}", Path(folder) / "cache"
                )
                after = [clock() for clock in clocks]
            if number < 0:
                continue
            taken[way].append([(b - a) / len(jobs) for a, b in zip(before, after, strict=True)])
            if way == "one by one":
                for stage, each in stages.items():
                    each.append(sum(result.seconds[stage] for result in ended) / len(jobs))
    ratios = [plain[0] / both[0] for plain, both in zip(*taken.values(), strict=True)]
    seconds, cpu_seconds, thread_seconds = (
        {way: median(each[place] for each in rows) for way, rows in taken.items()} for place in range(3)
    )
    return {
        "variant": model.config.name,
        "precision": model.policy.precision,
        "clips": len(jobs),
        "steps": options.steps,
        "rounds": rounds,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "thread_seconds": thread_seconds,
        "stages": {stage: median(each) for stage, each in stages.items()},
        "ratio": median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        "thread_ratio": thread_seconds["one by one"] / thread_seconds["overlapped"],
    }


def run_folder(
    model: SelVAModel,
    jobs: list[Job],
    options: GenerateOptions,
    run_all: Callable[..., None],
    prompt: str,
    cache: Path,
) -> list[RunResult]:
    """All results; one that fails is an error here."""
    features = FeatureOptions(prompt=prompt, cache_dir=cache)
    ended: list[RunResult] = []

    def plan(job: Job) -> PlannedRun:
        return plan_run(model, job.video, job.output, features, options, output_options=OutputOptions())

    def on_end(job: Job, outcome: Outcome) -> None:
        if not isinstance(outcome, RunResult):
            raise outcome
        ended.append(outcome)

    run_all(model, jobs, plan, lambda job: nullcontext(ignore_progress), on_end)
    return ended


def draw_clips(folder: Path, count: int, duration: float, size: int) -> None:
    """Drawn clips of equal length."""
    for seed in range(count):
        scene = draw_scene(seed, split="test", num_objects=2, duration=duration)
        write_video(draw_frames(scene, size), FPS, folder / f"{seed}.mp4")


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", nargs="+", choices=_SIZES, default=list(_SIZES))
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--duration", type=float, default=2.0)
    parser.add_argument("--size", type=int, default=1080, help="Rows and columns of a clip.")
    parser.add_argument("--dry", action="store_true", help="Print only.")
    given = parser.parse_args()
    rows = []
    for variant in given.variants:
        count, steps, rounds = _SIZES[variant]
        make = load_model if variant == "demo_16k" else untrained_model
        model = make(variant, device="cpu", precision=given.precision)
        with tempfile.TemporaryDirectory() as folder:
            draw_clips(Path(folder), count, given.duration, given.size)
            row = measure(model, Path(folder), GenerateOptions(steps=steps), rounds)
        rows.append(row | {"duration": given.duration, "size": given.size})
        print(json.dumps(rows[-1]), flush=True)
    if not given.dry:
        write_result("folder", {"rows": rows})


if __name__ == "__main__":
    main()
