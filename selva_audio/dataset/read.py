"""Reading a data set: our ``dataset.json``, the list form of the public pack, or a plain folder of pairs."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, InputError, MissingFileError, os_error_sentence, shown, unknown_name
from ..features import load_features
from ..files import inside
from .prompts import key_of, read_prompts, unused
from .record import AUDIO_SUFFIXES, INDEX, VERSION, Dataset, Entry, Origin
from .sources import recording_of

_MAX_BYTES = 256 * 2**20
_TOP = ("version", "settings", "entries")
_PATHS = ("video", "audio", "npz", "frames", "mask")
_TEXTS = ("label", "prompt", "source_id", "split")
_NUMBERS = ("duration", "fps")
_KEYS = ("id", *_PATHS, *_TEXTS, *_NUMBERS, "checks", "origin")


def read_dataset(path: str | Path) -> Dataset:
    """The clips of a data set.

    Args:
        path: a folder, or the ``dataset.json`` in it. A folder without that file is read as pairs
            ``name.npz`` + ``name.flac`` (or .wav, .ogg, .aiff, .mp3), as trainers take them.

    Returns:
        Every clip, those with faults too; what is not decided in the file is left empty.

    Raises:
        MissingFileError: no such file or folder, or nothing in it that belongs to a data set.
        InputError: a file that is no data set, an unknown key, or a path that leaves the folder.
    """
    path = Path(path)
    if path.is_dir():
        index = path / INDEX
        return _read_index(index) if index.is_file() else _read_pairs(path)
    if not path.is_file():
        raise MissingFileError(
            f"There is no data set {path}. Make one with `selva dataset prepare VIDEOS FOLDER`."
        )
    return _read_index(path)


def _read_index(path: Path) -> Dataset:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than {_MAX_BYTES >> 20} MB; that is no list of clips.")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(os_error_sentence(error)) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({error}). Prepare the data set again.") from error
    root = path.parent.resolve()
    if isinstance(content, list):
        entries = [_listed(value, root, f"{path}, entry {place}") for place, value in enumerate(content)]
        return Dataset(root, tuple(entries))
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold an object or a list, not a {type(content).__name__}.")
    _check_keys(content, _TOP, str(path))
    if content.get("version") != VERSION or isinstance(content["version"], bool):
        raise InputError(
            f"{path} is of version {shown(content.get('version'))}; this program reads version {VERSION}. "
            "Use a newer selva-audio, or prepare the data set again."
        )
    entries_found, settings = content.get("entries"), content.get("settings", {})
    if not isinstance(entries_found, list):
        raise InputError(f"{path} has no list 'entries'. Prepare the data set again.")
    if not isinstance(settings, dict) or not all(_is_number(value) for value in settings.values()):
        raise InputError(f"'settings' of {path} must be an object of numbers.")
    entries = [_entry(value, root, f"{path}, entry {place}") for place, value in enumerate(entries_found)]
    ids = [entry.id for entry in entries]
    twice = next((name for name in ids if ids.count(name) > 1), None) if len(set(ids)) < len(ids) else None
    if twice is not None:
        raise InputError(f"{path} names {twice!r} twice. Give every clip an id of its own.")
    return Dataset(root, tuple(entries), {str(name): float(value) for name, value in settings.items()})


def _entry(value: Any, root: Path, place: str) -> Entry:
    """One entry of our form."""
    if not isinstance(value, dict):
        raise InputError(f"{place} must be an object, not {shown(value)}.")
    _check_keys(value, _KEYS, place)
    if not isinstance(value.get("id"), str) or not value["id"]:
        raise InputError(f"{place} has no 'id'. Give it the name of its files.")
    fields: dict[str, Any] = {"id": value["id"]}
    for name in _PATHS:
        if value.get(name):
            fields[name] = _path(root, value[name], f"{name!r} of {place}")
    for name in _TEXTS:
        fields[name] = value.get(name, "")
        if not isinstance(fields[name], str):
            raise InputError(f"{name!r} of {place} must be a text, not {shown(fields[name])}.")
    if fields["split"] not in ("", "train", "val"):
        raise InputError(f"{place}: {unknown_name('split', fields['split'], ('train', 'val'))}")
    for name in _NUMBERS:
        fields[name] = value.get(name, 0.0)
        if not _is_number(fields[name]) or fields[name] < 0:
            raise InputError(
                f"{name!r} of {place} must be 0 or a positive number, not {shown(fields[name])}."
            )
    checks = value.get("checks", {})
    if not isinstance(checks, dict) or not all(isinstance(text, str) for text in checks.values()):
        raise InputError(f"'checks' of {place} must be an object of texts, not {shown(checks)}.")
    fields["source_id"] = fields["source_id"] or recording_of(value["id"])
    return Entry(**fields, checks=checks, origin=_origin(value.get("origin"), place))


def _origin(value: Any, place: str) -> Origin | None:
    if value is None:
        return None
    kinds: dict[str, type | tuple[type, ...]] = {
        "file": str,
        "folder": str,
        "key": str,
        "start": (int, float),
        "parts": int,
        "side": str,
    }
    if not isinstance(value, dict) or not all(
        isinstance(value.get(key), kind) for key, kind in kinds.items()
    ):
        raise InputError(f"'origin' of {place} is not as it was written. Prepare the data set again.")
    _check_keys(value, kinds, f"'origin' of {place}")
    return Origin(**value)


def _listed(value: Any, root: Path, place: str) -> Entry:
    """One entry of the list form: a path without ending, from which the others follow.

    Source: COMPAT 2.9.
    """
    if not isinstance(value, dict):
        raise InputError(f"{place} must be an object with a 'path', not {shown(value)}.")
    _check_keys(value, ("path", "label"), place)
    text, label = value.get("path"), value.get("label", "")
    if not isinstance(text, str) or not text.strip("/. "):
        raise InputError(f"{place} has no 'path'. Give the path of the clip without its ending.")
    if not isinstance(label, str):
        raise InputError(f"'label' of {place} must be a text, not {shown(label)}.")
    base = _path(root, text, f"'path' of {place}")
    features = base.parent / "features"
    npz = _there(root, features / f"{base.name}.npz")
    entry = Entry(
        base.name,
        video=_there(root, base.with_name(f"{base.name}.mp4")),
        audio=_sound(root, features / base.name),
        npz=npz,
        frames=_there(root, base),
        mask=_there(root, base.with_name(f"{base.name}_mask")),
        label=label,
        prompt=label,
        source_id=recording_of(base.relative_to(root).as_posix()),
    )
    return _with_missing(entry)


def _read_pairs(folder: Path) -> Dataset:
    """Features and sounds of the same name; the folder itself is the label."""
    root = folder.resolve()
    found = sorted(path for path in root.iterdir() if path.suffix == ".npz" and not path.name.startswith("."))
    if not found:
        raise MissingFileError(
            f"No {INDEX} and no feature files (.npz) in {folder}. Each clip needs name.npz next to name.wav "
            "or name.flac. Make them with `selva dataset prepare VIDEOS FOLDER`."
        )
    prompts = read_prompts(root)
    notes = unused(prompts, {key_of(path.name) for path in found}, folder)
    entries = []
    for npz in found:
        inside(root, npz.name)
        sounds = [path for path in map(npz.with_suffix, AUDIO_SUFFIXES) if path.is_file()]
        if len(sounds) > 1:
            others = ", ".join(path.name for path in sounds[1:])
            notes += (f"{npz.stem} has several sounds; {sounds[0].name} is taken, and {others} left out.",)
        entries.append(_pair(root, npz, prompts))
    return Dataset(root, tuple(entries), notes=notes)


def _pair(root: Path, npz: Path, prompts: Mapping[str, str]) -> Entry:
    entry = Entry(
        npz.stem,
        audio=_sound(root, npz.with_suffix("")),
        npz=npz,
        label=root.name,
        prompt=prompts.get(key_of(npz.name), ""),
        source_id=recording_of(npz.stem),
    )
    entry = _with_missing(entry)
    try:
        features = load_features(npz)
    except (CheckpointError, OSError) as error:
        prompt = entry.prompt or root.name.replace("_", " ")
        return replace(entry, prompt=prompt, checks={**entry.checks, "features": str(error)})
    return replace(
        entry,
        prompt=entry.prompt or features.prompt or root.name.replace("_", " "),
        duration=features.duration,
        fps=features.fps,
    )


def _with_missing(entry: Entry) -> Entry:
    checks = dict(entry.checks)
    if entry.audio is None:
        checks["no_sound"] = f"There is no sound file beside the features of {entry.id}."
    if entry.npz is None:
        checks["features"] = f"There is no feature file of {entry.id}."
    return replace(entry, checks=checks)


def _sound(root: Path, base: Path) -> Path | None:
    candidates = (base.with_name(f"{base.name}{suffix}") for suffix in AUDIO_SUFFIXES)
    return next((_there(root, path) for path in candidates if path.is_file()), None)


def _there(root: Path, path: Path) -> Path | None:
    return inside(root, path) if path.exists() else None


def _path(root: Path, value: Any, place: str) -> Path:
    if not isinstance(value, str):
        raise InputError(f"{place} must be a path as text, not {shown(value)}.")
    try:
        return inside(root, value)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def _check_keys(value: Mapping[str, Any], known: Any, place: str) -> None:
    for key in value:
        if key not in known:
            raise InputError(f"{place}: {unknown_name('key', key, known)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
