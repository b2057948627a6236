"""Data sets made of videos.

Every clip becomes ``NAME_001.npz`` and ``NAME_001.flac``, and an entry of ``dataset.json``. The sound keeps
its rate and channels, unless it is mended: trainers bring it to what their model takes.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..bundle import SelVAModel
from ..dataset import (
    INDEX,
    Dataset,
    Entry,
    Origin,
    check_entries,
    read_dataset,
    write_dataset,
)
from ..dataset.keep import keep_frames, keep_video, read_sound, remove
from ..dataset.motion import find_cuts, see_motion
from ..dataset.remarks import remarks, unused_prompts
from ..dataset.repair import repair_sound
from ..dataset.sources import Source, describe, find_videos, read_all_prompts
from ..dataset.split import decide_splits
from ..dataset.windows import Window, plan_windows
from ..errors import InputError, MediaError, OutputError, SelVAError, os_error_sentence
from ..evaluation.onsets import detect_onsets
from ..features import encode_video, encoder_id, save_features
from ..files import file_digest, file_lock, inside, safe_name
from ..media.audio import write_audio
from ..media.video import probe
from ..options import DatasetOptions, FeatureOptions
from ..progress import Progress, ProgressFn, ignore_progress, subtask
from ..records import Audio

_FORMAT = 1
_SAVE_EVERY = 5.0
_TOLERANCE = 1e-3
# Of one bar: the clips, and then what is wrong with them.
_CLIPS_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class PrepareResult:
    """What is in the folder after a run.

    Attributes:
        folder: of everything.
        dataset: all clips, those of earlier runs too.
        written: ids of the clips made now.
        skipped: how many clips of these videos were there already.
        failed: video -> sentence, for each that gave no clip or not all of them.
        notes: sentences about what was unusual.
    """

    folder: Path
    dataset: Dataset
    written: tuple[str, ...]
    skipped: int
    failed: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Job:
    model: SelVAModel
    encoder: str
    videos: Path
    folder: Path
    options: DatasetOptions


def prepare_dataset(
    model: SelVAModel,
    source: str | Path,
    folder: str | Path,
    options: DatasetOptions | None = None,
    *,
    on_progress: ProgressFn = ignore_progress,
) -> PrepareResult:
    """Make a data set of the videos in a folder; what is there already is not made again.

    A clip's label is the name of its folder; its prompt comes from ``prompts.txt``, else from a text file
    beside the video, else from the label. One bad video does not stop the rest. Clips of other videos
    that are in ``folder`` already stay in it.

    Args:
        model: bundle of ``load_model``.
        source: a folder that is searched with all folders in it, or one video.
        folder: new, empty, or of an earlier run.
        options: length of the clips, split, what is kept.
        on_progress: progress and cancel; every file is whole at any moment, and the next run goes on.

    Raises:
        MissingFileError: no videos.
        InputError: a folder that holds something else, or a ``prompts.txt`` that cannot be read.
        OutputError: the folder cannot be written, or another run is writing it.
    """
    source, folder, options = Path(source), Path(folder), options or DatasetOptions()
    if folder.resolve() in (source.resolve(), *source.resolve().parents):
        raise InputError(
            f"{folder} holds the videos themselves. Give another folder for the data set; videos stay as "
            "they are."
        )
    if (source / INDEX).is_file():
        raise InputError(f"{source} is a data set already. Train on it, or make a mended copy with --fix.")
    videos = find_videos(source, leave=folder)
    root = source if source.is_dir() else source.parent
    prompts = read_all_prompts(root, videos)
    _open(folder)
    features = FeatureOptions(clip_conditioning=options.clip_conditioning)
    job = _Job(model, encoder_id(model, features), root, folder.resolve(), options)
    busy = f"Another run is writing {folder}. Wait until it has ended, or give another folder."
    with file_lock(folder / f".{INDEX}", busy=busy):
        return _prepare(job, folder, videos, prompts, on_progress)


def _prepare(
    job: _Job,
    folder: Path,
    videos: Sequence[Path],
    prompts: Mapping[Path, Mapping[str, str]],
    on_progress: ProgressFn,
) -> PrepareResult:
    root, options, known = job.videos, job.options, _open(folder)
    settings = {
        "shortest": options.shortest,
        "sample_rate": float(job.model.config.sample_rate),
        "val_fraction": options.val_fraction,
        "split_seed": float(options.split_seed),
    }
    entries = {entry.id: entry for entry in known.entries}
    written: list[str] = []
    failed: dict[str, str] = {}
    skipped = 0
    saved = time.monotonic()
    _save(job, entries, known.settings)
    try:
        for place, video in enumerate(videos):
            shares = (_CLIPS_SHARE * each / len(videos) for each in (place, place + 1))
            share = subtask(on_progress, *shares)
            share(Progress(f"preparing {video.name}", 0, 1))
            name = video.relative_to(root).as_posix()
            try:
                about = describe(video, root, prompts, recordings=options.recordings)
                key = _key(job, about)
                there = _forget_stale(job, about, key, entries)
                skipped += len(there)
                for entry in _missing_clips(job, about, key, there, entries, share):
                    entries[entry.id] = entry
                    written.append(entry.id)
                    if time.monotonic() - saved > _SAVE_EVERY:
                        _save(job, entries, known.settings)
                        saved = time.monotonic()
            except OutputError:
                raise  # a full disk is full for the next video too
            except SelVAError as error:
                failed[name] = str(error)
            except OSError as error:
                failed[name] = os_error_sentence(error)
    finally:
        _save(job, entries, known.settings)
    checking = subtask(on_progress, _CLIPS_SHARE, 1)
    # Clips get their side when all are checked; those without one are new, or of a run that was stopped.
    unseen = {entry.id for entry in entries.values() if not entry.split}
    checked = tuple(check_entries(_sorted(entries), settings, look_at=unseen, on_progress=checking))
    split = decide_splits(checked, known.settings, settings)
    dataset = Dataset(job.folder, split, settings)
    write_dataset(dataset)
    on_progress(Progress("done", 1, 1))
    notes = unused_prompts(prompts, videos, root) + remarks(dataset)
    return PrepareResult(folder, dataset, tuple(written), skipped, failed, notes)


def _open(folder: Path) -> Dataset:
    """What an earlier run left; refuses folders that hold something else."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Give a folder for the data set.")
    empty = not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir())
    if empty:
        return Dataset(folder.resolve(), ())
    if not (folder / INDEX).is_file():
        raise InputError(f"{folder} holds other files already. Give a new or an empty folder.")
    dataset = read_dataset(folder)
    if any(entry.origin is None for entry in dataset.entries):
        raise InputError(f"{folder} holds a data set that was made elsewhere. Give a new or an empty folder.")
    return dataset


