"""Videos of a folder, and what their places and neighbours tell of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, MissingFileError
from ..media.mux import VIDEO_SUFFIXES
from .prompts import key_of, read_prompts, read_sidecar
from .record import AUDIO_SUFFIXES, Split

VIDEOS = VIDEO_SUFFIXES | {".m4v", ".avi", ".ts", ".mts", ".flv", ".mpg", ".mpeg", ".3gp", ".ogv"}
_SPLITS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val"}
_NUMBER = re.compile(r"_\d+$")
_VARIANT = re.compile(r"_aug\d+$")


@dataclass(frozen=True, slots=True)
class Source:
    """One video.

    Attributes:
        path: the file.
        name: the path relative to the folder of all, with forward slashes.
        sound: a sound file of its name, which is taken in place of its own track; None without one.
        label: the folder it lies in.
        prompt: from prompts.txt, else the text beside it, else the label.
        source_id: the recording it belongs to.
        split: where a folder train or val decides it, else "".
    """

    path: Path
    name: str
    sound: Path | None
    label: str
    prompt: str
    source_id: str
    split: Split


def find_videos(folder: Path, *, leave: Path) -> list[Path]:
    """Videos in a folder and below it, in order of path, but not in ``leave``; hidden ones are left out.

    Raises:
        MissingFileError: no such folder, or no video in it.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder {folder}. Check the path.")
    leave = leave.resolve()
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in VIDEOS and not hidden and path.is_file():
            resolved = path.resolve()
            if leave not in resolved.parents:
                found.append(path)
    if not found:
        raise MissingFileError(
            f"{folder} holds no video ({', '.join(sorted(VIDEOS))}), nor any folder in it."
        )
    return found


def read_all_prompts(folder: Path, videos: list[Path]) -> dict[Path, dict[str, str]]:
    """The prompts.txt of the folder and of each folder that holds a video."""
    return {place: read_prompts(place) for place in {folder, *(video.parent for video in videos)}}


def describe(
    video: Path, folder: Path, prompts: Mapping[Path, Mapping[str, str]], *, recordings: str
) -> Source:
    """What is known of a video before it is opened.

    Args:
        video: below ``folder``.
        folder: of all videos.
        prompts: of ``read_all_prompts``.
        recordings: "name" or "file", see ``DatasetOptions``.

    Raises:
        InputError: a text beside it that cannot be read.
    """
    relative = video.relative_to(folder)
    sidecar = read_sidecar(video)
    kinds = [part for part in relative.parts[:-1] if part.lower() not in _SPLITS]
    label = sidecar.get("label") or (kinds[-1] if kinds else folder.resolve().name)
    listed = [prompts[place].get(key) for place, key in prompt_keys(video, folder)]
    prompt = next((text for text in listed if text), None) or sidecar.get("prompt")
    stem = relative.with_suffix("").as_posix()
    marked = [_SPLITS[part.lower()] for part in relative.parts[:-1] if part.lower() in _SPLITS]
    if not label:
        raise InputError(f"{video} lies in no folder with a name. Give a folder of videos.")
    return Source(
        video,
        relative.as_posix(),
        next((path for path in map(video.with_suffix, AUDIO_SUFFIXES) if path.is_file()), None),
        label,
        prompt or label.replace("_", " "),
        recording_of(stem) if recordings == "name" else stem,
        marked[0] if marked else "",
    )


def prompt_keys(video: Path, folder: Path) -> list[tuple[Path, str]]:
    """Places where a prompt of the video may be listed: folder and name, the nearest first."""
    relative = key_of(video.relative_to(folder).as_posix())
    return [(video.parent, key_of(video.name)), (folder, relative), (folder, key_of(video.name))]


def recording_of(stem: str) -> str:
    """The recording that a clip belongs to, by its name: without ``_augNUMBER`` and a last ``_NUMBER``."""
    origin = variant_of(stem)
    return _NUMBER.sub("", origin) or origin


def variant_of(name: str) -> str:
    """The clip that a variant was made from, by its name: without a last ``_augNUMBER``."""
    return _VARIANT.sub("", name) or name
