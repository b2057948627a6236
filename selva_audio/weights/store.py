"""Find, fetch and check weight files by the names of ``ModelConfig.files``."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..configs import ModelConfig
from ..errors import CheckpointError, DownloadError, MissingFileError
from ..progress import ProgressFn, ignore_progress
from . import places
from .download import NotOnHub, fetch
from .hashes import HashRegister
from .hub import endpoint, hub_url, is_offline
from .io import read_shapes, read_state_dict
from .manifest import REINSTALL, WeightFile, download_command, get_file

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

_DTYPES = ("torch.float32", "torch.float16", "torch.bfloat16", "torch.float64", "torch.int64", "torch.bool")

Status = Literal["ok", "recorded", "different", "unknown", "damaged", "missing"]


@dataclass(frozen=True, slots=True)
class Verification:
    """Result of hashing one file.

    Attributes:
        name: in the table.
        path: the file with the tensors; None when missing.
        status: "ok" (the published hash), "recorded" (the hash of its first download), "different",
            "unknown" (neither is known), "damaged" (not readable), "missing".
        md5: of the file.
        expected: published or recorded hash.
        problem: what is wrong and what to do, for "different", "damaged" and "missing".
    """

    name: str
    path: Path | None
    status: Status
    md5: str | None = None
    expected: str | None = None
    problem: str = ""


class WeightStore:
    """Weight files of this machine.

    Args:
        models_dir: folder looked at first, and written to.
        offline: True never downloads; None follows ``HF_HUB_OFFLINE``.
        on_progress: told about downloads and hashing; cancels by raising.
    """

    def __init__(
        self,
        models_dir: str | Path | None = None,
        *,
        offline: bool | None = None,
        on_progress: ProgressFn = ignore_progress,
    ) -> None:
        self.models_dir = Path(models_dir) if models_dir is not None else None
        self.on_progress = on_progress
        self.register = HashRegister.of_user()
        self._offline = offline
        self._warned: set[Path] = set()

    @property
    def offline(self) -> bool:
        """Whether nothing may be downloaded."""
        return is_offline() if self._offline is None else self._offline

    def find(self, name: str) -> Path | None:
        """Where ``name`` lies (a folder for clip, t5 and bigvgan_v2), or None."""
        return places.find(get_file(name), self.models_dir)

    def places(self, name: str) -> list[Path]:
        """Every path looked at for ``name``, in order."""
        return places.candidates(get_file(name), self.models_dir)

    def path(self, name: str) -> Path:
        """Where ``name`` lies; downloaded first if it is nowhere and the store is not offline.

        Raises:
            MissingFileError: it is nowhere and may not be downloaded.
            DownloadError: it could not be downloaded.
        """
        found = self.find(name)
        if found is not None:
            return found
        if self.offline or get_file(name).is_bundled:
            raise MissingFileError(self._missing(name))
        return self.download(name)

    def weights_file(self, name: str) -> Path:
        """The file with the tensors of ``name``: its path, or the first part of its folder."""
        return places.weights_file(self.path(name), get_file(name))

    def download(self, name: str) -> Path:
        """Fetch ``name`` unless it lies in one of the places already; returns where it lies.

        Raises:
            DownloadError: the hub did not give it, or the store is offline.
        """
        file, found = get_file(name), self.find(name)
        if found is not None:
            return found
        if self.offline:
            raise DownloadError(
                f"{name} is not downloaded: offline mode is on. Unset HF_HUB_OFFLINE, or copy the file "
                f"into {places.model_folders(file, self.models_dir)[0]}."
            )
        folder = self._writable_folder(file)
        if file.is_folder:
            for names in (*file.parts, *((name,) for name in file.companions)):
                self._fetch_part(file, folder / file.folder_name, names)
            return folder / file.folder_name
        urls = [hub_url(file.repo, path) for path in file.paths]
        self._fetch(file, [*urls, *file.urls], folder / file.name)
        return folder / file.name

    def check(
        self, name: str, component: str, variant: str | ModelConfig, *, is_known_to_fit: bool = False
    ) -> Path:
        """Make sure that ``name`` can be loaded as ``component``; returns the file with its tensors.

        A file with the published (or first downloaded) hash is taken as it is. Any other is accepted if
        its keys, shapes and dtypes fit, with one warning that names both hashes. With ``is_known_to_fit``
        the warning is all: the same content was loaded before.

        Raises:
            MissingFileError, DownloadError: as ``path``.
            CheckpointError: the file is damaged or does not fit.
        """
        path = self.weights_file(name)
        expected = self._expected(name, path)
        if expected is not None and self._md5(path) == expected:
            return path
        if not is_known_to_fit:
            _require_fit(path, component, variant)
        if expected is not None and path not in self._warned:
            self._warned.add(path)
            logger.warning(
                "%s has the md5 %s, expected is %s; its keys and shapes fit, so it is used.",
                path,
                self._md5(path),
                expected,
            )
        return path

    def read(self, name: str, component: str, variant: str | ModelConfig) -> "dict[str, Tensor]":
        """Checked tensors of ``name``, ready for ``load_component``.

        Raises:
            MissingFileError, DownloadError, CheckpointError: as ``check``.
        """
        return read_state_dict(self.check(name, component, variant))

    def identity(self, name: str) -> str:
        """Text that is equal exactly when the weights of ``name`` are: their md5, computed once per file."""
        return f"md5:{self._md5(self.weights_file(name))}"

    def verify(self, name: str) -> Verification:
        """Hash the file of ``name`` anew, whatever is remembered, and compare."""
        file, found = get_file(name), self.find(name)
        if found is None:
            problem = f"{name} is not here. {_fetch_advice(name)}"
            return Verification(name, None, "missing", expected=file.md5, problem=problem)
        path = places.weights_file(found, file)
        md5, expected = self.register.refresh(path, self.on_progress), self._expected(name, path)
        if md5 == expected:
            return Verification(name, path, "ok" if file.md5 else "recorded", md5, expected)
        try:
            read_shapes(path)
        except CheckpointError as error:
            return Verification(name, path, "damaged", md5, expected, str(error))
        if expected is None:
            return Verification(name, path, "unknown", md5)
        problem = f"{path} has the md5 {md5}, expected is {expected}. If that is a surprise, delete it. "
        return Verification(name, path, "different", md5, expected, problem + _fetch_advice(name))

    def _expected(self, name: str, path: Path) -> str | None:
        """The published hash of ``name``, or that of its first download; none for a lone conversion."""
        file = get_file(name)
        if not file.is_folder and path.suffix != Path(name).suffix:
            return None
        return file.md5 or self.register.recorded(_label(file, path))

    def _md5(self, path: Path) -> str:
        return self.register.md5(path, self.on_progress)

    def _fetch_part(self, file: WeightFile, folder: Path, names: tuple[str, ...]) -> None:
        """Fetch one part of a folder under the first of its accepted names that the hub has."""
        if any((folder / name).is_file() for name in names):
            return
        for name in names:
            try:
                return self._fetch(file, [hub_url(file.repo, name)], folder / name)
            except NotOnHub:
                if name == names[-1]:
                    raise

    def _fetch(self, file: WeightFile, urls: list[str], target: Path) -> None:
        label = _label(file, target)
        expected = file.md5 or self.register.recorded(label)
        md5 = fetch(urls, target, md5=expected, on_progress=self.on_progress)
        self.register.remember(target, md5)
        if expected is None:
            self.register.record(label, md5)

    def _writable_folder(self, file: WeightFile) -> Path:
        folders = places.model_folders(file, self.models_dir)
        for folder in folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                logger.warning(
                    "Cannot download into %s (%s); trying the next folder.", folder, error.strerror
                )
                continue
            if os.access(folder, os.W_OK):
                return folder
            logger.warning("Cannot download into %s (not writable); trying the next folder.", folder)
        raise DownloadError(
            f"No folder to download into can be written: {', '.join(map(str, folders))}. "
            "Name a writable one with --models-dir or SELVA_MODELS_DIR."
        )

    def _missing(self, name: str) -> str:
        file = get_file(name)
        if file.is_bundled:
            return f"{self.places(name)[0]} is part of the package and is missing. {_fetch_advice(name)}"
        looked = "\n  ".join(map(str, self.places(name)))
        parts = " and ".join(" or ".join(names) for names in file.parts)
        wanted = f"Looked for a folder with {parts}" if parts else "Looked at"
        url = hub_url(file.repo, file.paths[0]) if file.paths else f"{endpoint()}/{file.repo}"
        return (
            f"{name} ({file.role}, {file.reported_size}) was not found, and offline mode is on. {wanted}, "
            f"in order:\n  {looked}\nRun `{download_command(Path(name))}` where there is a network, or put "
            f"the file from {url} into {places.model_folders(file, self.models_dir)[0]}."
        )


def _require_fit(path: Path, component: str, variant: str | ModelConfig) -> None:
    from .components import check_state_dict

    shapes = read_shapes(path)
    odd = next((f"{key} is {dtype}" for key, (_, dtype) in shapes.items() if str(dtype) not in _DTYPES), None)
    if odd:
        raise CheckpointError(f"{path}: {odd}; floating-point weights are needed. Use the published file.")
    try:
        check_state_dict(component, variant, {key: shape for key, (shape, _) in shapes.items()})
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _fetch_advice(name: str) -> str:
    command = download_command(Path(name))
    return f"Run `{command}`." if command else f"Install selva-audio again: `{REINSTALL}`."


def _label(file: WeightFile, path: Path) -> str:
    """Name under which the hash of a first download is kept."""
    return f"{file.name}/{path.name}" if file.is_folder else file.name
