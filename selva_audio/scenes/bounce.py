"""The scene of ``selva demo``: a rubber ball and a metal ball, each with its own rhythm."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .draw import draw_frames
from .prompts import prompt
from .scene import FPS, draw_scene

_MATERIALS = ("rubber", "metal")


@dataclass(frozen=True, slots=True)
class BounceScene:
    """A drawn scene.

    Attributes:
        pixels: (T, H, W, 3) uint8.
        fps: frames per second.
        impacts: prompt that names an object -> (K,) seconds of its impacts.
    """

    pixels: NDArray[np.uint8]
    fps: float
    impacts: dict[str, NDArray[np.float64]]


def bouncing_balls(duration: float, *, size: int = 256, seed: int = 0) -> BounceScene:
    """A test scene of two balls, drawn ``size`` pixels wide and high.

    Raises:
        InputError: shorter than 1 second.
    """
    scene = draw_scene(seed, split="test", materials=_MATERIALS, num_objects=2, duration=duration)
    impacts = {prompt(each.material.name): each.impacts for each in scene.objects}
    return BounceScene(draw_frames(scene, size), FPS, impacts)
