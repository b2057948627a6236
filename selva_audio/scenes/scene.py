"""A scene: a few objects in lanes, what they look like, how they move and when they sound.

Drawing a scene costs well under a millisecond; frames (``draw``) and sound are made when asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, unknown_name
from .materials import MATERIALS, Material
from .motion import Array, Moves, Turning, hops, shuttles, turning
from .seeds import stream
from .sounds import SAMPLE_RATE, impact, room_tone, turning_sound

FPS = 25.0
FLOOR = 0.88
MAX_OBJECTS = 3
_NUM_SHARES = (0.2, 0.5, 0.3)
_HOP_SHARE = 0.65
_SIZES = (0.075, 0.110)
_WHEEL_SIZES = (0.115, 0.145)
_WHEEL_HEIGHTS = (0.2, 0.4)
# Few, so that a small vocoder can tell which harmonics a wide band of the mel holds.
_PITCHES = (0.92, 1.0, 1.08)
_COLOUR_JITTER = 18.0
_BACKGROUND = (18.0, 20.0, 26.0)
_BACKGROUND_JITTER = 26.0
_FLOOR_LIFT = 90.0


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object.

    Attributes:
        material: look, sound and words.
        centre: horizontal place, 0 to 1 of the frame.
        size: radius, of the frame side.
        motion: how it moves.
        rest: height of its centre above the floor line when it does not move.
        colour: RGB of the body, 0 to 255.
        accent: RGB of the markings.
        pitch: factor on its frequencies, one of three; small objects sound higher.
    """

    material: Material
    centre: float
    size: float
    motion: Moves | Turning
    rest: float
    colour: Array
    accent: Array
    pitch: float

    @property
    def impacts(self) -> Array:
        """(K,) seconds of its impacts; none for a continuous source."""
        return self.motion.end if isinstance(self.motion, Moves) else np.zeros(0)

    @property
    def loudness(self) -> Array:
        """(K,) 0 to 1, of each impact."""
        return self.motion.loudness if isinstance(self.motion, Moves) else np.zeros(0)

    def positions(self, times: Array) -> Array:
        """(T, 2) centre as x to the right and y down, of the frame side."""
        height = self.motion.heights(times) if isinstance(self.motion, Moves) else np.zeros(len(times))
        return np.stack([np.full(len(times), self.centre), FLOOR - self.rest - height], axis=1)

    def speeds(self, times: Array) -> Array:
        """(T,) turns per second; zero for what does not turn."""
        return self.motion.speed(times) if isinstance(self.motion, Turning) else np.zeros(len(times))


@dataclass(frozen=True, slots=True)
class Scene:
    """Objects, duration and backdrop; equal arguments of ``draw_scene`` give an equal scene.

    Attributes:
        split: "train", "val" or "test".
        seed: number of the scene in its split.
        duration: seconds.
        objects: from left to right, each of another material.
        background: (2, 3) RGB at the top and the bottom.
        floor: RGB of the floor and the bars.
    """

    split: str
    seed: int
    duration: float
    objects: tuple[SceneObject, ...]
    background: Array = field(repr=False)
    floor: Array = field(repr=False)

    @property
    def num_frames(self) -> int:
        """At 25 frames per second."""
        return round(self.duration * FPS)

    @property
    def num_samples(self) -> int:
        """At 16 kHz."""
        return round(self.duration * SAMPLE_RATE)

    def find(self, material: str) -> SceneObject | None:
        """The object of this material, if there is one."""
        return next((each for each in self.objects if each.material.name == material), None)


