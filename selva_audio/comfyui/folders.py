"""ComfyUI's folders: where models and files are found, and where features and results may go.

A path in a widget comes from a person or from a stranger's workflow. Relative ones stay below ComfyUI's own
folders; absolute ones are taken as typed.
"""

import os
import secrets
import shutil
from pathlib import Path, PurePosixPath
from typing import Literal

import folder_paths

from ..errors import InputError, MissingFileError, shown
from ..files import atomic_path, inside, safe_name

Place = Literal["output", "models", "base", "input", "here"]

_SUFFIXES = {".safetensors", ".pt", ".pth"}
_LONGEST_PATH = 1024
_LONGEST_NAME = 255


def register_folders() -> None:
    """Make ``models/selva`` and ``<output>/selva`` known to ComfyUI; what its user added stays."""
    folder_paths.add_model_folder_path("selva", os.path.join(folder_paths.models_dir, "selva"))
    folder_paths.add_model_folder_path("selva", os.path.join(folder_paths.get_output_directory(), "selva"))
    paths, _ = folder_paths.folder_names_and_paths["selva"]
    folder_paths.folder_names_and_paths["selva"] = (paths, set(_SUFFIXES))


def cache_folder(typed: str) -> Path:
    """Folder for feature files: as ``output_folder``; "" is the usual one.

    Raises:
        InputError: a path that cannot be one, climbs out of the output folder, or is a file.
    """
    return output_folder(typed.strip() or "selva/cache", "cache_dir")


def output_folder(typed: str, widget: str) -> Path:
    """Folder for results: as typed if absolute, else below the output folder.

    Raises:
        InputError: a path that cannot be one, climbs out of the output folder, or is a file.
    """
    check_path(typed, widget)
    root = Path(folder_paths.get_output_directory())
    folder = Path(typed) if os.path.isabs(typed) else inside(root, _below(typed, widget))
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{widget} is {typed}, which is not a folder. Give the path of a folder.")
    return folder


def result_file(typed: str, widget: str, *suffixes: str) -> Path:
    """File for a result: as typed if absolute, else below the output folder.

    Args:
        typed: path of the file; without an ending it gets the first of ``suffixes``.
        widget: its name, for messages.
        suffixes: endings that can be written.

    Raises:
        InputError: a path that cannot be one, climbs out, is a folder, or ends otherwise.
    """
    check_path(typed, widget)
    root = Path(folder_paths.get_output_directory())
    path = Path(typed) if os.path.isabs(typed) else inside(root, _below(typed, widget))
    if path.name and not path.suffix:
        path = path.with_name(path.name + suffixes[0])
    if path.suffix not in suffixes:
        raise InputError(f"{widget} is {shown(typed)}. End the name in {' or '.join(suffixes)}.")
    if path.is_dir():
        raise InputError(f"{widget} is {typed}, which is a folder. Give the path of a file.")
    return path


def folder_beside(path: Path, widget: str) -> Path:
    """Folder for all that belongs to a result file: its path without ending.

    Raises:
        InputError: it is a file.
    """
    folder = path.with_suffix("")
    if folder.exists() and not folder.is_dir():
        raise InputError(
            f"{widget} needs a folder {folder} beside it, and that is a file. Give another name."
        )
    return folder


def keep_result(made: Path, path: Path) -> Path:
    """Copy a finished file to ``free_file(path)``, and return that."""
    found = free_file(path)
    with atomic_path(found) as temporary:
        shutil.copyfile(made, temporary)
    return found


def free_file(path: Path) -> Path:
    """``path``, or with ``_001``, ``_002``, ... before its ending where there is one of that name."""
    number, found = 0, path
    while found.exists():
        number += 1
        found = path.with_stem(f"{path.stem}_{number:03d}")
    return found


