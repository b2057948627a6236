"""Stage "vae": log-mels to latents and back.

Weights are magnitude-normalised in every forward pass (EDM2); the raw ones are trained and exported, as
published files hold them.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from selva_audio.models.vae import VAE, normalize_magnitude

from .data import CONFIG, mels, random_sounds
from .fit import Plan, Trainee, device_of, normal, stream

PLAN = Plan(steps=2400, learning_rate=4e-3, weight_decay=0.0, ema=0.995)
BATCH = 16
FRAMES = 128
KL_WEIGHT = 1e-3
# Room tone fills most of a mel; with equal weights it hides that a rare pitch is not coded.
SOUND_WEIGHT = 5.0
_ROOM_TONE_LEVEL = -3.0
_STATISTICS_SOUNDS = 128


class VAEStage(Trainee):
    """L1 distance of mels, and a small KL term that keeps latents near a unit normal."""

    def __init__(self, batch: int = BATCH, frames: int = FRAMES) -> None:
        self.batch, self.frames = batch, frames
        self.module = vae = VAE(CONFIG.vae)
        for parameter in vae.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter)
        self._autoencoder = _Autoencoder(vae)
        mel = self._draw(stream(0, "vae statistics"), _STATISTICS_SOUNDS if batch == BATCH else batch)
        vae.data_mean.copy_(mel.mean(dim=(0, 2))[None, :, None])
        vae.data_std.copy_(mel.std(dim=(0, 2))[None, :, None])

    def loss(self, rng: np.random.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        """See ``Trainee``."""
        device = device_of(self.module)
        mel = self._draw(rng, self.batch).to(device)
        noise = normal(rng, self.batch, self.frames // 2, CONFIG.vae.latent_dim).to(device)
        weights = normalize_magnitude(dict(self._autoencoder.named_parameters()))
        decoded, kl = functional_call(self._autoencoder, weights, (mel, noise))
        error = (decoded - mel).abs()
        is_sound = torch.maximum(mel, decoded.detach()) > _ROOM_TONE_LEVEL
        loss = (error * torch.where(is_sound, SOUND_WEIGHT, 1.0)).mean()
        numbers = {"mel": float(error.detach().mean()), "kl": float(kl.detach())}
        return loss + KL_WEIGHT * kl, numbers

    def _draw(self, rng: np.random.Generator, count: int) -> Tensor:
        return mels(random_sounds(rng, count, self.frames * CONFIG.mel.hop_length))


class _Autoencoder(nn.Module):
    """Encoder and decoder as one call, for ``functional_call``."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, mel: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.vae.encode(mel)
        kl = 0.5 * (posterior.mean.square() + posterior.std.square() - 1 - 2 * posterior.std.log()).mean()
        return self.vae.decode(posterior.sample(noise)), kl
