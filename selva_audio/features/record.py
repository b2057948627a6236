"""The feature record and its .npz file, compatible with the files users already have (DESIGN 5)."""

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..configs import MAX_DURATION, SEGMENT_FRAMES, SEGMENT_STEP, SYNC_RATE, num_segments
from ..errors import CheckpointError, InputError, MissingFileError
from ..files import atomic_path

FORMAT_VERSION = 1
_MAX_BYTES = 2 * 2**30
_TEXT_KEYS = ("prompt", "negative_prompt", "source", "encoder_id", "variant")
_KEYS = ("clip_features", "sync_features", "duration", "fps", *_TEXT_KEYS)
# What zipfile and numpy raise on damaged or hostile files; MemoryError is an array whose header lies.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


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
        duration: seconds of video the features describe; 0 when not known.
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
        CheckpointError: not an .npz file, damaged, too large, without the two arrays, or with arrays that
            are no features.
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
            values: dict[str, Any] = {key: arrays[key] for key in _KEYS if key in arrays.files}
            others = sorted(set(arrays.files) - set(_KEYS))
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path} is not a readable feature file ({error}). Delete it and extract the features again."
        ) from error
    missing = [key for key in ("clip_features", "sync_features") if key not in values]
    if missing:
        raise CheckpointError(
            f"{path} holds no {' and no '.join(missing)}, only "
            f"{', '.join(sorted([*values, *others])) or 'nothing'}. "
            "Extract the features again with `selva features VIDEO`."
        )
    clip, sync = (_batched(path, key, values[key]) for key in ("clip_features", "sync_features"))
    text = {key: str(values[key]) for key in _TEXT_KEYS if key in values}
    try:
        duration, fps = (float(np.asarray(values.get(key, 0.0)).item()) for key in ("duration", "fps"))
        features = VideoFeatures(clip, sync, duration=duration or _duration_of(sync), fps=fps, **text)
    except (ValueError, TypeError, InputError) as error:
        raise CheckpointError(
            f"{path} holds no usable features ({error}). Extract them again with `selva features VIDEO`."
        ) from error
    if not 0 <= features.duration <= MAX_DURATION:
        raise CheckpointError(
            f"{path} tells a duration of {features.duration:g} s; 0 to {MAX_DURATION:g} s are possible. "
            "Extract the features again with `selva features VIDEO`."
        )
    return features


def _batched(path: Path, key: str, array: np.ndarray) -> Tensor:
    """Float32 tensor with the leading batch axis that files have and some guides leave out."""
    if array.dtype.kind != "f":
        raise CheckpointError(f"{key} of {path} holds {array.dtype}, not floating-point numbers.")
    if array.ndim not in (2, 3):
        raise CheckpointError(f"{key} of {path} must be (B, tokens, width), not {array.shape}.")
    tensor = torch.from_numpy(array.astype(np.float32))
    return tensor[None] if tensor.ndim == 2 else tensor


def _duration_of(sync: Tensor) -> float:
    """Shortest duration with as many segments, for files that record none."""
    segments = sync.shape[1] // SEGMENT_STEP
    duration = (SEGMENT_FRAMES + SEGMENT_STEP * (segments - 1)) / SYNC_RATE if segments else 0.0
    # The float product with 25 falls under some of the whole numbers it stands for.
    return duration if num_segments(duration) >= segments else math.nextafter(duration, math.inf)
