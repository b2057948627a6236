"""One clip of a data set at a time, and where its files are."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .record import Dataset, Entry, Split, select


@dataclass(frozen=True, slots=True)
class Browsed:
    """A clip and its place among those that were asked for.

    Attributes:
        entry: the clip.
        index: its place.
        total: number of clips that were asked for.
    """

    entry: Entry
    index: int
    total: int

    def sound(self, suffix: str) -> Path | None:
        """The sound file with an ending such as ".wav"; None where there is none."""
        known = self.entry.audio or self.entry.npz
        path = known.with_suffix(suffix) if known is not None else None
        return path if path is not None and path.is_file() else None

    @property
    def sentence(self) -> str:
        """What the clip is, what it lacks, and what was found wrong with it."""
        entry = self.entry
        files = {"video": entry.video, "sound": entry.audio, "features": entry.npz}
        missing = [name for name, path in files.items() if path is None or not path.exists()]
        parts = [
            f"{self.index + 1} of {self.total}: {entry.id}",
            f"{entry.label}: {entry.prompt}" if entry.label else entry.prompt,
            f"for {entry.split}" if entry.split else "",
            f"missing: {', '.join(missing)}" if missing else "",
            *entry.checks.values(),
        ]
        return ", ".join(part for part in parts if part)


def browse(
    dataset: Dataset, index: int, *, split: Split = "", label: str = "", with_faults: bool = True
) -> Browsed:
    """The clip at a place; past the end it goes on from the start.

    Args:
        dataset: any.
        index: from 0, counted among the clips that are asked for.
        split: "train" or "val"; "" = both.
        label: clips with this label; "" = any.
        with_faults: clips that are not fit for training too.

    Raises:
        InputError: no clip is as asked for.
    """
    found = select(dataset, split=split, label=label, with_faults=with_faults)
    if not found:
        labels = ", ".join(sorted({entry.label for entry in dataset.entries})) or "none"
        raise InputError(
            f"No clip of {dataset.root} is as asked for, of {len(dataset.entries)}. Its labels: {labels}."
        )
    place = index % len(found)
    return Browsed(found[place], place, len(found))
