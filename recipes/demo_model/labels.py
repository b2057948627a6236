"""What the encoder is taught about a segment: events, places, materials and speeds, as arrays.

A segment is 16 frames; bin b is the 40 ms from its frame b on. Slot k of 8 stands for the moment bin 4 + k,
in the middle of the window, and has looked at the frames 2k and 2k + 1.

Letters: N segments, Q prompts of each, P = 16 patches of 4 x 4, K = 8 slots.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from selva_audio.configs import SEGMENT_FRAMES, SEGMENT_STEP
from selva_audio.scenes import FPS, MATERIALS, Scene, SceneObject, draw_frames, prompts
from selva_audio.scenes.motion import TOP_SPEED

BACKGROUND = len(MATERIALS)
NEIGHBOUR = 0.35
_GRID = 4
_CENTRE = 4
_NEAR = 0.1
_OVERLAP = 0.03
_NAMES = tuple(MATERIALS)
_PATCH_CENTRES = np.stack(
    np.meshgrid((np.arange(_GRID) + 0.5) / _GRID, (np.arange(_GRID) + 0.5) / _GRID), axis=-1
).reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class Batch:
    """Segments, prompts and everything to be predicted.

    Attributes:
        frames: (N, 16, 3, H, W) in [-1, 1].
        prompts: N Q texts, the prompts of a segment one after another.
        words: (N Q,) material that each prompt names.
        events: (N Q, K, 3) soft: the slot's moment, then its two frames.
        offset: (N Q, K) seconds / 0.1 from the middle of the slot's moment to the nearest impact.
        loudness: (N Q, K) of that impact, 0 to 1.
        is_near: (N Q, K) whether an impact is within 0.1 s.
        place: (N Q, K, 4) x and y at the two frames, -1 to 1.
        speed: (N Q, K) of a turning object at the slot's moment, 0 to 1.
        presence: (N Q,) whether the named object is in the scene.
        here: (N Q, K, P) whether it covers the patch.
        material: (N, K, P) class of what covers the patch, or ``BACKGROUND``.
        patch_events: (N, K, P, 2) soft, at the two frames.
        patch_place: (N, K, P, 4) place of the object relative to the patch, in patches.
        patch_speed: (N, K, P).
    """

    frames: Tensor
    prompts: list[str]
    words: Tensor
    events: Tensor
    offset: Tensor
    loudness: Tensor
    is_near: Tensor
    place: Tensor
    speed: Tensor
    presence: Tensor
    here: Tensor
    material: Tensor
    patch_events: Tensor
    patch_place: Tensor
    patch_speed: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        moved = {key: value.to(device) for key, value in values.items() if isinstance(value, Tensor)}
        return Batch(**values | moved)


def segment_batch(
    scenes: list[Scene], segments: list[int], named: list[list[str]], rng: np.random.Generator, size: int
) -> Batch:
    """Draw one segment of each scene and label it for the materials in ``named``."""
    frames = np.stack(
        [
            draw_frames(scene, size, first=SEGMENT_STEP * segment, count=SEGMENT_FRAMES)
            for scene, segment in zip(scenes, segments, strict=True)
        ]
    )
    rows = [
        _label(scene, SEGMENT_STEP * segment / FPS, words)
        for scene, segment, words in zip(scenes, segments, named, strict=True)
    ]
    texts = [str(rng.choice(prompts(word))) for words in named for word in words]
    stacked = {key: torch.from_numpy(np.concatenate([row[key] for row in rows])) for key in rows[0]}
    pixels = torch.from_numpy(frames).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    words = torch.tensor([_NAMES.index(word) for each in named for word in each])
    return Batch(frames=pixels, prompts=texts, words=words, **stacked)


def soft_bins(impacts: np.ndarray, start: float, count: int) -> np.ndarray:
    """(count,) bins of 40 ms from ``start`` on: 1 where an impact is, ``NEIGHBOUR`` beside it."""
    index = np.floor((impacts - start) * FPS + 1e-6).astype(int)
    bins = np.zeros(count + 2, np.float32)
    for shift, value in ((-1, NEIGHBOUR), (1, NEIGHBOUR), (0, 1.0)):
        inside = index[(index + shift >= -1) & (index + shift <= count)] + shift + 1
        bins[inside] = np.maximum(bins[inside], value)
    return bins[1:-1]


def _label(scene: Scene, start: float, words: list[str]) -> dict[str, np.ndarray]:
    objects = list(scene.objects)
    times = start + np.arange(SEGMENT_FRAMES) / FPS
    slots = start + (_CENTRE + np.arange(SEGMENT_STEP) + 0.5) / FPS
    # (objects, K, 2 frames, xy)
    places = np.stack([each.positions(times) for each in objects]).reshape(len(objects), -1, 2, 2)
    bins = np.stack([soft_bins(each.impacts, start, SEGMENT_FRAMES) for each in objects])
    speeds = np.stack([each.speeds(slots) / TOP_SPEED for each in objects])
    owner, relative = _owners(objects, places)
    labels = _patches(objects, owner, relative, bins, speeds)
    per_word = [_word(scene, word, slots, places, bins, speeds, owner) for word in words]
    labels |= {key: np.stack([row[key] for row in per_word]) for key in per_word[0]}
    return {key: value.astype(np.int64 if key == "material" else np.float32) for key, value in labels.items()}


def _owners(objects: list[SceneObject], places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, P) index of the nearest object that covers a patch, or -1; (objects, K, P, 2 frames, xy) places."""
    relative = (places[:, :, None] - _PATCH_CENTRES[None, None, :, None]) * _GRID
    middle = relative.mean(axis=3)
    reach = np.array([(each.size - _OVERLAP) * _GRID + 0.5 for each in objects])[:, None, None]
    covers = np.abs(middle).max(axis=-1) < reach
    distance = np.where(covers, np.linalg.norm(middle, axis=-1), np.inf)
    return np.where(covers.any(axis=0), distance.argmin(axis=0), -1), relative


