"""The feature record and its .npz file, compatible with the files users already have (DESIGN 5)."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..configs import SEGMENT_STEP
from ..errors import CheckpointError, InputError, MissingFileError
from ..files import atomic_path

FORMAT_VERSION = 1
_MAX_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class VideoFeatures:
    """What the encoders saw in one video.

    Attributes:
        clip: (B, 8d, 1024) float32 CLIP image features; (B, 0, 1024) when the generator is to use its
            learned empty vector.
        sync: (B, 8S, 768) float32 sync features, eight per segment of 0.64 s, segments 0.32 s apart;
            (B, 0, 768) without a video.
        prompt: sentence the sync features were made for.
        negative_prompt: sentence to steer away from, carried to the sampler.
        duration: seconds of video the features describe.
        source: file name or description of the video, for people.
        encoder_id: text that changes with the encoder weights; "" when not known.
        fps: average source frame rate; 0 when not known.
        variant: variant that was loaded when the features were made; any variant of the same widths
            takes them.
    """

    clip: Tensor
    sync: Tensor
    prompt: str = ""
    negative_prompt: str = ""
    duration: float = 0.0
    source: str = ""
    encoder_id: str = ""
    fps: float = 0.0
    variant: str = ""

    def __post_init__(self) -> None:
        if self.clip.ndim != 3 or self.sync.ndim != 3:
            raise InputError(
                f"Features must be (B, tokens, width); clip is {tuple(self.clip.shape)}, "
                f"sync {tuple(self.sync.shape)}."
            )
        if self.sync.shape[1] % SEGMENT_STEP:
            raise InputError(f"Sync features come eight per segment; {self.sync.shape[1]} rows were given.")


def save_features(path: str | Path, features: VideoFeatures) -> Path:
    """Write ``features`` as .npz, whole or not at all; returns the path."""
    path = Path(path)
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            clip_features=features.clip.float().numpy(),
            sync_features=features.sync.float().numpy(),
            duration=np.float64(features.duration),
            prompt=features.prompt,
            negative_prompt=features.negative_prompt,
            variant=features.variant,
            fps=np.float64(features.fps),
            encoder_id=features.encoder_id,
            source=features.source,
            format_version=FORMAT_VERSION,
        )
    return path


def load_features(path: str | Path) -> VideoFeatures:
    """Read a feature file, ours or one of the public pack (only the two arrays are required).

    Raises:
        MissingFileError: no such file.
        CheckpointError: not an .npz file, damaged, too large, or without the two arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"There is no feature file {path}. Make one with `selva features VIDEO`.")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MAX_BYTES:
            raise CheckpointError(f"{path} would unpack to {size / 2**30:.1f} GB; that is no feature file.")
        with np.load(path, allow_pickle=False) as arrays:
            values: dict[str, Any] = {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise CheckpointError(
            f"{path} is not a readable feature file ({error}). Delete it and extract the features again."
        ) from error
    missing = [key for key in ("clip_features", "sync_features") if key not in values]
    if missing:
        raise CheckpointError(
            f"{path} holds no {' and no '.join(missing)}, only {', '.join(sorted(values)) or 'nothing'}. "
            "Extract the features again with `selva features VIDEO`."
        )
    clip, sync = (_batched(values[key]) for key in ("clip_features", "sync_features"))
    duration = float(values["duration"]) if "duration" in values else _duration_of(sync)
    text = {
        key: str(values[key])
        for key in ("prompt", "negative_prompt", "source", "encoder_id", "variant")
        if key in values
    }
    return VideoFeatures(clip, sync, duration=duration, fps=float(values.get("fps", 0.0)), **text)


def _batched(array: np.ndarray) -> Tensor:
    """Float32 tensor with the leading batch axis that files have and some guides leave out."""
    tensor = torch.from_numpy(np.asarray(array, dtype=np.float32))
    return tensor[None] if tensor.ndim == 2 else tensor


def _duration_of(sync: Tensor) -> float:
    """Shortest duration with as many segments, for the oldest files, which record none."""
    segments = sync.shape[1] // SEGMENT_STEP
    return (16 + SEGMENT_STEP * (segments - 1)) / 25 if segments else 0.0
