"""Sounds to a folder of pairs that trainers read: ``NAME.flac`` beside ``NAME.npz``."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, OutputError
from ..files import atomic_path, inside, safe_name, write_text
from ..media.audio import write_audio
from ..progress import Progress, ProgressFn, ignore_progress
from ..records import Audio
from .prompts import PROMPTS, key_of, read_prompts
from .sounds import SoundClip, SoundSet, free_name


@dataclass(frozen=True, slots=True)
class SavedSounds:
    """What was written.

    Attributes:
        folder: of all.
        sounds: the sound files, in order.
        paired: names with features beside them.
        notes: sentences about what is missing or was changed.
    """

    folder: Path
    sounds: tuple[Path, ...]
    paired: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The account in words."""
        number = "1 sound" if len(self.sounds) == 1 else f"{len(self.sounds)} sounds"
        return f"Wrote {number} to {self.folder.name}, {len(self.paired)} with features."


def save_sounds(
    sounds: SoundSet,
    folder: Path,
    *,
    features: Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> SavedSounds:
    """Write every sound as 24-bit FLAC, with a copy of the features of what it was made from.

    Each file is whole at any moment. A stretched variant gets no features, because those of its origin tell
    of events at other times. Prompts of a ``prompts.txt`` beside the features go along.

    Args:
        sounds: any number.
        folder: made if it is not there; files of the same names are replaced.
        features: folder with the .npz files; None = beside the files that the sounds were read from.
        on_progress: progress and cancel.

    Raises:
        InputError: no sounds, or a sound that would be written over the file it was read from.
        OutputError: the disk refuses a file.
    """
    if not sounds.sounds:
        raise InputError("The data set holds no sounds, so nothing was saved. Keep more of them.")
    names = _file_names(sounds.sounds)
    _check_sources(sounds.sounds, names, folder)
    written, paired, notes = [], [], []
    prompts: dict[str, str] = {}
    for place, (sound, name) in enumerate(zip(sounds.sounds, names, strict=True)):
        on_progress(Progress("saving", place, len(sounds)))
        # What was turned up past full scale would be cut off by whole numbers.
        peak = max(float(sound.audio.waveform.abs().max()) if sound.audio.waveform.numel() else 0.0, 1.0)
        audio = Audio(sound.audio.waveform / peak, sound.audio.sample_rate)
        written.append(write_audio(inside(folder, f"{name}.flac"), audio))
        if peak > 1:
            notes.append(f"{name}: turned down to full scale, which it was past.")
        if sound.stretch != 1:
            notes.append(
                f"{name}: stretched by {sound.stretch:.3f}, so the features of {sound.origin} do not fit, "
                "and it has none."
            )
            continue
        partner = _partner(sound, features)
        if partner is None:
            notes.append(f"{name}: no features of {sound.origin} were found.")
            continue
        _copy(partner, inside(folder, f"{name}.npz"))
        paired.append(name)
        prompt = read_prompts(partner.parent).get(key_of(partner.name))
        if prompt is not None:
            prompts[name] = prompt
    _write_prompts(folder, prompts)
    on_progress(Progress("saving", len(sounds), len(sounds)))
    return SavedSounds(folder, tuple(written), tuple(paired), tuple(notes))


def _file_names(sounds: Iterable[SoundClip]) -> list[str]:
    names: list[str] = []
    for sound in sounds:
        names.append(free_name(safe_name(sound.name), names))
    return names


def _check_sources(sounds: Iterable[SoundClip], names: Iterable[str], folder: Path) -> None:
    """Refuse before anything is written what would replace a file that was read."""
    sources = {os.path.realpath(sound.path): sound.path for sound in sounds if sound.path is not None}
    for name in names:
        source = sources.get(os.path.realpath(folder / f"{name}.flac"))
        if source is not None:
            raise InputError(
                f"{source.name} would be written over the file that was read. Choose another folder than "
                f"{folder}."
            )


def _partner(sound: SoundClip, features: Path | None) -> Path | None:
    """Feature file of what a sound was made from.

    In a given folder it has the name of the origin, or lies in a folder of the name that the sound's file
    lies in; names that several folders share never meet in another way.
    """
    if features is None:
        candidates = [sound.path.with_suffix(".npz")] if sound.path is not None else []
    else:
        candidates = [features / f"{safe_name(sound.origin)}.npz"]
        if sound.path is not None:
            candidates.append(features / sound.path.parent.name / f"{sound.path.stem}.npz")
    return next((path for path in candidates if path.is_file()), None)


def _copy(source: Path, target: Path) -> None:
    if target.exists() and os.path.samefile(source, target):
        return
    with atomic_path(target) as temporary:
        try:
            shutil.copyfile(source, temporary)
        except shutil.SameFileError as error:
            raise OutputError(f"{target} is {source} itself. Choose another folder.") from error


def _write_prompts(folder: Path, prompts: dict[str, str]) -> None:
    """Add lines to the prompts of a folder; those of other files stay."""
    if not prompts:
        return
    known = read_prompts(folder) | prompts
    write_text(folder / PROMPTS, "".join(f"{name}: {text}\n" for name, text in known.items()))
