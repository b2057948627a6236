"""``selva steer``: steering vectors out of clips of a style."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ..options import SteeringExtractionOptions
from .console import print_json, progress_bar, say, show
from .settings import MODEL, Adapters, ModelSettings, Strengths

EXTRACTION = SteeringExtractionOptions()

steer = App(name="steer", help="Steering vectors: directions of a style in the generator.")


@steer.command
def extract(
    *,
    data_dir: Annotated[Path, Parameter(help="Clips of the style: a data set, or name.npz with name.wav.")],
    output: Annotated[Path, Parameter(name=("--output", "-o"), help="File for the vectors, .pt.")],
    contrast_dir: Annotated[
        Path | None,
        Parameter(help="Clips of another style, to be steered away from; default: no conditions at all."),
    ] = None,
    settings: Annotated[SteeringExtractionOptions, Parameter(name="*", group="Extraction")] = EXTRACTION,
    adapter: Adapters = (),
    adapter_strength: Strengths = (),
    model: ModelSettings = MODEL,
    json: Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")] = False,
) -> int:
    """Find how the conditions of a style move the generator, and write it as vectors."""
    from ..tasks.adapter import with_adapters
    from ..tasks.generate import load_model
    from ..tasks.steer import extract_steering

    with progress_bar("Loading") as on_progress:
        bundle = load_model(**model.model_dump(), on_progress=on_progress)
    bundle = with_adapters(bundle, adapter, adapter_strength)
    with progress_bar("Extracting") as on_progress:
        result = extract_steering(
            bundle, data_dir, output, settings, contrast_dir=contrast_dir, on_progress=on_progress
        )
    for note in result["notes"]:
        say(f"NOTE: {note}")
    if json:
        print_json(result)
    else:
        for path, row in result["report"].items():
            numbers = (f"{name.replace('_', ' ')} {value:.3g}" for name, value in row.items() if value)
            show(f"{path}: {', '.join(numbers)}")
    say(f"Wrote {output}")
    return 0