def _key(job: _Job, about: Source) -> str:
    """SHA-256 of all that the clips of a video depend on."""
    account = {
        "format": _FORMAT,
        "video": file_digest(about.path),
        "sound": file_digest(about.sound) if about.sound else "",
        "prompt": about.prompt,
        "label": about.label,
        "recording": about.source_id,
        "side": about.split,
        "encoder": job.encoder,
        "options": job.options.model_dump(mode="json", exclude={"val_fraction", "split_seed"}),
    }
    return hashlib.sha256(json.dumps(account, sort_keys=True).encode()).hexdigest()


def _forget_stale(job: _Job, about: Source, key: str, entries: dict[str, Entry]) -> list[Entry]:
    """Clips of the video that are there and whole; what is left of older ones is deleted."""
    there = []
    for entry in list(entries.values()):
        origin = entry.origin
        if origin is None or origin.file != about.name:
            continue
        files = [each for each in (entry.npz, entry.audio, entry.video, entry.frames) if each is not None]
        if origin.key == key and all(path.exists() for path in files):
            there.append(entry)  # also of a folder that has been moved since: the key tells the video itself
            continue
        if origin.folder != _folder_id(job):
            continue
        del entries[entry.id]
        for path in files:
            remove(path)
    return there


def _missing_clips(
    job: _Job,
    about: Source,
    key: str,
    there: Sequence[Entry],
    entries: Mapping[str, Entry],
    on_progress: ProgressFn,
) -> Iterator[Entry]:
    """Make the clips of one video that are not there yet."""
    if there and len(there) == there[0].origin.parts:  # type: ignore[union-attr]
        return
    sound = read_sound(about)
    windows = _windows(job, about, sound, subtask(on_progress, 0, 0.2))
    stem = there[0].id.rpartition("_")[0] if there else _free_stem(about, entries)
    done = {entry.origin.start for entry in there if entry.origin is not None}
    for place, window in enumerate(windows):
        if window.start in done:
            continue
        shares = (0.2 + 0.8 * each / len(windows) for each in (place, place + 1))
        origin = Origin(about.name, _folder_id(job), key, window.start, len(windows), about.split)
        yield _make_clip(
            job, about, sound, window, f"{stem}_{place + 1:03d}", origin, subtask(on_progress, *shares)
        )


