"""``selva evaluate``: how selective a model is, and what sounds are like."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from pydantic import Field

from ..errors import InputError
from ..options import LoadOptions, SelectivityOptions
from .console import print_json, progress_bar, say, show
from .settings import Adapters, Strengths

Json = Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")]
Output = Annotated[Path | None, Parameter(name=("--output", "-o"), help="JSON file for the result.")]

evaluate = App(name="evaluate", help="Score a model on drawn scenes, or the sounds of a folder.")


class BenchmarkModel(LoadOptions):
    """The model to score; the embedded one, since drawn scenes are what it was trained for."""

    variant: str = Field(default="demo_16k", description="Model variant; `selva models list` shows them all.")


SETTINGS, MODEL = SelectivityOptions(), BenchmarkModel()


@evaluate.command
def selectivity(
    *,
    settings: Annotated[SelectivityOptions, Parameter(name="*", group="Benchmark")] = SETTINGS,
    folder: Annotated[
        Path | None,
        Parameter(help="Instead of drawn scenes: a folder of CLASS/NAME.mp4 with sound, CLASS the prompt."),
    ] = None,
    adapter: Adapters = (),
    adapter_strength: Strengths = (),
    model: Annotated[BenchmarkModel, Parameter(name="*", group="Model")] = MODEL,
    output: Output = None,
    figure: Annotated[Path | None, Parameter(help="PNG file for a picture of the result.")] = None,
    json: Json = False,
) -> int:
    """Prompt for one object of a scene at a time; score timing, selection and material."""
    if folder is not None and figure is not None:
        raise InputError("--figure draws the benchmark of drawn scenes, not --folder. Leave one of them out.")
    from ..tasks.adapter import with_adapters
    from ..tasks.evaluate import evaluate_selectivity
    from ..tasks.evaluate_folder import evaluate_folder
    from ..tasks.generate import load_model

    with progress_bar("Loading") as on_progress:
        bundle = load_model(**model.model_dump(), on_progress=on_progress)
    bundle = with_adapters(bundle, adapter, adapter_strength)
    with progress_bar("Scoring") as on_progress:
        if folder is not None:
            result = evaluate_folder(bundle, folder, settings, output=output, on_progress=on_progress)
        else:
            result = evaluate_selectivity(
                bundle, settings, output=output, figure=figure, on_progress=on_progress
            )
    _finish(result, output, figure, json)
    return 0


@evaluate.command
def clips(
    folder: Annotated[Path, Parameter(help="Folder of sounds, or of videos with sound.")],
    /,
    *,
    reference: Annotated[
        Path | None, Parameter(help="Folder with references of the same names, to tell distances.")
    ] = None,
    output: Output = None,
    json: Json = False,
) -> int:
    """Tell loudness, true peak, onsets and brightness of every sound in a folder."""
    from ..tasks.evaluate_folder import evaluate_clips

    with progress_bar("Listening") as on_progress:
        result = evaluate_clips(folder, reference, output=output, on_progress=on_progress)
    for name in result["without_reference"]:
        say(f"NOTE: {name} has no reference.")
    if not json:
        for name, row in result["clips"].items():
            show(f"{name}: {_numbers(row)}")
    _finish({"means": result["means"]} if not json else result, output, None, json)
    return 0


def _finish(result: dict[str, Any], output: Path | None, figure: Path | None, json: bool) -> None:
    """The result on stdout, and what was written on stderr."""
    if json:
        print_json(result)
    else:
        show(_numbers(result))
        for name, row in {**result.get("controls", {}), **_rows(result)}.items():
            show(f"{name}: {_numbers(row)}")
    for path in (output, figure):
        if path is not None:
            say(f"Wrote {path}")


def _rows(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {key: result[key] for key in ("worst", "held_out", "classes", "means") if key in result}


def _numbers(row: dict[str, Any]) -> str:
    """The numbers of a row in one line; what is text, list or row itself is left out."""
    shown = {key: value for key, value in row.items() if isinstance(value, float)}
    return ", ".join(f"{key} {value:g}" for key, value in shown.items())
