"""``selva demo``: the whole path on the embedded model, nothing downloaded; and drawn scenes as files."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from ..errors import InputError
from ..options import SceneOptions
from .console import print_json, progress_bar, say

if TYPE_CHECKING:
    from ..tasks.demo import DemoResult

Json = Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")]

demo = App(name="demo", help="Make the sound of each of two drawn bouncing balls, and score it.")
SCENES = SceneOptions()


@demo.default
def run(
    *,
    output: Annotated[
        Path, Parameter(name=("--output", "-o"), help="Folder for the videos and pictures.")
    ] = Path("demo_out"),
    seed: Annotated[int, Parameter(help="Seed of the noise.")] = 0,
    video: Annotated[Path | None, Parameter(help="A clip of your own, in place of the drawn one.")] = None,
    prompt: Annotated[
        str, Parameter(name=("--prompt", "-p"), help="What that clip should sound of; only with --video.")
    ] = "",
    json: Json = False,
) -> int:
    """Make the sound of each of two drawn bouncing balls, and score it."""
    if prompt and video is None:
        raise InputError("--prompt goes with --video FILE; the drawn clip is prompted with its own objects.")
    from ..tasks.demo import run_demo, run_demo_on_video

    with progress_bar("Demo") as on_progress:
        if video is None:
            result = run_demo(output, seed=seed, on_progress=on_progress)
        else:
            result = run_demo_on_video(video, prompt, output, seed=seed, on_progress=on_progress)
    _tell(result)
    if json:
        fields = asdict(result)
        print_json(fields.pop("overall") | fields)
    return 0


@demo.command
def scenes(
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"), help="New folder for the scenes.")],
    options: Annotated[SceneOptions, Parameter(name="*", group="Scenes")] = SCENES,
    json: Json = False,
) -> int:
    """Draw scenes whose sounds are known, and write them as a data set."""
    from ..tasks.scenes import write_scenes

    with progress_bar("Scenes") as on_progress:
        result = write_scenes(output, options, on_progress=on_progress)
    there = len(result.scenes) - result.written
    say(f"Wrote {result.written} scenes to {result.folder}{f'; {there} were there' if there else ''}.")
    if json:
        print_json(asdict(result))
    return 0


def _tell(result: "DemoResult") -> None:
    if result.warning:
        say(f"NOTE: {result.warning}")
    for note in result.notes:
        say(f"  {note}")
    for path in (*result.videos, result.picture):
        say(f"Wrote {path}")
    for prompt, score in result.scores.items():
        say(
            f"{prompt}: onset F1 {score['onset_f1_50ms']:.2f} at 50 ms, "
            f"{score['cross_hits']:.0%} of the other ball's impacts hit, "
            f"{score['material_accuracy']:.0%} of its own sound right"
        )
