"""Prompts beside media: ``prompts.txt`` of a folder, and a text or JSON file of the clip's own name."""

import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError, os_error_sentence

PROMPTS = "prompts.txt"
_MAX_BYTES = 2**20
_KNOWN = {
    *(".npz", ".wav", ".flac", ".ogg", ".aiff", ".aif", ".mp3", ".m4a"),
    *(
        ".mp4",
        ".mov",
        ".mkv",
        ".webm",
        ".m4v",
        ".avi",
        ".ts",
        ".mts",
        ".flv",
        ".mpg",
        ".mpeg",
        ".3gp",
        ".ogv",
    ),
}


def read_prompts(folder: Path) -> dict[str, str]:
    """Lines ``name: text`` of ``prompts.txt``, by name without the ending of a media file; {} without one.

    Empty lines and lines that begin with ``#`` are passed over; the first colon splits.

    Raises:
        InputError: a line without a colon or with an empty side, a name twice, or not a text.
    """
    path = folder / PROMPTS
    if not path.is_file():
        return {}
    prompts: dict[str, str] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, text = (part.strip() for part in line.partition(":"))
        if not name or not text:
            raise InputError(f"{path}, line {number}: {line.strip()[:60]!r} is not `file name: prompt`.")
        if key_of(name) in prompts:
            raise InputError(f"{path}, line {number}: {name!r} has a prompt already. Leave one of them out.")
        prompts[key_of(name)] = text
    return prompts


def key_of(name: str) -> str:
    """A file name as ``read_prompts`` keeps it: forward slashes, no ending of a media file."""
    name = name.replace("\\", "/").removeprefix("./")
    stem, dot, ending = name.rpartition(".")
    return stem if dot and f".{ending.lower()}" in _KNOWN else name


def unused(prompts: Mapping[str, str], used: set[str], folder: Path) -> tuple[str, ...]:
    """A sentence for every line that belongs to no file."""
    return tuple(
        f"{folder / PROMPTS} names {name!r}, but there is no such file."
        for name in prompts
        if name not in used
    )


def read_sidecar(media: Path) -> dict[str, str]:
    """``prompt`` and ``label`` from ``name.json`` or ``name.txt`` beside a file; {} without either.

    Raises:
        InputError: not a text, or JSON that is no object of texts.
    """
    described, written = media.with_suffix(".json"), media.with_suffix(".txt")
    if described.is_file():
        try:
            content = json.loads(_text(described))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{described} is no JSON ({error}). Write {{'prompt': TEXT}}.") from error
        if not isinstance(content, dict):
            raise InputError(f"{described} must hold an object with a 'prompt', not a {_kind(content)}.")
        found = {key: content[key] for key in ("prompt", "label") if key in content}
        wrong = next((key for key, value in found.items() if not isinstance(value, str)), None)
        if wrong is not None:
            raise InputError(f"{wrong!r} of {described} must be a text, not a {_kind(found[wrong])}.")
        if "prompt" not in found and isinstance(content.get("caption"), str):
            found["prompt"] = content["caption"]
        return {key: value.strip() for key, value in found.items() if value.strip()}
    if written.is_file() and written.name != PROMPTS:
        text = " ".join(_text(written).split())
        return {"prompt": text} if text else {}
    return {}


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than {_MAX_BYTES >> 20} MB. Give a short text.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error
    except OSError as error:
        raise InputError(os_error_sentence(error)) from error


def _kind(value: object) -> str:
    return type(value).__name__
