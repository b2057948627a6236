"""Which recordings are for training and which for validation."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .record import Entry, Split


def with_splits(entries: Sequence[Entry], val_fraction: float, seed: int) -> tuple[Entry, ...]:
    """Entries with a side each; whole recordings, the same ones in every run.

    What has a side keeps it, and takes the rest of its recording along. Of the others, as many recordings
    go to validation as are missing to the share ``val_fraction`` of all: at least one, and never all.
    A recording without a clip that is fit for training counts as none, and stays with training.
    The choice is by hash of seed and name.

    Args:
        entries: any; those that share ``source_id`` are one recording.
        val_fraction: 0 to under 1; 0 adds nothing to validation.
        seed: another seed, another choice.
    """
    sides: dict[str, Split] = {entry.source_id: entry.split for entry in entries if entry.split}
    names = {entry.source_id for entry in entries if not entry.faults}
    free = sorted(names - sides.keys(), key=lambda name: _rank(name, seed))
    count = 0
    if val_fraction and len(names) > 1:
        wanted = min(max(round(val_fraction * len(names)), 1), len(names) - 1)
        count = max(wanted - sum(sides.get(name) == "val" for name in names), 0)
    sides |= {name: "val" if place < count else "train" for place, name in enumerate(free)}
    return tuple(replace(entry, split=sides.get(entry.source_id, "train")) for entry in entries)


def decide_splits(
    entries: Sequence[Entry], before: Mapping[str, float], settings: Mapping[str, float]
) -> tuple[Entry, ...]:
    """Sides for all clips of a data set after a run.

    Folders train and val come first; with a folder val, all else is for training. What an earlier run
    decided stays, unless the split is asked for in another way now.

    Args:
        entries: with the sides that they have.
        before: ``val_fraction`` and ``split_seed`` of the earlier run; empty for a first one.
        settings: those of this run.
    """
    stays = all(before.get(name) == settings[name] for name in ("val_fraction", "split_seed"))
    given = [entry.origin.side if entry.origin else "" for entry in entries]
    sided = [
        replace(entry, split=side or (entry.split if stays else ""))
        for entry, side in zip(entries, given, strict=True)
    ]
    fraction = 0.0 if "val" in given else settings["val_fraction"]
    return with_splits(sided, fraction, int(settings["split_seed"]))


def _rank(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogatepass")).hexdigest()
