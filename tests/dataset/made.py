"""Sounds made for the tests of sets of sounds."""

import torch

from selva_audio.dataset.sounds import SoundClip
from selva_audio.records import Audio

RATE = 16000


def sound(name: str = "a", level: float = 0.1, samples: int = RATE, **more) -> SoundClip:
    wave = level * torch.randn(1, 1, samples, generator=torch.Generator().manual_seed(len(name)))
    return SoundClip(Audio(wave, RATE), name, **more)
