"""Where weight files are looked for, in order. Reads the environment and the disk; changes nothing."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .manifest import WeightFile

BUNDLED = Path(__file__).parent.parent / "assets" / "demo"
_SUBFOLDERS = ("", "weights", "ext", "ext_weights")


def candidates(file: WeightFile, models_dir: Path | None = None) -> list[Path]:
    """Every path at which ``file`` is looked for, in order; a folder for an entry with parts.

    Order: ``models_dir``, ``SELVA_MODELS_DIR``, ComfyUI's model folders (only inside ComfyUI), the
    user data folder; last the Hugging Face cache.
    """
    if file.is_bundled:
        return [BUNDLED / file.name]
    found: list[Path] = []
    for folder in model_folders(file, models_dir):
        found += _in_hub_layout(folder, file) if file.is_folder else _in_flat_layout(folder, file)
    found += _in_snapshots(hf_cache_folder(), file)
    return list(dict.fromkeys(found))


def find(file: WeightFile, models_dir: Path | None = None) -> Path | None:
    """The first place that holds ``file``, complete as far as its names tell; None where none does."""
    for path in candidates(file, models_dir):
        if file.is_folder and folder_files(path, file) is not None:
            return path
        if not file.is_folder and path.is_file():
            return path
    return None


def folder_files(folder: Path, file: WeightFile) -> tuple[Path, ...] | None:
    """The parts of a folder entry, one path each; None when one is missing."""
    found = []
    for names in file.parts:
        present = next((folder / name for name in names if (folder / name).is_file()), None)
        if present is None:
            return None
        found.append(present)
    return tuple(found)


def weights_file(path: Path, file: WeightFile) -> Path:
    """The file with the tensors: ``path`` itself, or the first part of a folder entry."""
    if not file.is_folder:
        return path
    parts = folder_files(path, file)
    return parts[0] if parts else path / file.parts[0][0]


def model_folders(file: WeightFile, models_dir: Path | None = None) -> list[Path]:
    """Model folders in the order they are searched, and tried for writing."""
    named = os.environ.get("SELVA_MODELS_DIR")
    folders = [Path(models_dir)] if models_dir is not None else []
    folders += [Path(named)] if named else []
    folders += _comfy_folders(file)
    folders.append(user_folder() / "models")
    return list(dict.fromkeys(folder.expanduser().absolute() for folder in folders))


def user_folder() -> Path:
    """Folder for this user's data of ours."""
    from platformdirs import user_data_path

    return user_data_path("selva-audio", appauthor=False)


def hf_cache_folder() -> Path:
    """The hub cache, by the variables huggingface_hub reads; read here each time, not once at import."""
    explicit = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if explicit:
        return Path(explicit).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or str(Path(cache) / "huggingface")
    return Path(home).expanduser() / "hub"


def _comfy_folders(file: WeightFile) -> list[Path]:
    """ComfyUI's folders, from the module it has already loaded; we never import it."""
    comfy = sys.modules.get("folder_paths")
    base = getattr(comfy, "models_dir", None)
    if base is None:
        return []
    registered = getattr(comfy, "folder_names_and_paths", {})
    folders = []
    for name in file.comfy_folders:
        folders.append(Path(base) / name)
        folders += [Path(path) for path in registered.get(name, ((),))[0]]
    return folders


def _in_flat_layout(folder: Path, file: WeightFile) -> Iterator[Path]:
    for subfolder in _SUBFOLDERS:
        for name in file.local_names:
            yield folder / subfolder / name


def _in_hub_layout(folder: Path, file: WeightFile) -> list[Path]:
    named = [folder / file.folder_name, folder / file.repo, folder / file.repo.replace("/", "--")]
    return named + _in_snapshots(folder, file)


def _in_snapshots(cache: Path, file: WeightFile) -> list[Path]:
    """Paths in a hub cache: the snapshot that ``main`` names first, then the others, newest first."""
    root = cache / f"models--{file.repo.replace('/', '--')}"
    reference = root / "refs" / "main"
    main = reference.read_text().strip() if reference.is_file() else ""
    try:
        snapshots = sorted((root / "snapshots").iterdir(), key=lambda path: -path.stat().st_mtime)
    except OSError:
        snapshots = [root / "snapshots" / "main"]
    snapshots.sort(key=lambda path: path.name != main)
    if file.is_folder:
        return snapshots
    return [snapshot / path for snapshot in snapshots for path in file.paths]
