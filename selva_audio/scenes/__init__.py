"""Procedural scenes as arrays: frames, stems, events, masks and words. No files, no torch.

The material, lane, size and motion of an object are drawn independently; an object looks, sounds and is
called like its material. Scenes of the "test" split cannot be reached from another split by any seed.
"""

from .draw import draw_frames, draw_masks
from .materials import CONTINUOUS, HEARD, HELD_OUT, MATERIALS, Material
from .prompts import caption, prompt, prompts
from .scene import FPS, Scene, SceneObject, draw_scene, mixture, silence, stem
from .sounds import PERIOD, SAMPLE_RATE

__all__ = [
    "CONTINUOUS",
    "FPS",
    "HEARD",
    "HELD_OUT",
    "MATERIALS",
    "PERIOD",
    "SAMPLE_RATE",
    "Material",
    "Scene",
    "SceneObject",
    "caption",
    "draw_frames",
    "draw_masks",
    "draw_scene",
    "mixture",
    "prompt",
    "prompts",
    "silence",
    "stem",
]
