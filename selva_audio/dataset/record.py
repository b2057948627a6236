"""What a data set is, and ``dataset.json``, in which it is written down.

Paths in the file are relative to its folder, with forward slashes, and none leaves it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from ..files import write_text

VERSION = 1
INDEX = "dataset.json"
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".aiff", ".aif", ".mp3")  # the first one found is taken
Split = Literal["", "train", "val"]
# What a check finds is a fault, for which a clip is left out of training, or worth knowing.
FAULTS = ("no_sound", "features", "short", "silence", "clipping", "duplicate")
REMARKS = ("rate", "band_limited", "lossy", "quiet", "dc", "noise", "picture", "cut", "sync")
_OPTIONAL = ("mask", "origin")


@dataclass(frozen=True, slots=True)
class Origin:
    """What a clip was made from, so that what is done is not done again.

    Attributes:
        file: the video, relative to the folder that was prepared.
        folder: tells folders apart that hold videos of the same name.
        key: SHA-256 of all that the clips of this video depend on.
        start: seconds into the video.
        parts: clips that this video gives.
        side: of the split, where a folder train or val decides it.
    """

    file: str
    folder: str
    key: str
    start: float
    parts: int
    side: Split = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One clip; paths are absolute, and None where there is no such file.

    Attributes:
        id: name of its files.
        video: the picture.
        audio: the sound.
        npz: the features.
        frames: folder with the pictures one by one.
        mask: folder with masks for them.
        label: what kind of sound.
        prompt: sentence for it.
        duration: seconds of picture; 0 = not known.
        fps: pictures per second; 0 = not known.
        source_id: the recording; clips of one recording are never on both sides of a split.
        split: "train", "val", or "" where nothing was decided.
        checks: what was found, by the name of the check: a sentence each.
        origin: how it was made; None for data sets made elsewhere.
    """

    id: str
    video: Path | None = None
    audio: Path | None = None
    npz: Path | None = None
    frames: Path | None = None
    mask: Path | None = None
    label: str = ""
    prompt: str = ""
    duration: float = 0.0
    fps: float = 0.0
    source_id: str = ""
    split: Split = ""
    checks: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = None

    @property
    def faults(self) -> dict[str, str]:
        """Findings for which the clip is left out of training."""
        return {name: text for name, text in self.checks.items() if name not in REMARKS}


@dataclass(frozen=True, slots=True)
class Dataset:
    """Clips in one folder.

    Attributes:
        root: the folder; every path is below it.
        entries: in order.
        settings: numbers that the checks need: ``shortest`` seconds, ``sample_rate`` of the model.
        notes: sentences about what was unusual in reading it.
    """

    root: Path
    entries: tuple[Entry, ...]
    settings: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()


def select(
    dataset: Dataset, *, split: Split = "", label: str = "", with_faults: bool = False
) -> tuple[Entry, ...]:
    """Entries of one side and one label ("" = any), without those that have faults unless asked for."""
    return tuple(
        entry
        for entry in dataset.entries
        if (not split or entry.split == split)
        and (not label or entry.label == label)
        and (with_faults or not entry.faults)
    )


def write_dataset(dataset: Dataset) -> Path:
    """Write ``dataset.json`` whole or not at all; returns its path.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = dataset.root / INDEX
    write_text(path, json.dumps(as_json(dataset), indent=1, ensure_ascii=False) + "\n")
    return path


def as_json(dataset: Dataset) -> dict[str, Any]:
    """The content of ``dataset.json``."""
    return {
        "version": VERSION,
        "settings": dict(dataset.settings),
        "entries": [_plain(entry, dataset.root.resolve()) for entry in dataset.entries],
    }


def count_by(entries: Sequence[Entry], name: Literal["label", "split"]) -> dict[str, int]:
    """How many entries there are of each label or split, in order of name."""
    values = [str(getattr(entry, name)) for entry in entries]
    return {value: values.count(value) for value in sorted(set(values))}


def _plain(entry: Entry, root: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in Entry.__dataclass_fields__:
        value = getattr(entry, name)
        if isinstance(value, Path):
            value = value.relative_to(root).as_posix()
        elif isinstance(value, Origin):
            value = asdict(value)
        elif isinstance(value, Mapping):
            value = dict(value)
        values[name] = value
    return {name: value for name, value in values.items() if value is not None or name not in _OPTIONAL}
