"""Ours, called as the main job calls it, with the inputs and outputs of ``upstream.Upstream``."""

import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from selva_audio.bundle import load_model
from selva_audio.configs import SEGMENT_FRAMES, SEGMENT_STEP, SYNC_RATE
from selva_audio.features import VideoFeatures, encode_video
from selva_audio.media.mux import mux
from selva_audio.media.transforms import squash, to_sync
from selva_audio.media.video import stream_frames
from selva_audio.options import FeatureOptions, GenerateOptions
from selva_audio.records import Audio, Frames
from selva_audio.synthesis import TextConditions, encode_prompts, sample_latents
from selva_audio.tasks import run as main_job

from .files import VARIANT
from .upstream import GUIDANCE


def read_sync(video: Path, duration: float) -> Tensor:
    """Sync frames (T, 3, H, W) in [-1, 1] of the first seconds of a video."""
    stream = stream_frames(video, {SYNC_RATE: partial(squash, size=224)}, duration=duration)
    return to_sync(np.stack([sample.frame for sample in stream]))


def read_in_blocks(video: Path, duration: float) -> None:
    """The same as the main job does it: each segment is made, encoded and left behind before the next."""
    held: list[np.ndarray] = []
    for sample in stream_frames(video, {SYNC_RATE: partial(squash, size=224)}, duration=duration):
        held.append(sample.frame)
        if len(held) == SEGMENT_FRAMES:
            to_sync(np.stack(held))
            del held[:SEGMENT_STEP]


def write(video: Path, audio: Tensor, sample_rate: int, output: Path) -> None:
    """The video with a sound (1, L), its picture copied."""
    mux(video, Audio(audio[None], sample_rate), output)


class Ours:
    """Our model, each part loaded at first use.

    Args:
        work: folder of ``files.write_weights``.
        precision: "fp32", "bf16" or "fp16".
        device: "cpu" or "cuda".
        duration: seconds of video that are used.
    """

    def __init__(self, work: Path, precision: str, device: str, duration: float) -> None:
        self.duration = duration
        self.model = load_model(
            VARIANT, device=device, precision=precision, offload="keep_in_vram", models_dir=work, offline=True
        )

    def load(self, parts: Iterable[str]) -> None:
        """Have parts and the remembered digests of their files at hand before a clock starts."""
        for part in parts:
            getattr(self.model, part)
            self.model.identity(part)

    @torch.no_grad()
    def text(self, prompt: str) -> tuple[Tensor, Tensor]:
        """CLIP features of the prompt and of the empty one; T5 runs for the prompt."""
        found = encode_prompts(self.model, prompt)
        self.model.t5.encode_text([prompt])
        empty = self.model.generator.empty_text(1) if found.negative is None else found.negative
        return found.prompt, empty

    @torch.no_grad()
    def sync(self, frames: Frames, prompt: str) -> Tensor:
        """Sync features of frames of the encoder's size."""
        return encode_video(self.model, frames, FeatureOptions(prompt=prompt)).sync

    @torch.no_grad()
    def sample(self, sync: Tensor, clip: Tensor, negative: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Latent (1, N, C) from noise, guided."""
        features = VideoFeatures(sync[:, :0], sync, prompt="", duration=self.duration)
        options = GenerateOptions(steps=steps, cfg_strength=GUIDANCE)
        text = TextConditions(clip, negative)
        (latent,) = sample_latents(
            self.model, features, text, options, duration=self.duration, noise=noise[0].float()
        )
        return latent

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Mel (1, M, F) of (1, N, C)."""
        return self.model.vae.decode(latent.to(self.model.policy.device))

    @torch.no_grad()
    def vocode(self, mel: Tensor) -> Tensor:
        """Waveform (1, 1, L) of (1, M, F)."""
        return self.model.vocoder(mel.to(self.model.policy.device))

    def write(self, video: Path, audio: Tensor, output: Path) -> None:
        """The video with sound, its picture copied."""
        write(video, audio, self.model.config.sample_rate, output)

    def whole(self, video: Path, prompt: str, noise: Tensor, output: Path, steps: int) -> Tensor:
        """The main job with its recipe, from a video to a video with sound; the waveform."""
        kept: list[Audio] = []
        made = main_job.generate

        def generate(*args, **kwargs):
            kept.append(made(*args, **{**kwargs, "noise": noise[0].float()}))
            return kept[-1]

        with tempfile.TemporaryDirectory() as cache, patch.object(main_job, "generate", generate):
            main_job.run_video(
                self.model,
                video,
                output,
                FeatureOptions(prompt=prompt, duration=self.duration, cache_dir=Path(cache)),
                GenerateOptions(steps=steps, cfg_strength=GUIDANCE, normalize=False),
            )
        return kept[0].waveform[0]
