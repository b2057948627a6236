"""A mended copy of a data set that exists already, in a new folder; the data set itself stays as it is."""

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..dataset import INDEX, Dataset, Entry, check_entries, read_dataset, write_dataset
from ..dataset.keep import remove
from ..dataset.remarks import remarks
from ..dataset.repair import repair_sound
from ..dataset.sounds import free_name
from ..errors import InputError, OutputError, os_error_sentence
from ..files import inside, safe_name
from ..media.audio import read_audio, write_audio
from ..progress import Progress, ProgressFn, ignore_progress, subtask

_CHECK_SHARE, _COPY_SHARE = 0.3, 0.7


@dataclass(frozen=True, slots=True)
class RepairResult:
    """What is in the new folder.

    Attributes:
        folder: of everything.
        dataset: its clips, checked.
        left_out: id -> sentence, of clips that cannot be mended.
        notes: sentences about what was unusual.
    """

    folder: Path
    dataset: Dataset
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def is_dataset(path: str | Path) -> bool:
    """Whether a path is a data set, or a folder of pairs, rather than a folder of videos."""
    path = Path(path)
    if path.is_dir():
        return (path / INDEX).is_file() or any(path.glob("*.npz"))
    return path.name == INDEX


def repair_dataset(
    source: str | Path, folder: str | Path, *, sample_rate: int, on_progress: ProgressFn = ignore_progress
) -> RepairResult:
    """Copy a data set with its sounds mended, and without the clips that have faults.

    Sounds get no constant part, the model's sample rate, and -23 LUFS under -1 dBTP; features, pictures and
    masks are copied. Clips that are silent, clipped, too short, copies of others, or without sound or
    features are left out.

    Args:
        source: folder or ``dataset.json``, as ``read_dataset`` takes it.
        folder: new or empty; it appears when it is whole.
        sample_rate: hertz of the model.
        on_progress: progress and cancel; nothing is left behind.

    Raises:
        MissingFileError: no data set.
        InputError: the folder holds something, or no clip is without faults.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    known = read_dataset(source)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} holds files already. Give a new folder; nothing is mended in place.")
    settings = {**known.settings, "sample_rate": float(sample_rate)}
    checking = subtask(on_progress, 0, _CHECK_SHARE)
    checked = tuple(check_entries(known.entries, settings, on_progress=checking))
    left_out = {entry.id: " ".join(entry.faults.values()) for entry in checked if entry.faults}
    good = [entry for entry in checked if not entry.faults]
    if not good:
        raise InputError(
            f"No clip of {source} is without faults. {next(iter(left_out.values()), '')}".strip()
        )
    copying = subtask(on_progress, _CHECK_SHARE, _COPY_SHARE)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        _write(good, temporary, settings, copying)
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written. {os_error_sentence(error)}") from error
    finally:
        remove(temporary)
    written = read_dataset(folder)
    again = subtask(on_progress, _COPY_SHARE, 1)
    entries = tuple(check_entries(written.entries, settings, on_progress=again))
    dataset = replace(written, entries=entries)
    write_dataset(dataset)
    return RepairResult(folder, dataset, left_out, known.notes + remarks(dataset))


def _write(
    entries: list[Entry], folder: Path, settings: Mapping[str, float], on_progress: ProgressFn
) -> None:
    copies: list[Entry] = []
    for place, entry in enumerate(entries):
        on_progress(Progress(f"mending {entry.id}", place, len(entries)))
        assert entry.audio is not None and entry.npz is not None, "a clip without them has faults"
        name = free_name(safe_name(entry.id), [copy.id for copy in copies])
        sound, _ = repair_sound(read_audio(entry.audio), int(settings["sample_rate"]))
        copies.append(
            replace(
                entry,
                id=name,
                audio=write_audio(inside(folder, f"{name}.flac"), sound),
                npz=_copied(entry.npz, folder, f"{name}.npz"),
                video=_copied(entry.video, folder, f"videos/{name}"),
                frames=_copied(entry.frames, folder, f"frames/{name}"),
                mask=_copied(entry.mask, folder, f"masks/{name}"),
                checks={},
                origin=None,
            )
        )
    write_dataset(Dataset(folder.resolve(), tuple(copies), settings))
    on_progress(Progress("mended", len(entries), len(entries)))


def _copied(source: Path | None, folder: Path, name: str) -> Path | None:
    """A copy of a file or a folder below ``folder``, with the file's ending; None of nothing."""
    if source is None or not source.exists():
        return None
    target = inside(
        folder, name if source.is_dir() else f"{name.removesuffix('.npz')}{source.suffix.lower()}"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    return target
