"""The generator's training set: frozen features and latents of scenes, in shards on disk.

Held-out materials are not in these scenes at all, neither as prompt nor as neighbour.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from selva_audio.configs import CLIP_RATE
from selva_audio.media.transforms import squash, to_clip, to_sync
from selva_audio.scenes import FPS, HEARD, Scene, draw_frames, prompts, silence, stem
from selva_audio.weights.io import write_safetensors

from .data import CONFIG, mels, training_scene
from .fit import stream
from .parts import load_part

NUM_SHARDS = 36
SCENES_OF_SHARD = 25
PROMPTS_OF_SCENE = 2
_FULL_SIZE_SHARE = 0.3
_FULL_SIZE = 128
_FIELDS = ("latent", "sync", "clip")


@dataclass(frozen=True, slots=True)
class Pairs:
    """(Scene, prompt) pairs in half precision.

    Attributes:
        latent: (P, N, C) VAE means of the prompted object's stem.
        sync: (P, 8 S, D).
        clip: (P, N_clip, D).
        prompts: P texts.
    """

    latent: Tensor
    sync: Tensor
    clip: Tensor
    prompts: list[str]


class FeatureEncoder:
    """The frozen networks, as ``selva features`` runs them.

    Args:
        folder: holds the exported parts.
    """

    def __init__(self, folder: Path) -> None:
        self.video = load_part(folder, "video_encoder")
        self.t5 = load_part(folder, "t5")
        self.clip = load_part(folder, "clip")

    @torch.no_grad()
    def sync(self, frames: np.ndarray, texts: list[str]) -> Tensor:
        """(T, 64, 64, 3) uint8 -> (len(texts), 8 S, D)."""
        pixels = to_sync(frames)[None].expand(len(texts), -1, -1, -1, -1)
        features: Tensor = self.video.encode(pixels, *self.t5.encode_text(texts))
        return features

    @torch.no_grad()
    def images(self, frames: np.ndarray) -> Tensor:
        """(T, 64, 64, 3) uint8 at 25 frames per second -> (1, N_clip, D)."""
        count = int(len(frames) / FPS * CLIP_RATE)
        index = np.minimum(np.ceil(np.arange(count) * FPS / CLIP_RATE).astype(int), len(frames) - 1)
        features: Tensor = self.clip.encode_image(to_clip(frames[index])[None])
        return features


def make_shards(
    folder: Path, *, seed: int, num_shards: int = NUM_SHARDS, num_scenes: int = SCENES_OF_SHARD
) -> list[Path]:
    """Encode what is missing; each shard depends on (seed, number) alone."""
    cache = folder / "features"
    cache.mkdir(parents=True, exist_ok=True)
    paths = [cache / f"{index:03d}.safetensors" for index in range(num_shards)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        encoder, vae = FeatureEncoder(folder), load_part(folder, "vae")
        for path in missing:
            _make_shard(path, encoder, vae.encode, stream(seed, "features", path.stem), num_scenes)
            print(json.dumps({"stage": "features", "shard": path.stem}), flush=True)
    return paths


def read_shards(paths: list[Path]) -> Pairs:
    """All shards as one."""
    parts: dict[str, list[Tensor]] = {key: [] for key in _FIELDS}
    texts: list[str] = []
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for key in _FIELDS:
                parts[key].append(file.get_tensor(key))
            texts += json.loads(file.metadata()["prompts"])
    return Pairs(**{key: torch.cat(value) for key, value in parts.items()}, prompts=texts)


def scene_frames(scene: Scene, *, through_full_size: bool) -> np.ndarray:
    """Frames as the encoders see them; through a larger picture and the library's resize, as a file would."""
    size = CONFIG.video_encoder.image_size
    if not through_full_size:
        return draw_frames(scene, size)
    return np.stack([squash(frame, size) for frame in draw_frames(scene, _FULL_SIZE)])


def as_read(frames: np.ndarray) -> np.ndarray:
    """Frames in the order that the library's reader gives for a file of 25 frames per second.

    It adds up 1 / 25 and takes the first frame at or after the sum, which rounding makes the next one most of
    the time. The generator learns the frame between.
    """
    times = np.concatenate([[0.0], np.cumsum(np.full(len(frames) - 1, 1 / FPS))])
    index = np.searchsorted(np.arange(len(frames)) / FPS, times)
    return frames[np.minimum(index, len(frames) - 1)]


def _make_shard(
    path: Path,
    encoder: FeatureEncoder,
    encode_mel: Callable[[Tensor], object],
    rng: np.random.Generator,
    num_scenes: int,
) -> None:
    rows: dict[str, list[Tensor]] = {key: [] for key in _FIELDS}
    texts: list[str] = []
    for _ in range(num_scenes):
        scene = training_scene(int(rng.integers(2**48)), materials=HEARD, variety=float(rng.uniform()))
        frames = as_read(scene_frames(scene, through_full_size=rng.random() < _FULL_SIZE_SHARE))
        words = _choose_words(scene, rng)
        chosen = [str(rng.choice(prompts(word))) for word in words]
        waves = np.stack([_target(scene, word) for word in words])
        with torch.no_grad():
            latent = encode_mel(mels(torch.from_numpy(waves))).mean  # type: ignore[attr-defined]
        rows["latent"].append(latent)
        rows["sync"].append(encoder.sync(frames, chosen))
        rows["clip"].append(encoder.images(frames).expand(len(words), -1, -1))
        texts += chosen
    tensors = {key: torch.cat(value).half().contiguous() for key, value in rows.items()}
    write_safetensors(path, tensors, {"prompts": json.dumps(texts)})


def _choose_words(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Some objects of the scene, and a material that is not in it.

    Guidance makes much of what little the encoder sees of that one, unless silence was learnt well.
    """
    present = [each.material.name for each in scene.objects]
    absent = [name for name in HEARD if name not in present]
    words = [str(word) for word in rng.permutation(present)[:PROMPTS_OF_SCENE]]
    return [*words, str(rng.choice(absent))]


def _target(scene: Scene, word: str) -> np.ndarray:
    names = [each.material.name for each in scene.objects]
    return stem(scene, names.index(word)) if word in names else silence(scene)