@torch.no_grad()
def _make_clip(
    job: _Job,
    about: Source,
    sound: Audio,
    window: Window,
    name: str,
    origin: Origin,
    on_progress: ProgressFn,
) -> Entry:
    whole = origin.parts == 1 and window.start == 0
    features = encode_video(
        job.model,
        about.path,
        FeatureOptions.parse(
            prompt=about.prompt,
            start=window.start,
            duration=0.0 if whole else window.duration,
            clip_conditioning=job.options.clip_conditioning,
        ),
        on_progress=on_progress,
    )
    begin = round(window.start * sound.sample_rate)
    wave = sound.waveform[..., begin : begin + round(features.duration * sound.sample_rate)]
    if not wave.shape[-1]:
        raise MediaError(
            f"The sound of {about.path} ends before {window.start:g} s, where a clip would begin."
        )
    npz, audio = (inside(job.folder, f"{name}{suffix}") for suffix in (".npz", ".flac"))
    stretch = None if whole else window
    video = keep_video(about.path, stretch, job.folder, name) if job.options.keep_video else None
    frames = keep_frames(about.path, stretch, job.folder, name) if job.options.keep_frames else None
    save_features(npz, features)
    # Lossy codecs decode to more than 1 here and there; turned down as a whole, nothing is cut off.
    part = Audio(wave / max(float(wave.abs().max()), 1.0), sound.sample_rate)
    if job.options.fix:
        part, _ = repair_sound(part, job.model.config.sample_rate)
    write_audio(audio, part)
    return Entry(
        name,
        video=video,
        audio=audio,
        npz=npz,
        frames=frames,
        label=about.label,
        prompt=about.prompt,
        duration=features.duration,
        fps=round(features.fps, 6),
        source_id=about.source_id,
        origin=origin,
    )


def _windows(job: _Job, about: Source, sound: Audio, on_progress: ProgressFn) -> list[Window]:
    options = job.options
    duration = probe(about.path).duration or sound.duration
    if duration <= options.window + _TOLERANCE:
        return [Window(0.0, duration)]
    cuts: tuple[float, ...] = ()
    if options.split_at_cuts:
        motion = see_motion(about.path, on_progress=on_progress)
        cuts, duration = find_cuts(motion), motion.duration
    onsets = None
    if options.windows == "onsets":
        mono = sound.waveform[0].mean(dim=0).numpy()
        onsets = detect_onsets(mono, sound.sample_rate).tolist()
    # Where the sound has ended there is nothing to learn.
    duration = min(duration, sound.duration) if sound.duration > options.shortest else duration
    windows = plan_windows(
        duration, window=options.window, shortest=options.shortest, cuts=cuts, onsets=onsets
    )
    if not windows:
        found = "no sudden sound" if options.windows == "onsets" else "no stretch between two cuts"
        raise MediaError(f"{about.path} has {found} that makes a clip. Use other settings, or leave it out.")
    return windows


def _free_stem(about: Source, entries: Mapping[str, Entry]) -> str:
    """Name of the clips of a video: its own, with the label or a number where that is taken."""
    taken = {name.rpartition("_")[0].casefold() for name in entries}
    stem = safe_name(about.path.stem)
    candidates = [stem, safe_name(f"{about.label}_{stem}")]
    free = next((name for name in candidates if name.casefold() not in taken), None)
    number = 2
    while free is None:
        candidate = f"{stem}_{number}"
        free = candidate if candidate.casefold() not in taken else None
        number += 1
    return free


def _folder_id(job: _Job) -> str:
    """Tells folders of videos apart without naming them."""
    return hashlib.sha256(str(job.videos.resolve()).encode(errors="surrogatepass")).hexdigest()[:12]


def _save(job: _Job, entries: Mapping[str, Entry], settings: Mapping[str, float]) -> None:
    write_dataset(Dataset(job.folder, _sorted(entries), settings))


def _sorted(entries: Mapping[str, Entry]) -> tuple[Entry, ...]:
    return tuple(entries[name] for name in sorted(entries))