def draw_scene(
    seed: int,
    *,
    split: str,
    materials: Sequence[str] = tuple(MATERIALS),
    num_objects: int | None = None,
    duration: float = 8.0,
    variety: float = 1.0,
) -> Scene:
    """Draw a scene; materials, lanes, sizes and motions are independent of each other.

    Args:
        seed: number of the scene, from 0.
        split: "train", "val" or "test"; the same seed gives unrelated scenes in each.
        materials: names to choose from, without repetition.
        num_objects: 1 to 3; None draws it.
        duration: seconds, 1 or more.
        variety: 0 to 1, how much colours and backgrounds differ.

    Raises:
        InputError: an unknown material or split, or numbers that do not fit.
    """
    for name in materials:
        if name not in MATERIALS:
            raise InputError(unknown_name("material", name, MATERIALS))
    limit = min(MAX_OBJECTS, len(set(materials)))
    if num_objects is not None and not 1 <= num_objects <= limit:
        raise InputError(
            f"A scene has 1 to {limit} objects of these materials, not {num_objects}. "
            "Name more materials, or ask for fewer objects."
        )
    if duration < 1:
        raise InputError(f"A scene lasts 1 second or more, not {duration:g}.")
    rng = stream(split, seed, "scene")
    count = num_objects or min(limit, 1 + int(rng.choice(MAX_OBJECTS, p=_NUM_SHARES)))
    chosen = rng.permutation(sorted(set(materials)))[:count]
    num_lanes = max(count, 2)
    lanes = np.sort(rng.permutation(num_lanes)[:count])
    width = 1 / num_lanes
    objects = tuple(
        _draw_object(rng, MATERIALS[str(name)], lane * width, width, duration, variety)
        for name, lane in zip(chosen, lanes, strict=True)
    )
    background = np.array(_BACKGROUND) + variety * rng.uniform(-0.6, 1.0, (2, 3)) * _BACKGROUND_JITTER
    floor = background[1] + _FLOOR_LIFT + variety * rng.uniform(-12, 12)
    return Scene(split, seed, duration, objects, np.clip(background, 0, 255), np.clip(floor, 0, 255))


def stem(scene: Scene, index: int) -> NDArray[np.float32]:
    """Sound of one object, with room tone: (L,) float32 at 16 kHz."""
    each = scene.objects[index]
    wave = room_tone(scene.num_samples)
    if isinstance(each.motion, Turning):
        return wave + turning_sound(each.material, each.motion, scene.num_samples, each.pitch)
    rng = stream(scene.split, scene.seed, f"sound {index}")
    for time, loudness in zip(each.impacts, each.loudness, strict=True):
        first = round(time * SAMPLE_RATE)
        sound = impact(each.material, float(loudness), each.pitch, rng, first)[: scene.num_samples - first]
        wave[first : first + len(sound)] += sound
    return wave


def silence(scene: Scene) -> NDArray[np.float32]:
    """Room tone alone: the sound of a prompt that names nothing in the scene."""
    return room_tone(scene.num_samples)


def mixture(scene: Scene) -> NDArray[np.float32]:
    """Sum of all stems: (L,) float32."""
    total = np.zeros(scene.num_samples, np.float32)
    for index in range(len(scene.objects)):
        total += stem(scene, index)
    return total


def _draw_object(
    rng: np.random.Generator, material: Material, left: float, width: float, duration: float, variety: float
) -> SceneObject:
    size = rng.uniform(*(_WHEEL_SIZES if material.continuous else _SIZES))
    slack = max(width / 2 - size - 0.02, 0.0)
    centre = left + width / 2 + rng.uniform(-1, 1) * min(slack, 0.1)
    is_hop = rng.random() < _HOP_SHARE
    motion: Moves | Turning
    if material.continuous:
        motion, rest = turning(rng, duration), size + rng.uniform(*_WHEEL_HEIGHTS)
    else:
        motion, rest = (hops if is_hop else shuttles)(rng, duration), size
    jitter = variety * rng.uniform(-1, 1, (2, 3)) * _COLOUR_JITTER
    colour, accent = (
        np.clip(np.array(base, dtype=np.float64) + shift, 0, 255)
        for base, shift in zip((material.colour, material.accent), jitter, strict=True)
    )
    exact = float((np.mean(_WHEEL_SIZES if material.continuous else _SIZES) / size) ** 0.5)
    pitch = min(_PITCHES, key=lambda each: abs(each - exact))
    return SceneObject(material, centre, size, motion, rest, colour, accent, pitch)
