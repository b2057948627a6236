"""Clips that the demo model can be trained on: features of noise, and short sounds."""

from pathlib import Path

import torch

from selva_audio.features import VideoFeatures, save_features
from selva_audio.media.audio import write_audio
from selva_audio.records import Audio


def write_clips(folder: Path, names: tuple[str, ...] = ("bell", "drum", "horn")) -> Path:
    """``NAME.npz`` and ``NAME.wav`` for each name; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(0)
    for name in names:
        clip, sync = (torch.randn(1, *shape, generator=random) for shape in ((64, 64), (192, 96)))
        save_features(folder / f"{name}.npz", VideoFeatures(clip, sync, prompt=name, duration=8.0))
        write_audio(folder / f"{name}.wav", Audio(0.1 * torch.randn(1, 1, 16000, generator=random), 16000))
    return folder
