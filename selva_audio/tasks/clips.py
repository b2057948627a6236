"""The clips of a data set, encoded for a training: which files of a folder are clips, and on which side."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ..bundle import SelVAModel
from ..dataset import INDEX, Entry, read_dataset, with_splits
from ..dataset.sources import find_videos
from ..errors import InputError, MissingFileError
from ..options import DatasetOptions, LoraOptions
from ..progress import ProgressFn, ignore_progress
from ..training.clips import Clips, ClipSource, Pad, encode_clips
from .dataset import prepare_dataset


def load_clips(
    model: SelVAModel,
    data_dir: str | Path,
    *,
    pad: Pad = "zero",
    val_fraction: float = LoraOptions.model_fields["val_fraction"].default,
    prepared: str | Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> Clips:
    """The clips of a folder, encoded; sounds that are known are not encoded again.

    Args:
        model: bundle of ``load_model``.
        data_dir: data set or folder of pairs; a folder ``val`` in it holds those for validation.
        pad: what follows short sounds.
        val_fraction: share of the recordings for validation, where nothing else decides it.
        prepared: where a folder of videos alone is prepared; None refuses such a folder.
        on_progress: progress and cancel.

    Raises:
        MissingFileError: nothing to train on.
        InputError: nothing that can be used.
    """
    folder, notes = Path(data_dir), tuple[str, ...]()
    if not folder.is_dir() and folder.name != INDEX:
        raise MissingFileError(
            f"There is no folder {folder}. Make a data set with `selva dataset prepare VIDEOS FOLDER`."
        )
    if prepared is not None and _has_videos_alone(folder, Path(prepared)):
        done = prepare_dataset(
            model, folder, prepared, DatasetOptions(val_fraction=val_fraction), on_progress=on_progress
        )
        folder = done.folder
        notes = (*(f"{name}: {sentence}" for name, sentence in done.failed.items()), *done.notes)
    sources, found = _sources(folder, val_fraction)
    clips = encode_clips(model, sources, pad=pad, on_progress=on_progress)
    return replace(clips, notes=(*notes, *found, *clips.notes))


def _has_videos_alone(folder: Path, leave: Path) -> bool:
    """Whether there are videos, and nothing that is prepared already."""
    if not folder.is_dir() or (folder / INDEX).is_file() or any(folder.glob("*.npz")):
        return False
    with contextlib.suppress(MissingFileError):
        return bool(find_videos(folder, leave=leave))
    return False


def _sources(folder: Path, val_fraction: float) -> tuple[list[ClipSource], tuple[str, ...]]:
    """The clips that are fit for training, and a sentence for each that is not."""
    dataset = read_dataset(folder)
    entries, notes = list(dataset.entries), list(dataset.notes)
    held = folder / "val"
    if held.is_dir() and any(held.glob("*.npz")) and not any(entry.split for entry in entries):
        inner = read_dataset(held)
        entries = [_on_side(entry, "train") for entry in entries]
        entries += [_on_side(entry, "val") for entry in inner.entries]
        notes += inner.notes
    sources = []
    for entry in with_splits(
        entries, 0.0 if any(each.split == "val" for each in entries) else val_fraction, 0
    ):
        if entry.faults or entry.npz is None or entry.audio is None:
            notes.append(f"{entry.id} is left out: {' '.join(entry.faults.values())}")
            continue
        side = entry.split or "train"
        sources.append(ClipSource(entry.id, entry.npz, entry.audio, entry.prompt, entry.source_id, side))
    if not sources:
        shown = " ".join(notes[:3])
        raise InputError(f"No clip in {folder} is fit for training. {shown}")
    if val_fraction and not any(each.split == "val" for each in sources):
        notes.append(
            "No clip is for validation: all are of one recording, or the data set says so. Put clips of "
            "another recording in a folder val; names that differ in a last _NUMBER only are one recording."
        )
    return sources, tuple(notes)


def _on_side(entry: Entry, side: Literal["train", "val"]) -> Entry:
    """An entry of a folder of its own; one recording is on one side all the same."""
    return replace(entry, split=side, source_id=f"{side}/{entry.source_id}")
