"""Stage "generator": the flow-matching transformer on frozen features."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from selva_audio.configs import CLIP_RATE, SEGMENT_STEP, SYNC_RATE
from selva_audio.flow.path import interpolate, velocity_loss
from selva_audio.models.generator import Generator, initialize

from .data import CONFIG
from .features import Pairs, make_shards, read_shards
from .fit import Plan, Trainee, device_of, normal
from .parts import load_part

PLAN = Plan(steps=3600, learning_rate=1e-3, ema=0.997, warmup=100)
BATCH = 8
_DROP_VIDEO, _DROP_TEXT = 0.1, 0.1
_WHOLE_SHARE = 0.5
_FEWEST_SEGMENTS = 8
_LATENTS_OF_STEP = 10  # latents in the 0.32 s from one segment to the next


class GeneratorStage(Trainee):
    """Velocity loss; video and text are dropped now and then, for guidance.

    Half of the batches are cut out of the clips, from one segment to another, so that other durations and
    places are known too.

    Args:
        pairs: features and latents.
        text: prompt -> (77, D) CLIP states; "" among them.
        batch: pairs per step.
    """

    def __init__(self, pairs: Pairs, text: dict[str, Tensor], batch: int = BATCH) -> None:
        self.pairs, self.batch = pairs, batch
        self.text = torch.stack([text[prompt] for prompt in pairs.prompts])
        self.module = generator = Generator(CONFIG.generator)
        initialize(generator)
        latent = pairs.latent.float()
        generator.latent_mean.copy_(latent.mean(dim=(0, 1)))
        generator.latent_std.copy_(latent.std(dim=(0, 1)))
        generator.empty_string_feat.copy_(text[""])

    def loss(self, rng: np.random.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        """See ``Trainee``."""
        generator, batch = self.module, self.batch
        rows = torch.from_numpy(rng.integers(len(self.pairs.prompts), size=batch))
        device = device_of(generator)
        latent, sync, clip = (each.to(device) for each in self._cut(rows, rng))
        x1 = generator.normalize(latent)
        x0 = normal(rng, *x1.shape).to(device)
        t = torch.sigmoid(normal(rng, batch)).to(device)
        no_video, no_text = (
            torch.from_numpy(rng.random(batch) < share)[:, None, None].to(device)
            for share in (_DROP_VIDEO, _DROP_TEXT)
        )
        clip = torch.where(no_video, generator.empty_clip(batch, clip.shape[1]), clip)
        sync = torch.where(no_video, generator.empty_sync(batch, sync.shape[1]), sync)
        text = torch.where(no_text, generator.empty_text(batch), self.text[rows].to(device))
        with torch.autocast(device.type, torch.bfloat16):
            velocity = generator(interpolate(x0, x1, t), clip, sync, text, t)
        loss = velocity_loss(velocity.float(), x0, x1).mean()
        return loss, {}

    def _cut(self, rows: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, sync and CLIP features of the same stretch of each pair."""
        pairs = self.pairs
        whole = pairs.sync.shape[1] // SEGMENT_STEP
        count = whole if rng.random() < _WHOLE_SHARE else int(rng.integers(_FEWEST_SEGMENTS, whole + 1))
        first = int(rng.integers(whole - count + 1))
        step = SEGMENT_STEP / SYNC_RATE
        first_clip, num_clip = round(first * step * CLIP_RATE), int((count + 1) * step * CLIP_RATE)
        return (
            _stretch(pairs.latent, rows, first * _LATENTS_OF_STEP, (count + 1) * _LATENTS_OF_STEP),
            _stretch(pairs.sync, rows, first * SEGMENT_STEP, count * SEGMENT_STEP),
            _stretch(pairs.clip, rows, first_clip, num_clip),
        )


def build(folder: Path, *, seed: int) -> GeneratorStage:
    """The stage on the features of ``folder``, which are made first where they are missing."""
    pairs = read_shards(make_shards(folder, seed=seed))
    return GeneratorStage(pairs, encode_texts(folder, pairs.prompts))


@torch.no_grad()
def encode_texts(folder: Path, texts: list[str]) -> dict[str, Tensor]:
    """CLIP states of each distinct text and of the empty one."""
    clip = load_part(folder, "clip")
    unique = sorted({"", *texts})
    return dict(zip(unique, clip.encode_text(unique), strict=True))


def _stretch(features: Tensor, rows: Tensor, first: int, count: int) -> Tensor:
    return features[rows, first : first + count].float()
