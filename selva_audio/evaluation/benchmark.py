"""The scenes of the selectivity benchmark: a fixed function of (seed, number), always of the split "test".

Materials, lanes, sizes and motions are drawn independently of each other; every object has 6 or more impacts
in 8 seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError, unknown_name
from ..scenes import CONTINUOUS, HEARD, HELD_OUT, MATERIALS, Scene, SceneObject, draw_scene
from .materials import IMPACT_MATERIALS

HEARD_IMPACTS = tuple(name for name in HEARD if name in IMPACT_MATERIALS)
MAX_PROMPTS = 2
# Numbers of scenes: room for 10 000 of each kind below one seed, and for tries until a material is in it.
_SEED_STRIDE, _KIND_STRIDE, _TRY_STRIDE = 10**6, 10**5, 10**16
_KINDS = ("main", "other", "held_out", "continuous")


@dataclass(frozen=True, slots=True)
class Case:
    """One scene and what to prompt for.

    Attributes:
        scene: two or three objects with impacts.
        words: one or two materials in it to prompt for.
        rivals: for each word, another object of the scene, whose prompt is put in its place.
        absent: a material that is not in the scene.
        other: an unrelated scene; the stem of its first object has nothing to do with this one.
    """

    scene: Scene
    words: tuple[str, ...]
    rivals: tuple[str, ...]
    absent: str
    other: Scene


def draw_cases(count: int, seed: int, materials: Sequence[str] = ()) -> list[Case]:
    """The main scenes; in each, one or two of ``materials`` (default: those the generator heard).

    Raises:
        InputError: an unknown material, or one that makes no impacts.
    """
    wanted = tuple(dict.fromkeys(materials)) or HEARD_IMPACTS
    for name in wanted:
        if name not in MATERIALS:
            raise InputError(unknown_name("material", name, IMPACT_MATERIALS))
        if name not in IMPACT_MATERIALS:
            raise InputError(
                f"{name!r} makes no impacts, so it has no onsets to score. "
                f"Name some of {', '.join(IMPACT_MATERIALS)}."
            )
    choice = tuple(dict.fromkeys((*HEARD_IMPACTS, *wanted)))
    cases = []
    for number in range(count):
        scene = _draw(seed, "main", number, choice, wanted, num_objects=2 + number % 2)
        present = [each.material.name for each in scene.objects]
        words = tuple(name for name in present if name in wanted)[:MAX_PROMPTS]
        rivals = tuple(_rival(word, words, present) for word in words)
        absent = next(name for name in HEARD_IMPACTS if name not in present)
        other = _draw(seed, "other", number, HEARD_IMPACTS, HEARD_IMPACTS, num_objects=2)
        cases.append(Case(scene, words, rivals, absent, other))
    return cases


def draw_held_out(count: int, seed: int) -> list[tuple[Scene, str]]:
    """Scenes with a material whose sound the generator never heard, beside one that it knows."""
    cases = []
    for number in range(count):
        word = HELD_OUT[number % len(HELD_OUT)]
        cases.append((_draw(seed, "held_out", number, (word, *HEARD_IMPACTS), (word,), num_objects=2), word))
    return cases


def draw_continuous(count: int, seed: int) -> list[tuple[Scene, str]]:
    """Scenes with a source that sounds all the time, beside one with impacts."""
    word = CONTINUOUS[0]
    return [
        (_draw(seed, "continuous", number, (word, *HEARD_IMPACTS), (word,), num_objects=2), word)
        for number in range(count)
    ]


def find(scene: Scene, word: str) -> tuple[int, SceneObject]:
    """Index and object of a material that is in the scene."""
    index = [each.material.name for each in scene.objects].index(word)
    return index, scene.objects[index]


def _rival(word: str, words: Sequence[str], present: Sequence[str]) -> str:
    """The other prompted object, so that nothing more is made; else any other object."""
    return next(name for name in (*words, *present) if name != word)


def _draw(
    seed: int, kind: str, number: int, choice: Sequence[str], wanted: Sequence[str], *, num_objects: int
) -> Scene:
    """The first scene of a series that shows one of ``wanted``."""
    scene_seed = seed * _SEED_STRIDE + _KINDS.index(kind) * _KIND_STRIDE + number
    while True:
        scene = draw_scene(scene_seed, split="test", materials=choice, num_objects=num_objects)
        if any(scene.find(name) is not None for name in wanted):
            return scene
        scene_seed += _TRY_STRIDE
