"""``selva bench``: how long each stage takes on this machine."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..options import BenchOptions
from .console import print_json, progress_bar, say, show
from .settings import MODEL, ModelSettings

SETTINGS = BenchOptions()


def bench(
    video: Annotated[Path | None, Parameter(help="Clip to measure with; default: one that is drawn.")] = None,
    /,
    *,
    settings: Annotated[BenchOptions, Parameter(name="*", group="Benchmark")] = SETTINGS,
    random_weights: Annotated[
        bool, Parameter(negative=(), help="Measure with weights that know nothing; needs no files.")
    ] = False,
    model: ModelSettings = MODEL,
    output: Annotated[
        Path | None, Parameter(name=("--output", "-o"), help="JSON file for the result.")
    ] = None,
    json: Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")] = False,
) -> int:
    """Measure how long each stage takes on this machine, and tell what would change it."""
    from ..tasks.bench import bench as measure

    with progress_bar("Measuring") as on_progress:
        result = measure(
            model,
            settings,
            video=video,
            random_weights=random_weights,
            output=output,
            on_progress=on_progress,
        )
    if json:
        print_json(result)
    else:
        for line in _lines(result):
            show(line)
    if output is not None:
        say(f"Wrote {output}")
    return 0


def _lines(result: dict[str, Any]) -> list[str]:
    """A line for each stage, the whole, and the advice."""
    found = [
        f"{result['variant']} on {result['device']} in {result['precision']}, {result['steps']} steps, "
        f"{result['duration']:g} s of video, {result['threads']} CPU threads",
        f"{'loading':9} {result['loading_seconds']:8.2f} s, once",
    ]
    for name, row in result["stages"].items():
        memory = f", {row['peak_memory_gb']:.2f} GB" if "peak_memory_gb" in row else ""
        inside = " (part of features)" if name == "reading" else ""
        found.append(f"{name:9} {row['seconds']:8.2f} s, {row['cpu_seconds']:.2f} CPU s{memory}{inside}")
    factor = result["real_time_factor"]
    found.append(f"{'one sound':9} {result['total_seconds']:8.2f} s, {factor:g} s per second of video")
    if result["peak_memory_gb"] is not None:
        found.append(f"memory    {result['peak_memory_gb']:8.2f} GB at most")
    return [*found, *(f"- {sentence}" for sentence in result["advice"])]
