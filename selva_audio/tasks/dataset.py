"""Data sets: listed, checked, drawn; how they are made of videos is in ``prepare.py``."""

from dataclasses import replace
from pathlib import Path

from ..dataset import Dataset, as_json, check_entries, read_dataset, select
from ..dataset.browse import Browsed, browse
from ..dataset.overview import overview_figure
from ..errors import InputError
from ..plots import save_figure
from ..progress import ProgressFn, ignore_progress
from .prepare import PrepareResult, prepare_dataset

__all__ = [
    "Browsed",
    "Dataset",
    "PrepareResult",
    "as_json",
    "browse",
    "check_dataset",
    "draw_dataset",
    "prepare_dataset",
    "read_dataset",
    "select",
]


def check_dataset(path: str | Path, *, on_progress: ProgressFn = ignore_progress) -> Dataset:
    """Read a data set and check every clip anew; nothing is written.

    Raises:
        MissingFileError, InputError: see ``read_dataset``.
    """
    dataset = read_dataset(path)
    entries = tuple(check_entries(dataset.entries, dataset.settings, on_progress=on_progress))
    return replace(dataset, entries=entries)


def draw_dataset(dataset: Dataset, path: Path, *, on_progress: ProgressFn = ignore_progress) -> Path:
    """Write a picture of the first clips, one spectrogram each.

    Raises:
        InputError: a name that does not end in .png, or no clip with sound.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"Pictures are written as PNG, not {path.name!r}. End the name in .png.")
    return save_figure(overview_figure(dataset, on_progress=on_progress), path)
