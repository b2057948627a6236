"""Sounds in memory on their way to a data set: loaded from a folder, worked on one by one, picked, saved.

What is done to them lies elsewhere: variants in ``augment.py``, judgement in ``inspection.py``, files in
``save.py``.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError, MediaError, MissingFileError, SelVAError
from ..files import safe_name
from ..media.audio import read_audio
from ..progress import Progress, ProgressFn, ignore_progress, subtask
from ..records import Audio
from .record import AUDIO_SUFFIXES

# Of a name with several endings, the first here is taken.
SUFFIXES = (*AUDIO_SUFFIXES, ".m4a", ".aac", ".opus")
# 8 GiB of float32: what is larger would not fit beside a model.
_MOST_SAMPLES = 2**31
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class SoundClip:
    """One sound with its name.

    Attributes:
        audio: one take.
        name: of its files, without ending; unique in its set.
        origin_name: name of the sound that it was made from; "" for one that came from a file.
        path: the file that it, or its origin, was read from; None where it is not known.
        stretch: length over that of the origin. Other than 1, its events are at other times than those of the
            origin, whose features then do not belong to it.
    """

    audio: Audio
    name: str
    origin_name: str = ""
    path: Path | None = None
    stretch: float = 1.0

    @property
    def origin(self) -> str:
        """Name of the sound that it was made from; its own where it was made from none."""
        return self.origin_name or self.name


@dataclass(frozen=True, slots=True)
class SoundSet:
    """Sounds in order.

    Attributes:
        sounds: with names that are unique, whatever their case.
        notes: sentences about what was unusual in the last step.
    """

    sounds: tuple[SoundClip, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.sounds)


def load_sounds(folder: str | Path, *, on_progress: ProgressFn = ignore_progress) -> SoundSet:
    """All sounds of a folder and of the folders in it, in order of path; hidden ones are left out.

    A sound is named after its file, and after its folders too where several files are of one name. Files that
    cannot be read are left out with a note.

    Raises:
        MissingFileError: no such folder, or no sound in it.
        MediaError: none of them can be read.
        InputError: more than fits into memory.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder {folder}. Give a folder of sounds.")
    found, notes = _find(folder)
    names = _names([path.relative_to(folder) for path in found])
    sounds, samples = [], 0
    unread: dict[str, str] = {}
    for place, (path, name) in enumerate(zip(found, names, strict=True)):
        on_progress(Progress("reading sounds", place, len(found)))
        try:
            audio = read_audio(path)
        except (MediaError, MissingFileError) as error:
            unread[path.name] = str(error)
            continue
        samples += audio.waveform.numel()
        if samples > _MOST_SAMPLES:
            raise InputError(
                f"The sounds of {folder} take more than {_MOST_SAMPLES >> 28} GB of memory. Split the folder."
            )
        sounds.append(SoundClip(audio, name, path=path.resolve()))
    on_progress(Progress("reading sounds", len(found), len(found)))
    if not sounds:
        raise MediaError(f"No sound of {folder} can be read. {next(iter(unread.values()))}")
    notes += [f"Left out: {sentence}" for sentence in unread.values()]
    return SoundSet(tuple(sounds), tuple(notes))


def each_sound(
    sounds: SoundSet,
    tool: Callable[[Audio, ProgressFn], tuple[Audio, Sequence[str]]],
    *,
    on_progress: ProgressFn = ignore_progress,
) -> SoundSet:
    """Do one thing to every sound; names, origins and files stay with them.

    Args:
        sounds: any number.
        tool: from a sound and a progress function to the new sound and sentences about it.
        on_progress: progress and cancel.

    Raises:
        SelVAError: ``tool`` refuses a sound; the message names it.
    """
    done, notes = [], []
    for place, sound in enumerate(sounds.sounds):
        share = subtask(on_progress, place / len(sounds), (place + 1) / len(sounds))
        try:
            audio, said = tool(sound.audio, share)
        except SelVAError as error:
            raise type(error)(f"{sound.name}: {error}") from error
        done.append(replace(sound, audio=replace(audio, notes=())))
        notes += [f"{sound.name}: {sentence}" for sentence in said]
    return SoundSet(tuple(done), tuple(notes))


def take_sound(sounds: SoundSet, index: int) -> SoundClip:
    """The sound at a place; past the end it goes on from the start.

    Raises:
        InputError: the set is empty.
    """
    if not sounds.sounds:
        raise InputError("The data set holds no sounds. Load another folder, or keep more of them.")
    return sounds.sounds[index % len(sounds)]


def free_name(name: str, taken: Iterable[str]) -> str:
    """``name``, with a number behind it where that is taken already, in whatever case."""
    used = {each.casefold() for each in taken}
    candidate, number = name, 2
    while candidate.casefold() in used:
        candidate, number = f"{name}_{number}", number + 1
    return candidate


def _find(folder: Path) -> tuple[list[Path], list[str]]:
    """Sound files in order of path, one for each name in a folder, and notes about the rest."""
    groups: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            groups.setdefault(path.with_suffix(""), []).append(path)
    if not groups:
        raise MissingFileError(f"{folder} holds no sound ({', '.join(SUFFIXES)}), nor any folder in it.")
    found, notes = [], []
    for same in groups.values():
        first, *others = sorted(same, key=lambda path: SUFFIXES.index(path.suffix.lower()))
        found.append(first)
        if others:
            names = ", ".join(path.name for path in others[:_MOST_NAMED])
            notes.append(f"Of one name, {first.name} is taken, and {names} left out.")
    return found, notes


def _names(paths: Sequence[Path]) -> list[str]:
    """A name for each path below the folder: its stem, or all of the path where that is not unique."""
    counts = Counter(path.stem.casefold() for path in paths)
    names: list[str] = []
    for path in paths:
        alone = counts[path.stem.casefold()] == 1
        name = path.stem if alone else "_".join(path.with_suffix("").parts)
        names.append(free_name(safe_name(name), names))
    return names
