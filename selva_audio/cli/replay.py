"""``selva replay``: make a result again from its recipe."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .console import print_json, progress_bar, say


def replay(
    file: Annotated[Path, Parameter(help="A result of `selva generate`, or its .json.")],
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(name=("--output", "-o"), help="File to write; default: the name with _replay."),
    ] = None,
    video: Annotated[Path | None, Parameter(help="Where the source video is now.")] = None,
    mask: Annotated[Path | None, Parameter(help="Where the mask is now.")] = None,
    device: Annotated[str | None, Parameter(help="Device; default: the recipe's.")] = None,
    models_dir: Annotated[Path | None, Parameter(help="Folder with the weight files.")] = None,
    json: Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")] = False,
) -> int:
    """Make a sound again from its recipe."""
    from ..tasks.replay import replay as run

    with progress_bar(file.name) as on_progress:
        result = run(
            file,
            output,
            video=video,
            mask=mask,
            device=device,
            models_dir=models_dir,
            on_progress=on_progress,
        )
    for note in result.notes:
        say(f"  {note}")
    say(f"Done: {result.outputs[0]}")
    if json:
        print_json({"outputs": result.outputs, "seconds": result.seconds, "recipe": result.recipe})
    return 0