def find(typed: str, widget: str, first: Place = "output") -> Path:
    """What a widget names for reading: as typed if absolute, else looked for below ComfyUI's folders.

    Args:
        typed: path of a file or a folder.
        widget: its name, for messages.
        first: place that saved workflows mean, "here" being where ComfyUI was started; the others follow in
            the order output, models, base, input.

    Raises:
        InputError: nothing typed, or a path that cannot be one or climbs out.
        MissingFileError: it is in none of the places; tells them all.
    """
    if not typed.strip():
        raise InputError(f"{widget} is empty. Give the path of a file or folder.")
    check_path(typed, widget)
    if os.path.isabs(typed):
        looked = [Path(typed)]
    else:
        relative = _below(typed, widget)
        looked = [folder / relative for folder in reading_folders(first)]
    for path in looked:
        if path.exists():
            return path
    places = ", ".join(map(str, looked))
    raise MissingFileError(f"{widget} = {typed} is not there. Looked at, in this order: {places}.")


def reading_folders(first: Place = "output") -> list[Path]:
    """ComfyUI's folders in the order in which a relative path is looked for."""
    folders: dict[Place, str] = {
        "output": folder_paths.get_output_directory(),
        "models": folder_paths.models_dir,
        "base": folder_paths.base_path,
        "input": folder_paths.get_input_directory(),
    }
    begin = Path.cwd() if first == "here" else Path(folders[first])
    return list(dict.fromkeys((begin, *map(Path, folders.values()))))


def looked_at(typed: str | None, widget: str, first: Place = "output") -> list[Path]:
    """What a fingerprint is of: as ``find``; nothing where a widget is empty, or linked to another node."""
    return [find(typed, widget, first)] if typed and typed.strip() else []


def with_inner(folder: Path) -> list[Path]:
    """A folder and all folders in it, for ``fingerprint``."""
    return [folder, *sorted(each for each in folder.rglob("*") if each.is_dir())]


def fingerprint(*paths: Path) -> str:
    """Text that changes when one of the files, or a file in one of the folders, is another one."""
    files = [
        file
        for path in paths
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
        if file.exists()
    ]
    return str([(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files])


def output_file(prefix: str, suffix: str) -> tuple[Path, str]:
    """Free file below the output folder for a ``filename_prefix``, and its sub-folder as the page wants it.

    Raises:
        InputError: a prefix that is absolute, climbs out, or cannot be a file name.
    """
    check_path(prefix, "filename_prefix")
    relative = _below(prefix, "filename_prefix")
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        relative, folder_paths.get_output_directory()
    )
    return Path(folder) / f"{name}_{counter:05}_{suffix}", str(subfolder)


def temporary_file(suffix: str) -> Path:
    """Unused file below ComfyUI's temp folder, which is emptied when ComfyUI starts."""
    return Path(folder_paths.get_temp_directory()) / "selva" / f"{secrets.token_hex(8)}{suffix}"


def check_path(typed: str, widget: str) -> None:
    """Refuse what climbs, is too long, or names a device.

    Raises:
        InputError: any of that.
    """
    names = typed.replace("\\", "/").split("/")
    if "\0" in typed or ".." in names:
        raise InputError(f"{widget} = {shown(typed)} holds '..' or a NUL character. Give a plain path.")
    if len(typed) > _LONGEST_PATH or any(len(name.encode()) > _LONGEST_NAME for name in names):
        raise InputError(f"{widget} = {shown(typed)} is too long for a path. Give a shorter one.")
    for name in filter(None, names):
        if os.path.isabs(typed) and not name.endswith(":"):
            safe_name(name)


def _below(typed: str, widget: str) -> str:
    """A typed relative path whose every part can be a file name on any system."""
    path = PurePosixPath(typed.strip().replace("\\", "/"))
    if path.is_absolute() or not path.parts:
        raise InputError(
            f"{widget} = {shown(typed)} does not stay below ComfyUI's folders. "
            "Give a relative path, such as selva/dog."
        )
    for part in path.parts:
        if safe_name(part) != part:
            raise InputError(
                f"{widget} = {shown(typed)}: {shown(part)} cannot be a file name. "
                "Use letters, digits, '-', '_' and '/'."
            )
    return str(path)
