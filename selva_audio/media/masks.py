"""Masks: where in the picture the sounding thing is.

Pixels outside the mask are blended towards mid-grey, which is zero after the encoders' scaling.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from ..errors import InputError, MediaError
from .container import LIMITS, MediaLimits, open_media, regular_file, video_stream
from .decode import Decoder
from .transforms import crop_geometry

if TYPE_CHECKING:
    from torch import Tensor

_NEUTRAL = 0.5
_MAX_MASK_BYTES = 2 * 2**30
# Containers round time stamps (Matroska to 1 ms): a mask frame this little early is still the same frame.
_SAME_TIME = 2e-3


@dataclass(frozen=True, slots=True)
class Mask:
    """A still mask or one that changes with the video.

    Attributes:
        values: (T, H, W) of any size; uint8 0..255, or float or bool 0..1. T = 1 holds for all frames.
        times: (T,) seconds at which each mask appears; None if it has no clock of its own.
    """

    values: np.ndarray
    times: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or 0 in self.values.shape:
            raise InputError(
                f"A mask must be (H, W) or (T, H, W) and not empty, not {tuple(self.values.shape)}. "
                "Use one channel per mask."
            )
        if self.times is not None and len(self.times) != len(self.values):
            raise InputError(f"{len(self.values)} masks came with {len(self.times)} times.")

    def at(
        self,
        times: Sequence[float] | np.ndarray,
        *,
        sources: Sequence[int] | np.ndarray | None = None,
        num_frames: int = 0,
        duration: float = 0.0,
    ) -> "Tensor":
        """The mask of each sampled frame.

        Masks with times follow the rule of frames: the first mask at or after the frame's own time.
        Without times, mask i belongs to source frame i if there are as many of both, else the masks are
        spread evenly over the video.

        Args:
            times: (N,) seconds at which the sampled frames appear in the source.
            sources: (N,) their numbers in the source.
            num_frames: frames of the source.
            duration: seconds of the source.

        Returns:
            (N, H, W) float32 in [0, 1], in the mask's own size.

        Raises:
            InputError: several masks without times, and no duration to spread them over.
        """
        count = len(self.values)
        if count == 1:
            chosen = np.zeros(len(times), dtype=np.int64)
        elif self.times is not None:
            chosen = np.searchsorted(self.times, np.asarray(times) - _SAME_TIME, side="left")
        elif count == num_frames and sources is not None:
            chosen = np.asarray(sources)
        elif duration > 0:
            chosen = np.floor(np.asarray(times) / duration * count + 1e-9).astype(np.int64)
        else:
            raise InputError(
                f"{count} masks without times need the length of their video. Give their times, or one mask."
            )
        values = torch.from_numpy(self.values[np.clip(chosen, 0, count - 1)]).float()
        return values / 255 if self.values.dtype == np.uint8 else values

    def digest(self) -> str:
        """SHA-256 over values, shape, number format and times."""
        account = hashlib.sha256(f"{self.values.shape} {self.values.dtype}".encode())
        account.update(np.ascontiguousarray(self.values).data)
        if self.times is not None:
            account.update(np.ascontiguousarray(self.times, dtype=np.float64).data)
        return account.hexdigest()


def mask_from_array(values: "np.ndarray | Tensor", times: np.ndarray | None = None) -> Mask:
    """Mask from numbers.

    Args:
        values: (H, W) or (T, H, W); uint8 0..255, bool, or float in [0, 1].
        times: (T,) seconds, if the masks have their own clock.

    Raises:
        InputError: another number of dimensions, a value outside the range, or NaN.
    """
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.ndim == 2:
        array = array[None]
    if array.dtype.kind not in "fb" and array.dtype != np.uint8:
        raise InputError(
            f"A mask must hold uint8, bool or float values, not {array.dtype}. Scale it to 0..1 as float."
        )
    mask = Mask(array, times)
    if array.dtype.kind == "f" and not (array.min() >= 0 and array.max() <= 1):
        raise InputError(
            f"Float masks go from 0 to 1, but this one goes from {array.min()} to {array.max()}. "
            "Divide it by its largest value, or give uint8."
        )
    return mask


def load_mask(path: str | os.PathLike[str], *, limits: MediaLimits = LIMITS) -> Mask:
    """Mask from a picture (brightness, white = keep) or from a video with its own timestamps.

    Raises:
        MediaError: not a picture or video, or more mask frames than fit in memory.
    """
    source = regular_file(path)
    masks: list[np.ndarray] = []
    times: list[float] = []
    with open_media(source, limits=limits) as container:
        stream = video_stream(container, str(source))
        decoder = Decoder(
            container, stream, name=str(source), file_bytes=source.stat().st_size, limits=limits
        )
        for shown in decoder:
            masks.append(decoder.grey(shown.frame))
            times.append(shown.time)
            if masks[-1].shape != masks[0].shape:
                raise MediaError(f"The mask {source} changes its size. Re-encode it to one size.")
            if len(masks) * masks[0].nbytes > _MAX_MASK_BYTES:
                raise MediaError(
                    f"The mask {source} takes more than {_MAX_MASK_BYTES / 2**30:.0f} GB of memory. "
                    "Scale it down: any size works."
                )
    return Mask(np.stack(masks), np.array(times) if len(masks) > 1 else None)


def fit_masks(masks: "Tensor", height: int, width: int, *, crop: int = 0) -> "Tensor":
    """Bring masks to the geometry of the encoder's frames.

    Args:
        masks: (N, h, w) of any size.
        height: of the frames; of the *source* frames if ``crop`` is given.
        width: likewise.
        crop: side of the square if the frames went through ``short_side_crop``; 0 = they did not.

    Returns:
        (N, height, width) or (N, crop, crop), resized nearest-exact.
    """
    top, left = 0, 0
    if crop:
        height, width, top, left = crop_geometry(height, width, crop)
    fitted = functional.interpolate(masks[:, None], size=(height, width), mode="nearest-exact")[:, 0]
    return fitted[:, top : top + crop, left : left + crop].contiguous() if crop else fitted


def apply_mask(frames: "Tensor", masks: "Tensor", strength: float = 1.0) -> "Tensor":
    """Blend what lies outside the mask towards mid-grey.

    Args:
        frames: (T, 3, H, W) float in [0, 1].
        masks: (T, h, w) or (1, h, w) in [0, 1]; 1 keeps the pixel. Another size is resized nearest-exact.
        strength: 0 changes nothing, 1 replaces the outside altogether.

    Returns:
        (T, 3, H, W): ``x * a + 0.5 * (1 - a)`` with ``a = 1 - strength * (1 - mask)``.

    Raises:
        InputError: numbers of dimensions or counts that do not fit.

    Source: COMPAT 3.1.
    """
    if frames.ndim != 4 or masks.ndim != 3 or len(masks) not in (1, len(frames)):
        raise InputError(
            f"Masks {tuple(masks.shape)} do not fit frames {tuple(frames.shape)}. "
            "Give (T, H, W), or one mask (1, H, W), for frames (T, 3, H, W)."
        )
    if masks.shape[1:] != frames.shape[2:]:
        masks = fit_masks(masks, frames.shape[2], frames.shape[3])
    keep = (1 - strength * (1 - masks.to(frames.dtype)))[:, None]
    return frames * keep + _NEUTRAL * (1 - keep)
