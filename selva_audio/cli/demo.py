"""``selva demo``: the whole path on the embedded model, with nothing downloaded."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .console import print_json, progress_bar, say


def demo(
    *,
    output: Annotated[
        Path, Parameter(name=("--output", "-o"), help="Folder for the videos and pictures.")
    ] = Path("demo_out"),
    seed: Annotated[int, Parameter(help="Seed of the noise.")] = 0,
    json: Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")] = False,
) -> int:
    """Draw a clip of two bouncing balls and make the sound of each."""
    from ..tasks.demo import run_demo

    with progress_bar("Demo") as on_progress:
        result = run_demo(output, seed=seed, on_progress=on_progress)
    if result.warning:
        say(f"NOTE: {result.warning}")
    for path in (*result.videos, result.picture):
        say(f"Wrote {path}")
    if json:
        print_json({"videos": result.videos, "picture": result.picture, "warning": result.warning})
    return 0
