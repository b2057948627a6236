"""The file table: every published weight file, where it comes from and what is known about it.

Data only; finding lies in ``places``, fetching in ``download``. Names are those of ``ModelConfig.files``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..configs import VARIANTS, ModelConfig, get_config
from ..errors import InputError, unknown_name

# For a file that ships inside the package and is not there.
REINSTALL = "pip install --force-reinstall selva-audio"

_SELVA = "jnwnlee/SelVA"
_MMAUDIO = "hkchengrex/MMAudio"
_RELEASE = "https://github.com/hkchengrex/MMAudio/releases/download/v0.1/"

_NO_LICENCE = "none stated by the SelVA repository"
_NON_COMMERCIAL = "CC-BY-NC-4.0 (MMAudio weights)"
_WITH_MMAUDIO = "as distributed with MMAudio (CC-BY-NC-4.0)"


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One entry: a single file, or a folder named after its hub repository.

    Attributes:
        name: the name in ``ModelConfig.files``, and of the local file.
        role: what it holds, in a few words.
        licence: as its publisher reports it.
        reported_size: size as upstream documents it, or as the tensors give it.
        repo: hub repository; empty for files that ship inside the package.
        paths: paths in the repository, tried in order.
        urls: addresses tried after the hub.
        md5: published hash; None where upstream gives none.
        size_bytes: bytes of the tensors it holds; the file is a little larger. None where not known.
        spellings: further local names of the same file.
        parts: for a folder, the files it must hold, each as its accepted names in order of preference.
        companions: for a folder, files fetched along that nothing here needs.
        comfy_folders: folders below ComfyUI's ``models`` that users keep it in, in order.
    """

    name: str
    role: str
    licence: str
    reported_size: str
    repo: str = ""
    paths: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    md5: str | None = None
    size_bytes: int | None = None
    spellings: tuple[str, ...] = ()
    parts: tuple[tuple[str, ...], ...] = ()
    companions: tuple[str, ...] = ()
    comfy_folders: tuple[str, ...] = ("selva",)

    @property
    def is_folder(self) -> bool:
        """Whether the entry is a folder of files."""
        return bool(self.parts)

    @property
    def is_bundled(self) -> bool:
        """Whether the file ships inside the package."""
        return not self.repo

    @property
    def folder_name(self) -> str:
        """Name of the repository without its owner."""
        return self.repo.rpartition("/")[2]

    @property
    def local_names(self) -> tuple[str, ...]:
        """File names looked for: the name, other spellings, and a conversion that stands alone."""
        return (self.name, *self.spellings, f"{Path(self.name).stem}.safetensors")


def get_file(name: str) -> WeightFile:
    """The entry called ``name``.

    Raises:
        InputError: no such entry; the message names the nearest one.
    """
    if name not in FILES:
        raise InputError(unknown_name("weight file", name, FILES))
    return FILES[name]


def variant_files(variant: str | ModelConfig) -> dict[str, WeightFile]:
    """Component -> entry, for every file a variant uses."""
    return {part: get_file(name) for part, name in get_config(variant).files.items()}


def download_command(path: Path) -> str | None:
    """The command that fetches the file lying at ``path``, or called so; None for a file not in the table."""
    entry = FILES.get(str(path)) or _entry_of(path)
    if entry is None or entry.is_bundled:
        return None
    variant = next((name for name, config in VARIANTS.items() if entry.name in config.files.values()), None)
    return f"selva models download {variant}" if variant else None


def expected_size(path: Path) -> str | None:
    """Size that the file lying at ``path`` should have, as text; None where not known."""
    entry = _entry_of(path)
    return None if entry is None or entry.is_bundled else entry.reported_size


def _entry_of(path: Path) -> WeightFile | None:
    for entry in FILES.values():
        if entry.is_folder:
            named = any(path.name in names for names in entry.parts)
            if named and any(entry.folder_name in part for part in path.parts[:-1]):
                return entry
        elif path.name in entry.local_names:
            return entry
    return None


def _selva_generator(size: str, *, md5: str | None, reported_size: str, size_bytes: int) -> WeightFile:
    """The hub has used ``44k`` and ``44khz`` in these names, so both are tried."""
    name = f"generator_{size}_sup_5.pth"
    other = (name.replace("_44k_", "_44khz_"),) if "_44k_" in name else ()
    return WeightFile(
        name,
        f"SelVA generator {size}",
        _NO_LICENCE,
        repo=_SELVA,
        paths=tuple(f"weights/{spelling}" for spelling in (name, *other)),
        md5=md5,
        reported_size=reported_size,
        size_bytes=size_bytes,
        spellings=other,
    )


def _mmaudio_generator(size: str, *, md5: str, reported_size: str, size_bytes: int) -> WeightFile:
    return WeightFile(
        f"mmaudio_{size}.pth",
        f"MMAudio generator {size}",
        _NON_COMMERCIAL,
        repo=_MMAUDIO,
        paths=(f"weights/mmaudio_{size}.pth",),
        md5=md5,
        reported_size=reported_size,
        size_bytes=size_bytes,
    )


