"""Training material: scenes of the "train" and "val" splits only, as waveforms, mels and pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from selva_audio.configs import get_config
from selva_audio.models.mel import mel_spectrogram
from selva_audio.scenes import HEARD, HELD_OUT, SAMPLE_RATE, Scene, draw_scene, stem

VARIANT = "demo_16k"
CONFIG = get_config(VARIANT)
TRAINING_SPLITS = ("train", "val")
HELD_OUT_SHARE = 0.2
_EDGE = 0.25


def training_scene(
    seed: int,
    *,
    split: str = "train",
    materials: Sequence[str] = (*HEARD, *HELD_OUT),
    num_objects: int | None = None,
    duration: float = 8.0,
    variety: float = 1.0,
) -> Scene:
    """``draw_scene`` for training code.

    Raises:
        ValueError: the test split was asked for.
    """
    if split not in TRAINING_SPLITS:
        raise ValueError(f"Training reads the splits {TRAINING_SPLITS}, never {split!r}.")
    return draw_scene(
        seed, split=split, materials=materials, num_objects=num_objects, duration=duration, variety=variety
    )


def random_sounds(rng: np.random.Generator, count: int, num_samples: int, *, split: str = "train") -> Tensor:
    """Stretches of stems: (count, num_samples) in [-1, 1].

    They feed the codec alone, so held-out materials are among them.
    """
    return torch.from_numpy(np.stack([_random_sound(rng, num_samples, split) for _ in range(count)]))


def mels(waveforms: Tensor) -> Tensor:
    """(B, L) -> (B, M, F) in the demo variant's scale."""
    return mel_spectrogram(waveforms, CONFIG.mel)


def _random_sound(rng: np.random.Generator, num_samples: int, split: str) -> np.ndarray:
    scene = training_scene(
        int(rng.integers(2**48)),
        split=split,
        materials=HELD_OUT if rng.random() < HELD_OUT_SHARE else HEARD,
        num_objects=1,
        duration=max(1.0, num_samples / SAMPLE_RATE + 2 * _EDGE),
    )
    wave = stem(scene, 0)
    first = int(rng.integers(len(wave) - num_samples + 1))
    return wave[first : first + num_samples]