def _patches(
    objects: list[SceneObject], owner: np.ndarray, relative: np.ndarray, bins: np.ndarray, speeds: np.ndarray
) -> dict[str, np.ndarray]:
    is_object = owner >= 0
    slot, patch = np.indices(owner.shape)
    classes = np.array([_NAMES.index(each.material.name) for each in objects])
    pairs = bins.reshape(len(objects), -1, 2)
    return {
        "material": np.where(is_object, classes[owner], BACKGROUND)[None],
        "patch_events": (pairs[owner, slot] * is_object[..., None])[None],
        "patch_place": np.clip(relative[owner, slot, patch].reshape(*owner.shape, 4), -2, 2)[None],
        "patch_speed": (speeds[owner, slot] * is_object)[None],
    }


def _word(
    scene: Scene,
    word: str,
    slots: np.ndarray,
    places: np.ndarray,
    bins: np.ndarray,
    speeds: np.ndarray,
    owner: np.ndarray,
) -> dict[str, np.ndarray]:
    names = [each.material.name for each in scene.objects]
    if word not in names:
        zeros = np.zeros(len(slots))
        row = {"events": np.zeros((len(slots), 3)), "place": np.zeros((len(slots), 4))}
        row |= {key: zeros for key in ("offset", "loudness", "is_near", "speed")}
        return row | {"presence": np.zeros(()), "here": np.zeros(owner.shape)}
    index = names.index(word)
    each, pairs = scene.objects[index], bins[index].reshape(-1, 2)
    middle = bins[index][_CENTRE : _CENTRE + len(slots), None]
    offset, loudness = np.full(len(slots), np.inf), np.zeros(len(slots))
    if len(each.impacts):
        nearest = np.abs(each.impacts[None] - slots[:, None]).argmin(axis=1)
        offset, loudness = each.impacts[nearest] - slots, each.loudness[nearest]
    is_near = np.abs(offset) < _NEAR
    return {
        "events": np.concatenate([middle, pairs], axis=1),
        "offset": np.where(is_near, offset / _NEAR, 0),
        "loudness": loudness,
        "is_near": is_near,
        "place": 2 * places[index].reshape(-1, 4) - 1,
        "speed": speeds[index],
        "presence": np.ones(()),
        "here": owner == index,
    }
