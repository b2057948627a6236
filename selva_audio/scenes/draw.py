"""Scenes to pixels, by signed distance with soft edges: positions show to a fraction of a pixel.

Letters: T frames, H height = W width = ``size``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .motion import Moves
from .scene import FLOOR, FPS, Scene, SceneObject

Pixels = NDArray[np.uint8]
_Float = NDArray[np.floating[Any]]
_BAR = 0.024
_MARGIN = 0.03


def draw_frames(scene: Scene, size: int = 64, *, first: int = 0, count: int | None = None) -> Pixels:
    """Frames ``first`` to ``first + count`` at 25 per second: (T, size, size, 3) uint8.

    Frame n shows the moment n / 25.
    """
    times = _times(scene, first, count)
    rows = ((np.arange(size, dtype=np.float32) + 0.5) / size)[:, None, None]
    top, bottom = scene.background.astype(np.float32)
    backdrop = np.broadcast_to(top + (bottom - top) * rows, (size, size, 3)).copy()
    _bar(backdrop, scene.floor, FLOOR, 0.0, 1.0)
    for each in scene.objects:
        _draw_fixtures(backdrop, scene, each)
    frames = np.repeat(backdrop[None], len(times), axis=0)
    for each in scene.objects:
        region, body, accent = _coverage(each, times, size)
        part = frames[region]
        for cover, colour in ((body, each.colour), (accent, each.accent)):
            part += cover[..., None] * (colour.astype(np.float32) - part)
    frames += 0.5
    return frames.astype(np.uint8)


def draw_masks(
    scene: Scene, size: int = 64, *, first: int = 0, count: int | None = None
) -> NDArray[np.bool_]:
    """Where each object is: (objects, T, size, size) bool."""
    times = _times(scene, first, count)
    masks = np.zeros((len(scene.objects), len(times), size, size), np.bool_)
    for mask, each in zip(masks, scene.objects, strict=True):
        region, body, _ = _coverage(each, times, size)
        mask[region] = body > 0.5
    return masks


def _times(scene: Scene, first: int, count: int | None) -> NDArray[np.float64]:
    count = scene.num_frames - first if count is None else count
    return (first + np.arange(count)) / FPS


def _draw_fixtures(backdrop: _Float, scene: Scene, each: SceneObject) -> None:
    """The upper bar of a shuttle, the stand of a wheel."""
    left, right = each.centre - each.size, each.centre + each.size
    if not isinstance(each.motion, Moves):
        size = len(backdrop)
        columns = slice(round((each.centre - _BAR) * size), max(round((each.centre + _BAR) * size), 1))
        backdrop[round((FLOOR - each.rest) * size) : round(FLOOR * size), columns] = scene.floor
    elif each.motion.kind == "shuttle":
        travel = float(max(each.motion.origin.max(), each.motion.target.max()))
        _bar(backdrop, scene.floor, FLOOR - travel - 2 * each.size - _BAR, left, right)


def _bar(backdrop: _Float, colour: NDArray[np.float64], top: float, left: float, right: float) -> None:
    size = len(backdrop)
    edges = np.arange(size + 1, dtype=np.float32) / size
    cover = np.clip(np.minimum(edges[1:], top + _BAR) - np.maximum(edges[:-1], top), 0, None) * size
    columns = slice(max(round(left * size), 0), round(right * size))
    backdrop[:, columns] += cover[:, None, None] * (colour.astype(np.float32) - backdrop[:, columns])


def _coverage(
    each: SceneObject, times: NDArray[np.float64], size: int
) -> tuple[tuple[slice, slice, slice], _Float, _Float]:
    """The part of the frames an object can touch, and how much its body and markings cover each pixel."""
    centres = each.positions(times).astype(np.float32)
    reach = each.size * 1.2 + _MARGIN
    (low_x, low_y), (high_x, high_y) = centres.min(axis=0) - reach, centres.max(axis=0) + reach
    region = tuple(
        slice(max(int(low * size), 0), min(int(np.ceil(high * size)), size))
        for low, high in ((low_y, high_y), (low_x, high_x))
    )
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    dx = (grid[region[1]] - centres[:, :1])[:, None, :] / np.float32(each.size)
    dy = (grid[region[0]] - centres[:, 1:])[:, :, None] / np.float32(each.size)
    body, accent = _OUTLINES[each.material.shape](dx, dy, each, times)
    scale = np.float32(each.size * size)
    body = np.clip(0.5 - body * scale, 0, 1)
    return (slice(None), region[0], region[1]), body, body * np.clip(0.5 - accent * scale, 0, 1)


# Each outline gives two signed distances, negative inside, in units of the radius: body and markings.


def _ball(dx: _Float, dy: _Float, each: SceneObject, times: NDArray[np.float64]) -> tuple[_Float, _Float]:
    return np.hypot(dx, dy) - 1, np.hypot(dx + 0.35, dy + 0.35) - np.float32(0.32)


def _square(dx: _Float, dy: _Float, each: SceneObject, times: NDArray[np.float64]) -> tuple[_Float, _Float]:
    return np.maximum(np.abs(dx), np.abs(dy)) - np.float32(0.9), np.abs(np.abs(dy) - 0.45) - np.float32(0.15)


def _diamond(dx: _Float, dy: _Float, each: SceneObject, times: NDArray[np.float64]) -> tuple[_Float, _Float]:
    span = (np.abs(dx) + np.abs(dy)) / np.float32(2**0.5)
    return span - np.float32(0.8), span - np.float32(0.3)


def _triangle(dx: _Float, dy: _Float, each: SceneObject, times: NDArray[np.float64]) -> tuple[_Float, _Float]:
    side = np.float32(0.894) * np.abs(dx) - np.float32(0.447) * (dy + 1)
    body = np.maximum(side, dy - 1)
    return body, body + np.float32(0.45)


def _hexagon(dx: _Float, dy: _Float, each: SceneObject, times: NDArray[np.float64]) -> tuple[_Float, _Float]:
    ax, ay = np.abs(dx), np.abs(dy)
    span = np.maximum(ay, np.float32(0.866) * ax + np.float32(0.5) * ay)
    return span - np.float32(0.95), np.hypot(dx - 0.2, dy - 0.1) - np.float32(0.4)


def _wheel(dx: _Float, dy: _Float, each: SceneObject, times: NDArray[np.float64]) -> tuple[_Float, _Float]:
    """A disc with one light half, so that every angle looks different."""
    assert not isinstance(each.motion, Moves)
    angle = (2 * np.pi * (each.motion.angle(times) % 1.0)).astype(np.float32)[:, None, None]
    return np.hypot(dx, dy) - 1, dx * np.cos(angle) + dy * np.sin(angle)


_OUTLINES = {
    "ball": _ball,
    "square": _square,
    "diamond": _diamond,
    "triangle": _triangle,
    "hexagon": _hexagon,
    "wheel": _wheel,
}
