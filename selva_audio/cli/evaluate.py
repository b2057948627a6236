"""``selva evaluate``: how selective a model is, what adapters do, and what sounds are like."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from pydantic import Field

from ..errors import InputError
from ..options import LoadOptions, SelectivityOptions
from .console import print_json, progress_bar, say, show
from .settings import (
    INVERSION,
    STEERING,
    Adapters,
    InversionSettings,
    ModelSettings,
    Steering,
    SteeringSettings,
    Strengths,
    TextualInversion,
    Vocoder,
)
from .settings import MODEL as ANY_MODEL

Json = Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")]
Output = Annotated[Path | None, Parameter(name=("--output", "-o"), help="JSON file for the result.")]

evaluate = App(name="evaluate", help="Score a model, compare adapters, or measure the sounds of a folder.")


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
    textual_inversion: TextualInversion = None,
    inversion: InversionSettings = INVERSION,
    vocoder: Vocoder = None,
    steering: Steering = None,
    steering_settings: SteeringSettings = STEERING,
    model: Annotated[BenchmarkModel, Parameter(name="*", group="Model")] = MODEL,
    output: Output = None,
    figure: Annotated[Path | None, Parameter(help="PNG file for a picture of the result.")] = None,
    json: Json = False,
) -> int:
    """Prompt for one object of a scene at a time; score timing, selection and material."""
    if folder is not None and figure is not None:
        raise InputError("--figure draws the benchmark of drawn scenes, not --folder. Leave one of them out.")
    from ..tasks.evaluate import evaluate_selectivity
    from ..tasks.evaluate_folder import evaluate_folder
    from ..tasks.generate import load_model
    from ..tasks.style import with_files

    with progress_bar("Loading") as on_progress:
        bundle = load_model(**model.model_dump(), on_progress=on_progress)
    bundle = with_files(
        bundle,
        adapters=adapter,
        strengths=adapter_strength,
        textual_inversion=textual_inversion,
        inversion=inversion,
        vocoder=vocoder,
        steering=steering,
        steering_options=steering_settings,
    )
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
def adapters(
    plan: Annotated[Path, Parameter(help="JSON file: data_dir, output_dir, and the adapters to compare.")],
    /,
    *,
    model: ModelSettings = ANY_MODEL,
    json: Json = False,
) -> int:
    """Make the same sounds with each adapter, and measure them beside the recordings and the base."""
    from ..tasks.evaluate_adapters import evaluate_adapters, read_plan
    from ..tasks.generate import load_model

    asked = read_plan(plan)
    with progress_bar("Loading") as on_progress:
        bundle = load_model(**model.model_dump(), on_progress=on_progress)
    with progress_bar("Comparing") as on_progress:
        found = evaluate_adapters(bundle, asked, on_progress=on_progress)
    for sentence in found.failures:
        say(f"Failed: {sentence}")
    if json:
        print_json(found.summary)
    else:
        for line in _comparison(found.summary):
            show(line)
    for path in (found.summary_path, found.figure_path):
        if path is not None:
            say(f"Wrote {path}")
    return 1 if found.failures else 0


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


# Key, whether it is of the whole set, and how it is headed.
_COLUMNS = (
    ("ltas_distance", True, "ltas dB"),
    ("mel_gram_distance", True, "mel gram"),
    ("kad_mel", True, "kad_mel"),
    ("lsd", False, "lsd dB"),
    ("mel_l1", False, "mel l1"),
    ("onset_f1_50ms", False, "onset F1"),
    ("diversity", False, "diversity"),
)


def _comparison(summary: dict[str, Any]) -> list[str]:
    """A row for each adapter: means, the half width of their bounds, copies and forgetting."""
    head = ["adapter", *(title for *_, title in _COLUMNS), "copies", "forgetting"]
    rows = [head]
    for adapter in summary["adapters"]:
        if adapter["status"] != "completed":
            rows.append([adapter["id"], adapter["status"]])
            continue
        cells = [_cell(adapter, key, of_set) for key, of_set, _ in _COLUMNS]
        forgotten = adapter.get("forgetting")
        told = "-" if forgotten is None else f"{forgotten['share']:+.1%}"
        rows.append([adapter["id"], *cells, str(len(adapter["copies"])), told])
    widths = [max(len(row[place]) for row in rows if place < len(row)) for place in range(len(head))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    ]


def _cell(adapter: dict[str, Any], key: str, of_set: bool) -> str:
    if of_set:
        found = adapter["set_metrics"].get(key) or {}
        value, low, high = (found.get(name) for name in ("value", "low", "high"))
    else:
        value = adapter["avg_metrics"].get(key)
        low, high = adapter["intervals"].get(key, (None, None))
    if value is None:
        return "-"
    return f"{value:.3g}" if low is None or high is None else f"{value:.3g} ±{(high - low) / 2:.2g}"
