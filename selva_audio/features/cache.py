"""Content-addressed store of feature files, safe under concurrent writers and torn files."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_cache_path

from ..configs import CLIP_RATE, SYNC_RATE
from ..errors import CheckpointError, MissingFileError
from ..files import file_digest, file_lock, safe_name
from ..options import FeatureOptions
from ..records import Frames
from .record import FORMAT_VERSION, VideoFeatures, load_features, save_features

logger = logging.getLogger(__name__)

_NOT_IN_KEY = {"cache_dir", "name", "negative_prompt"}


def default_cache_dir() -> Path:
    """User cache folder for features."""
    return user_cache_path("selva-audio", appauthor=False) / "features"


def source_digest(source: Path | Frames) -> str:
    """SHA-256 of everything the frames depend on: all bytes of a file, or all pixels and times."""
    if isinstance(source, Path):
        return file_digest(source)
    digest = hashlib.sha256(repr(source.pixels.shape).encode())
    for frame in source.pixels:
        digest.update(np.ascontiguousarray(frame).data)
    digest.update(np.ascontiguousarray(source.times, dtype=np.float64).data)
    return digest.hexdigest()


def source_name(source: Path | Frames) -> str:
    """What people call the source."""
    return source.name if isinstance(source, Path) else "frames"


class FeatureCache:
    """Feature files in one folder, named after the content they were made from.

    Args:
        folder: where the files are; None is the user cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else default_cache_dir()

    def key(
        self, source: str, mask: str, options: FeatureOptions, encoder_id: str, extra: dict[str, Any]
    ) -> str:
        """SHA-256 over the source's and the mask's digests, every option that matters, and the weights."""
        account = {
            "format": FORMAT_VERSION,
            "source": source,
            "mask": mask,
            "options": options.model_dump(mode="json", exclude=_NOT_IN_KEY),
            "encoder": encoder_id,
            "rates": [CLIP_RATE, SYNC_RATE],
            **extra,
        }
        return hashlib.sha256(json.dumps(account, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> VideoFeatures | None:
        """The features stored under ``key``; a torn file counts as absent and is made again."""
        path = self.folder / f"{key}.npz"
        try:
            return load_features(path)
        except MissingFileError:
            return None
        except CheckpointError as error:
            logger.warning("Ignoring a damaged cache file: %s", error)
            return None

    def has(self, key: str) -> bool:
        """Whether there is a file for ``key``, whole or torn."""
        return (self.folder / f"{key}.npz").is_file()

    def put(self, key: str, features: VideoFeatures) -> Path:
        """Store under ``key``; the rename is atomic, so the last of several writers wins whole."""
        return save_features(self.folder / f"{key}.npz", features)

    def put_numbered(self, name: str, features: VideoFeatures) -> Path:
        """Store as ``name_001.npz``, ``name_002.npz``, ... at the first free number (data sets).

        Raises:
            InputError: ``name`` cannot be a file name.
        """
        stem = safe_name(name)
        with file_lock(self.folder / f".{stem}.npz"):
            number = 1
            while (path := self.folder / f"{stem}_{number:03d}.npz").exists():
                number += 1
            return save_features(path, features)
