"""``selva dataset``: make a data set of videos, check it, look at it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from ..configs import get_config
from ..options import DatasetOptions
from .console import print_json, progress_bar, say, show
from .settings import MODEL, ModelSettings

if TYPE_CHECKING:
    from ..tasks.dataset import Dataset

Json = Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")]
Place = Annotated[Path, Parameter(help="Folder of a data set, or its dataset.json.")]
CLIPS = DatasetOptions()

dataset = App(name="dataset", help="Data sets to train on: make one of videos, check it, look at it.")


@dataset.command
def prepare(
    source: Annotated[
        Path,
        Parameter(
            help="Folder of videos with sound, with folders in it or without; with --fix also a data set."
        ),
    ],
    output: Annotated[Path, Parameter(help="Folder for the data set: new, empty, or of an earlier run.")],
    /,
    *,
    settings: Annotated[DatasetOptions, Parameter(name="*", group="Clips")] = CLIPS,
    model: ModelSettings = MODEL,
    json: Json = False,
) -> int:
    """Make clips of features and sound out of videos; or, with --fix, a mended copy of a data set."""
    from ..tasks.dataset import as_json, prepare_dataset
    from ..tasks.dataset_repair import is_dataset
    from ..tasks.generate import load_model

    if settings.fix and is_dataset(source):
        return _repair(source, output, settings, model, json)

    with progress_bar("Loading") as on_progress:
        bundle = load_model(**model.model_dump(), on_progress=on_progress)
    with progress_bar("Preparing") as on_progress:
        result = prepare_dataset(bundle, source, output, settings, on_progress=on_progress)
    for name, sentence in result.failed.items():
        say(f"Failed: {name}: {sentence}")
    for note in result.notes:
        say(f"NOTE: {note}")
    _tell_findings(result.dataset)
    sides = _sides(result.dataset)
    there = f" ({result.skipped} were there)" if result.skipped else ""
    say(f"Wrote {len(result.written)} clips to {output}{there}; {len(result.failed)} videos failed. {sides}")
    if json:
        about = {"written": result.written, "skipped": result.skipped, "failed": result.failed}
        print_json(as_json(result.dataset) | about | {"notes": result.notes})
    return 1 if result.failed else 0


@dataset.command
def check(place: Place, /, *, json: Json = False) -> int:
    """Check every clip of a data set anew: sound, features, silence, clipping, copies."""
    from ..tasks.dataset import as_json, check_dataset

    with progress_bar("Checking") as on_progress:
        result = check_dataset(place, on_progress=on_progress)
    failed = [entry.id for entry in result.entries if entry.faults]
    for note in result.notes:
        say(f"NOTE: {note}")
    _tell_findings(result)
    say(f"{len(result.entries) - len(failed)} of {len(result.entries)} clips are fit for training.")
    if json:
        print_json(as_json(result) | {"failed": failed, "notes": result.notes})
    return 1 if failed else 0


@dataset.command(name="show")
def show_dataset(
    place: Place,
    /,
    *,
    split: Annotated[Literal["", "train", "val"], Parameter(help="Clips of this side only.")] = "",
    label: Annotated[str, Parameter(help="Clips with this label only.")] = "",
    faults: Annotated[bool, Parameter(negative=(), help="Clips with faults only.")] = False,
    picture: Annotated[Path | None, Parameter(help="PNG file for a picture of the clips.")] = None,
    json: Json = False,
) -> int:
    """List the clips of a data set."""
    from ..tasks.dataset import as_json, draw_dataset, read_dataset, select

    found = read_dataset(place)
    for note in found.notes:
        say(f"NOTE: {note}")
    chosen = select(found, split=split, label=label, with_faults=True)
    result = replace(found, entries=tuple(entry for entry in chosen if entry.faults or not faults))
    if json:
        print_json(as_json(result))
    else:
        for line in _table(result):
            show(line)
    if picture is not None:
        with progress_bar("Drawing") as on_progress:
            draw_dataset(result, picture, on_progress=on_progress)
        say(f"Wrote {picture}")
    return 0


def _repair(source: Path, output: Path, settings: DatasetOptions, model: ModelSettings, json: bool) -> int:
    """A mended copy of a data set; it needs no model, only the model's sample rate."""
    from ..tasks.dataset import as_json
    from ..tasks.dataset_repair import repair_dataset

    rate = get_config(model.variant).sample_rate
    unused = settings.model_dump(exclude_defaults=True, exclude={"fix"})
    if unused:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        say(f"NOTE: without effect on a data set: {flags}.")
    with progress_bar("Mending") as on_progress:
        result = repair_dataset(source, output, sample_rate=rate, on_progress=on_progress)
    for name, sentence in result.left_out.items():
        say(f"Left out: {name}: {sentence}")
    for note in result.notes:
        say(f"NOTE: {note}")
    _tell_findings(result.dataset)
    say(f"Wrote {len(result.dataset.entries)} clips to {output}; {len(result.left_out)} were left out.")
    if json:
        print_json(as_json(result.dataset) | {"left_out": result.left_out, "notes": result.notes})
    return 1 if result.left_out else 0


def _tell_findings(found: "Dataset") -> None:
    for entry in found.entries:
        for sentence in entry.checks.values():
            say(f"  {entry.id}: {sentence}")


def _sides(found: "Dataset") -> str:
    usable = [entry for entry in found.entries if not entry.faults]
    counts = {side: sum(entry.split == side for entry in usable) for side in ("train", "val")}
    return f"Fit for training: {counts['train']} clips, for validation: {counts['val']}."


def _table(found: "Dataset") -> list[str]:
    head = ("id", "label", "prompt", "seconds", "split", "findings")
    rows = [
        (
            entry.id,
            entry.label,
            entry.prompt,
            f"{entry.duration:.2f}",
            entry.split or "-",
            ", ".join(entry.checks) or "-",
        )
        for entry in found.entries
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
