"""Sounds to tune a vocoder on: every file of a folder and of the folders in it.

Letters: L samples, M mel bands, F mel frames.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..adapters.layers import stable_seed
from ..errors import InputError, MediaError, MissingFileError
from ..files import file_digest
from ..media.audio import read_audio, resample
from ..progress import Progress, ProgressFn, ignore_progress

# One sound in several formats counts once: as the first of these.
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
_LEAST_SECONDS = 0.1
_SILENT = 1e-4
_LEAST_FOR_VALIDATION = 4
_NUMBER = re.compile(r"(_\d+|_aug\d+)+$")
_SHOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Sounds in memory.

    Attributes:
        folder: that they are of.
        names: paths below the folder.
        waves: (L,) each, float32 in [-1, 1] on the CPU.
        mels: (M, F) each, what the vocoder is given in place of the mel of the recording; () for that.
        sample_rate: hertz.
        fingerprint: of all files, and of what made the mels.
        notes: files that were left out, and other sentences that the user should see.
    """

    folder: Path
    names: tuple[str, ...]
    waves: tuple[Tensor, ...]
    mels: tuple[Tensor, ...]
    sample_rate: int
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def encoded(self) -> int:
        """Sounds that were read for this; none is known from before."""
        return len(self)

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: Sequence[int]) -> "Corpus":
        """Some of the sounds, in this order."""
        return replace(
            self,
            names=tuple(self.names[index] for index in indices),
            waves=tuple(self.waves[index] for index in indices),
            mels=tuple(self.mels[index] for index in indices) if self.mels else (),
        )


def read_corpus(folder: str | Path, sample_rate: int, *, on_progress: ProgressFn = ignore_progress) -> Corpus:
    """Read every .wav, .flac, .ogg and .mp3 below a folder, as mono at a rate.

    Raises:
        MissingFileError: no such folder.
        InputError: no sound in it that can be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder {folder}. Give one with the sounds to tune on.")
    files, notes = _sound_files(folder)
    names, waves, digests = [], [], []
    for place, path in enumerate(files):
        name = path.relative_to(folder).as_posix()
        on_progress(Progress(f"reading {name}", place, len(files)))
        try:
            audio = read_audio(path)
        except MediaError as error:
            notes.append(f"{name} is left out: {error}")
            continue
        wave = resample(audio.waveform[0].mean(dim=0), audio.sample_rate, sample_rate)
        problem = _problem(wave, sample_rate)
        if problem:
            notes.append(f"{name} is left out: {problem}.")
            continue
        names.append(name)
        waves.append(wave.clamp(-1, 1))
        digests.append([name, file_digest(path)])
    if not names:
        more = f" {' '.join(notes[:_SHOWN])}" if notes else ""
        raise InputError(f"No sound in {folder} can be used ({', '.join(SUFFIXES)} are read).{more}")
    on_progress(Progress("reading", len(files), len(files)))
    text = json.dumps([sample_rate, digests])
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Corpus(folder, tuple(names), tuple(waves), (), sample_rate, digest, tuple(notes))


def with_mels(corpus: Corpus, mels: Mapping[str, Tensor], origin: str) -> Corpus:
    """The sounds that there are mels for, with them; ``origin`` tells what the mels were made by.

    Raises:
        InputError: there are none for any of them.
    """
    kept = [index for index, name in enumerate(corpus.names) if name in mels]
    if not kept:
        raise InputError(f"None of the {len(corpus)} sounds in {corpus.folder} has features beside it.")
    left = [name for name in corpus.names if name not in mels]
    notes = corpus.notes + tuple(f"{name} is left out: there are no features for it." for name in left)
    digest = hashlib.sha256(f"{corpus.fingerprint} {origin}".encode()).hexdigest()
    chosen = corpus.take(kept)
    return replace(chosen, mels=tuple(mels[name] for name in chosen.names), fingerprint=digest, notes=notes)


def split_corpus(corpus: Corpus, val_fraction: float, seed: int) -> tuple[Corpus, Corpus]:
    """Sounds to train on and to validate on; those of one recording are on one side.

    ``bell_001`` and ``bell_002``, and augmented copies of either, are of the recording ``bell``. With fewer
    than four recordings, all are trained on.
    """
    recordings = [recording_of(name) for name in corpus.names]
    order = sorted(set(recordings), key=lambda each: stable_seed(seed, "validation", each))
    count = (
        max(1, round(val_fraction * len(order)))
        if val_fraction and len(order) >= _LEAST_FOR_VALIDATION
        else 0
    )
    held_out = set(order[:count])
    sides = [
        [index for index, recording in enumerate(recordings) if (recording in held_out) == is_held_out]
        for is_held_out in (False, True)
    ]
    return corpus.take(sides[0]), corpus.take(sides[1])


def recording_of(name: str) -> str:
    """What a sound is a part of: its path without ending and trailing numbers."""
    stem = name.rpartition(".")[0]
    return _NUMBER.sub("", stem) or stem


def segment(
    corpus: Corpus, index: int, num_frames: int, hop: int, share: float
) -> tuple[Tensor, Tensor | None]:
    """A stretch of a sound, and of its mel if it has one.

    Args:
        corpus: sounds.
        index: which.
        num_frames: mel frames of the stretch; what a sound lacks is silence.
        hop: samples per frame.
        share: where between the first and the last possible place, from 0 to 1.

    Returns:
        (num_frames * hop,), and (M, num_frames) or None.
    """
    wave = corpus.waves[index]
    mel = corpus.mels[index] if corpus.mels else None
    total = wave.shape[0] // hop if mel is None else min(wave.shape[0] // hop, mel.shape[1])
    first = int(share * max(total - num_frames + 1, 1))
    part = wave[first * hop : (first + num_frames) * hop]
    part = torch.nn.functional.pad(part, (0, num_frames * hop - part.shape[0]))
    if mel is None:
        return part, None
    rows = mel[:, first : first + num_frames]
    return part, torch.nn.functional.pad(rows, (0, num_frames - rows.shape[1]), value=float(rows.min()))


def _sound_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Files in order of their names, one for each stem, and notes on the others."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not is_hidden:
            found.setdefault(path.with_suffix("").as_posix(), []).append(path)
    notes, files = [], []
    for paths in found.values():
        paths.sort(key=lambda path: SUFFIXES.index(path.suffix.lower()))
        files.append(paths[0])
        if len(paths) > 1:
            others = ", ".join(path.name for path in paths[1:])
            notes.append(f"{paths[0].name} is used, and {others} of the same name is not.")
    return files, notes


def _problem(wave: Tensor, sample_rate: int) -> str:
    if wave.shape[0] < _LEAST_SECONDS * sample_rate:
        return f"it is {wave.shape[0] / sample_rate:.3f} s long, and {_LEAST_SECONDS} s are needed"
    if not bool(wave.isfinite().all()):
        return "it holds NaN or infinite samples"
    if float(wave.abs().max()) < _SILENT:
        return "it is silent"
    return ""
