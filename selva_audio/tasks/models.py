"""Weight files as a user sees them: what each variant needs, what is here, fetch and verify."""

from dataclasses import dataclass
from pathlib import Path

from ..configs import VARIANTS, get_config
from ..progress import Progress, ProgressFn, ignore_progress
from ..weights.io import convert_to_safetensors
from ..weights.manifest import REINSTALL, WeightFile, get_file, variant_files
from ..weights.store import WeightStore


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file of a variant.

    Attributes:
        component: the part of the model it holds.
        name: in the file table.
        role: what it holds, in a few words.
        size: as text, such as "629 MB".
        licence: as its publisher reports it.
        source: hub repository; "" for files that ship with the package.
        md5: published hash, if there is one.
        path: where it lies on this machine; None when it is not here.
    """

    component: str
    name: str
    role: str
    size: str
    licence: str
    source: str
    md5: str | None
    path: str | None


@dataclass(frozen=True, slots=True)
class VariantInfo:
    """One variant and its files.

    Attributes:
        variant: key of ``VARIANTS``.
        family: "selva" or "mmaudio".
        sample_rate: hertz.
        complete: whether all files are here.
        download_bytes: bytes of the missing files, as far as they are known.
        command: what fetches the missing files; None when complete.
        files: one per component.
    """

    variant: str
    family: str
    sample_rate: int
    complete: bool
    download_bytes: int
    command: str | None
    files: tuple[FileInfo, ...]


@dataclass(frozen=True, slots=True)
class DownloadInfo:
    """One file after a download.

    Attributes:
        name: in the file table.
        path: where it lies.
        downloaded: False when it was here before.
        converted: the safetensors file made from it; None when none was asked for.
        licence: as its publisher reports it.
    """

    name: str
    path: str
    downloaded: bool
    converted: str | None
    licence: str


@dataclass(frozen=True, slots=True)
class VerifyInfo:
    """One file after hashing; the states are those of ``weights.store.Verification``."""

    name: str
    path: str | None
    status: str
    md5: str | None
    expected: str | None
    problem: str


@dataclass(frozen=True, slots=True)
class PlacesInfo:
    """Where one file is looked for, in order, and where it was found."""

    name: str
    found: str | None
    places: tuple[str, ...]


def list_models(*, models_dir: str | Path | None = None) -> list[VariantInfo]:
    """Every variant with its files, their sizes and licences, and what of them is on this machine."""
    store = WeightStore(models_dir, offline=True)
    return [_variant_info(variant, store) for variant in VARIANTS]


def download_models(
    variant: str,
    *,
    models_dir: str | Path | None = None,
    convert: bool = False,
    on_progress: ProgressFn = ignore_progress,
) -> list[DownloadInfo]:
    """Fetch every file of ``variant`` that is not on this machine yet.

    Args:
        variant: key of ``VARIANTS``.
        models_dir: folder looked at first, and written to.
        convert: also write a safetensors file beside each pickled one.
        on_progress: told bytes per file; cancels by raising, what has arrived is kept.

    Raises:
        InputError: unknown variant.
        DownloadError: a file could not be had.
    """
    store = WeightStore(models_dir, on_progress=on_progress)
    results = []
    for file in _files(variant):
        present = store.find(file.name) is not None
        path = store.path(file.name) if file.is_bundled else store.download(file.name)
        converted = None
        if convert:
            on_progress(Progress(f"converting {file.name}", 0, 0))
            converted = str(convert_to_safetensors(store.weights_file(file.name)))
        results.append(DownloadInfo(file.name, str(path), not present, converted, file.licence))
    return results


def verify_models(
    variant: str | None = None,
    *,
    models_dir: str | Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> list[VerifyInfo]:
    """Hash the files of one variant, or every file that is here, and compare with what is known.

    Raises:
        InputError: unknown variant.
    """
    store = WeightStore(models_dir, offline=True, on_progress=on_progress)
    names = [file.name for file in _files(variant)]
    checked = [store.verify(name) for name in names if variant or store.find(name) is not None]
    return [
        VerifyInfo(
            result.name,
            str(result.path) if result.path else None,
            result.status,
            result.md5,
            result.expected,
            result.problem,
        )
        for result in checked
    ]


def where(variant: str | None = None, *, models_dir: str | Path | None = None) -> list[PlacesInfo]:
    """The places in which the files of one variant, or of all, are looked for.

    Raises:
        InputError: unknown variant.
    """
    store = WeightStore(models_dir, offline=True)
    return [
        PlacesInfo(file.name, _text(store.find(file.name)), tuple(map(str, store.places(file.name))))
        for file in _files(variant)
    ]


def fetch_command(variant: str) -> str:
    """The command that brings the missing files of a variant."""
    if all(file.is_bundled for file in variant_files(variant).values()):
        return REINSTALL
    return f"selva models download {variant}"


def _files(variant: str | None) -> list[WeightFile]:
    chosen = list(VARIANTS) if variant is None else [get_config(variant).name]
    names = dict.fromkeys(file.name for name in chosen for file in variant_files(name).values())
    return [get_file(name) for name in names]


def _variant_info(variant: str, store: WeightStore) -> VariantInfo:
    config = get_config(variant)
    files = tuple(
        FileInfo(
            component,
            file.name,
            file.role,
            file.reported_size,
            file.licence,
            file.repo,
            file.md5,
            _text(store.find(file.name)),
        )
        for component, file in variant_files(variant).items()
    )
    missing = [info for info in files if info.path is None]
    return VariantInfo(
        variant,
        config.family,
        config.sample_rate,
        complete=not missing,
        download_bytes=sum(get_file(info.name).size_bytes or 0 for info in missing),
        command=fetch_command(variant) if missing else None,
        files=files,
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