def _shared(
    name: str,
    role: str,
    *,
    md5: str,
    reported_size: str,
    size_bytes: int,
    comfy_folders: tuple[str, ...] = ("selva",),
) -> WeightFile:
    return WeightFile(
        name,
        role,
        _WITH_MMAUDIO,
        repo=_SELVA,
        paths=(f"ext_weights/{name}",),
        urls=(_RELEASE + name,),
        md5=md5,
        reported_size=reported_size,
        size_bytes=size_bytes,
        comfy_folders=comfy_folders,
    )


_PUBLISHED = (
    WeightFile(
        "video_enc_sup_5.pth",
        "TextSynch video encoder with five [SUP] tokens",
        _NO_LICENCE,
        repo=_SELVA,
        paths=("weights/video_enc_sup_5.pth",),
        md5="ff09a6dc36148536ee4db97eba081d05",
        reported_size="539 MB",
        size_bytes=539_354_624,
    ),
    _selva_generator(
        "small_16k",
        md5="1cb0f0deec52de37f67b1fd9965337d0",
        reported_size="629 MB",
        size_bytes=629_134_576,
    ),
    _selva_generator("small_44k", md5=None, reported_size="630 MB", size_bytes=629_636_576),
    _selva_generator("medium_44k", md5=None, reported_size="2.5 GB", size_bytes=2_487_223_776),
    _selva_generator("large_44k", md5=None, reported_size="4.1 GB", size_bytes=4_120_008_672),
    _mmaudio_generator(
        "small_16k",
        md5="af93cde404179f58e3919ac085b8033b",
        reported_size="629 MB",
        size_bytes=629_134_576,
    ),
    _mmaudio_generator(
        "small_44k",
        md5="babd74c884783d13701ea2820a5f5b6d",
        reported_size="630 MB",
        size_bytes=629_636_576,
    ),
    _mmaudio_generator(
        "medium_44k",
        md5="5a56b6665e45a1e65ada534defa903d0",
        reported_size="2.5 GB",
        size_bytes=2_487_223_776,
    ),
    _mmaudio_generator(
        "large_44k",
        md5="fed96c325a6785b85ce75ae1aafd2673",
        reported_size="4.1 GB",
        size_bytes=4_120_008_672,
    ),
    _mmaudio_generator(
        "large_44k_v2",
        md5="01ad4464f049b2d7efdaa4c1a59b8dfe",
        reported_size="4.1 GB",
        size_bytes=4_122_302_432,
    ),
    _shared(
        "v1-16.pth",
        "mel VAE, 16 kHz",
        md5="69f56803f59a549a1a507c93859fd4d7",
        reported_size="687 MB",
        size_bytes=686_629_512,
    ),
    _shared(
        "v1-44.pth",
        "mel VAE, 44.1 kHz",
        md5="fab020275fa44c6589820ce025191600",
        reported_size="1.22 GB",
        size_bytes=1_221_919_752,
    ),
    _shared(
        "best_netG.pt",
        "BigVGAN vocoder, 16 kHz",
        md5="eeaf372a38a9c31c362120aba2dde292",
        reported_size="449 MB",
        size_bytes=448_935_464,
    ),
    _shared(
        "synchformer_state_dict.pth",
        "Synchformer; only its visual part is used",
        md5="5b2f5594b0730f70e41e549b7c94390c",
        reported_size="950 MB",
        size_bytes=949_840_980,
        comfy_folders=("prismaudio", "selva"),
    ),
    WeightFile(
        "clip",
        "CLIP ViT-H/14 text and image towers",
        "Apple's machine learning research licence (apple-amlr)",
        repo="apple/DFN5B-CLIP-ViT-H-14-384",
        reported_size="3.9 GB",
        size_bytes=3_946_859_524,
        parts=(("model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin"),),
    ),
    WeightFile(
        "t5",
        "flan-t5-base text encoder and tokenizer",
        "Apache-2.0",
        repo="google/flan-t5-base",
        reported_size="990 MB",
        parts=(("model.safetensors", "pytorch_model.bin"), ("tokenizer.json",)),
    ),
    WeightFile(
        "bigvgan_v2",
        "BigVGAN v2 vocoder, 44.1 kHz",
        "MIT",
        repo="nvidia/bigvgan_v2_44khz_128band_512x",
        reported_size="489 MB",
        size_bytes=488_748_580,
        parts=(("bigvgan_generator.pt",),),
        companions=("config.json",),
    ),
)
_DEMO = tuple(
    WeightFile(
        name,
        f"embedded demo model: {part.replace('_', ' ')}",
        "MIT, as this project",
        reported_size="inside the package",
    )
    for part, name in VARIANTS["demo_16k"].files.items()
)

FILES: Mapping[str, WeightFile] = {entry.name: entry for entry in (*_PUBLISHED, *_DEMO)}
