"""From pictures to what the encoders were trained on: sizes and value ranges.

The resize works on uint8 and on the CPU: torch's uint8 kernel rounds after the first axis and uses
fixed-point weights, and the published code goes through it. A float resize differs by up to 15 levels.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

SYNC_SIZE = 224
CLIP_SIZE = 384


def squash(rgb: np.ndarray, size: int) -> np.ndarray:
    """Resize to a square without keeping the aspect ratio.

    Args:
        rgb: (H, W, 3) uint8.
        size: side of the result, in pixels.

    Returns:
        (size, size, 3) uint8; the input itself if it already has that size.

    Source: SPEC 9.1, 9.3, 9.4.
    """
    return _resize(rgb, size, size)


def short_side_crop(rgb: np.ndarray, size: int) -> np.ndarray:
    """Resize the short side to ``size`` and cut the centre square out of the long one.

    Args:
        rgb: (H, W, 3) uint8.
        size: side of the result, in pixels.

    Returns:
        (size, size, 3) uint8.

    Source: MMAudio's transform (SPEC 9.2).
    """
    height, width, top, left = crop_geometry(rgb.shape[0], rgb.shape[1], size)
    # A copy, for a view would keep the sides in memory; in the order that it has.
    return _resize(rgb, height, width)[top : top + size, left : left + size].copy(order="K")


def crop_geometry(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Scaled height and width, and the offsets from top and left, of ``short_side_crop``."""
    short = min(height, width)
    scaled = int(size * height / short), int(size * width / short)
    top, left = (round((side - size) / 2) for side in scaled)
    return scaled[0], scaled[1], top, left


def to_sync(frames: np.ndarray) -> "Tensor":
    """(T, H, W, 3) uint8 to (T, 3, H, W) float32 in [-1, 1]."""
    # Half of 255, and the same to the bit as halving and doubling around the middle: powers of two are exact.
    return _planar(frames, 127.5, 1.0)


def to_clip(frames: np.ndarray) -> "Tensor":
    """(T, H, W, 3) uint8 to (T, 3, H, W) float32 in [0, 1]; CLIP normalises inside its encoder."""
    return _planar(frames, 255.0, 0.0)


def _planar(frames: np.ndarray, divisor: float, offset: float) -> "Tensor":
    """(T, 3, H, W) float32 ``frames / divisor - offset``."""
    count, height, width, channels = frames.shape
    result = torch.empty(count, channels, height, width)
    # Frame by frame, so that all of it happens in the processor's cache.
    for place, frame in zip(result.numpy(), frames, strict=True):
        np.divide(frame.transpose(2, 0, 1), np.float32(divisor), out=place, dtype=np.float32)
        if offset:
            np.subtract(place, np.float32(offset), out=place)
    return result


def _resize(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    if rgb.shape[:2] == (height, width):
        return rgb
    pixels = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None]
    resized = functional.interpolate(
        pixels, size=(height, width), mode="bicubic", antialias=True, align_corners=False
    )
    # Planar in memory, as torch leaves it and as the encoders take it; numpy need not know.
    return np.asarray(resized[0].permute(1, 2, 0).numpy())
