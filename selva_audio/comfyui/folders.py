"""ComfyUI's folders: where models are found, and where features and results may go.

A path in a widget comes from a person or from a stranger's workflow. Relative ones stay below ComfyUI's
output folder; absolute ones are taken as typed.
"""

import os
import secrets
from pathlib import Path, PurePosixPath

import folder_paths

from ..errors import InputError, shown
from ..files import inside, safe_name

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
    """Folder for feature files: as typed if absolute, else below the output folder; "" is the usual one.

    Raises:
        InputError: a path that cannot be one, climbs out of the output folder, or is a file.
    """
    output = Path(folder_paths.get_output_directory())
    if not typed.strip():
        return output / "selva" / "cache"
    _check_typed(typed, "cache_dir")
    folder = Path(typed) if os.path.isabs(typed) else inside(output, _below(typed, "cache_dir"))
    if folder.exists() and not folder.is_dir():
        raise InputError(f"cache_dir is {typed}, which is not a folder. Give the path of a folder.")
    return folder


def output_file(prefix: str, suffix: str) -> tuple[Path, str]:
    """Free file below the output folder for a ``filename_prefix``, and its sub-folder as the page wants it.

    Raises:
        InputError: a prefix that is absolute, climbs out, or cannot be a file name.
    """
    _check_typed(prefix, "filename_prefix")
    relative = _below(prefix, "filename_prefix")
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        relative, folder_paths.get_output_directory()
    )
    return Path(folder) / f"{name}_{counter:05}_{suffix}", str(subfolder)


def temporary_file(suffix: str) -> Path:
    """Unused file below ComfyUI's temp folder, which is emptied when ComfyUI starts."""
    return Path(folder_paths.get_temp_directory()) / "selva" / f"{secrets.token_hex(8)}{suffix}"


def _below(typed: str, widget: str) -> str:
    """A typed relative path whose every part can be a file name on any system."""
    path = PurePosixPath(typed.strip().replace("\\", "/"))
    if path.is_absolute() or not path.parts:
        raise InputError(
            f"{widget} = {shown(typed)} does not stay below ComfyUI's output folder. "
            "Give a relative path, such as selva/dog."
        )
    for part in path.parts:
        if safe_name(part) != part:
            raise InputError(
                f"{widget} = {shown(typed)}: {shown(part)} cannot be a file name. "
                "Use letters, digits, '-', '_' and '/'."
            )
    return str(path)


def _check_typed(typed: str, widget: str) -> None:
    names = typed.replace("\\", "/").split("/")
    if "\0" in typed or ".." in names:
        raise InputError(f"{widget} = {shown(typed)} holds '..' or a NUL character. Give a plain path.")
    if len(typed) > _LONGEST_PATH or any(len(name.encode()) > _LONGEST_NAME for name in names):
        raise InputError(f"{widget} = {shown(typed)} is too long for a path. Give a shorter one.")
    for name in filter(None, names):
        if os.path.isabs(typed) and not name.endswith(":"):
            safe_name(name)
