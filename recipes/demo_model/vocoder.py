"""Stage "vocoder": log-mels to waveforms, by spectral losses alone.

Short stretches around impacts, half of them through the trained VAE first, because that is what the vocoder
will be given. The longest and weakest stage: no adversary, so fine noise stays smoother than the real one.
"""

import numpy as np
import torch
from torch import Tensor

from selva_audio.models.bigvgan import BigVGAN
from selva_audio.models.vae import VAE

from .data import CONFIG, mels, random_sounds
from .fit import Plan, Trainee, device_of

PLAN = Plan(steps=2800, learning_rate=8e-4, ema=0.998, weight_decay=0.0, betas=(0.8, 0.99), save_every=100)
BATCH = 2
FRAMES = 32
_CONTEXT = 4
_LOUD_CHOICES = 4
_RESOLUTIONS = ((2048, 512), (1024, 256), (512, 128), (128, 32))
_MEL_WEIGHT = 2.0
_FLOOR = 1e-4


class VocoderStage(Trainee):
    """Multi-resolution STFT and mel distances of short stretches."""

    def __init__(self, vae: VAE | None, batch: int = BATCH, frames: int = FRAMES) -> None:
        self.vae, self.batch, self.frames = vae, batch, frames
        self.module = BigVGAN(CONFIG.vocoder)

    def loss(self, rng: np.random.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        """See ``Trainee``."""
        wave, mel = (each.to(device_of(self.module)) for each in self._draw(rng))
        made = self.module(mel)[:, 0]
        cut = _CONTEXT * CONFIG.mel.hop_length
        return spectral_loss(made[:, cut:-cut], wave[:, cut:-cut])

    def _draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Waveforms and their mels; the loudest of a few candidates, since most of a stem is silent."""
        length = self.frames * CONFIG.mel.hop_length
        candidates = random_sounds(rng, self.batch * _LOUD_CHOICES, length)
        energy = candidates.square().mean(dim=1).unflatten(0, (self.batch, -1))
        wave = candidates.unflatten(0, (self.batch, -1))[torch.arange(self.batch), energy.argmax(dim=1)]
        mel = mels(wave)
        if self.vae is not None:
            with torch.no_grad():
                coded = self.vae.decode(self.vae.encode(mel).mean)
            is_coded = torch.arange(self.batch) % 2 == 1
            mel = torch.where(is_coded[:, None, None], coded, mel)
        return wave, mel


def spectral_loss(made: Tensor, real: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Log-magnitude and relative magnitude distances at several resolutions, and the mel distance.

    Source: Parallel WaveGAN (arXiv:1910.11480) section 2.2, and BigVGAN's mel loss.
    """
    distances = [_stft_distance(made, real, *resolution) for resolution in _RESOLUTIONS]
    stft = torch.stack(distances).mean()
    mel = (mels(made) - mels(real)).abs().mean()
    return stft + _MEL_WEIGHT * mel, {"stft": float(stft.detach()), "mel": float(mel.detach())}


def _stft_distance(made: Tensor, real: Tensor, size: int, hop: int) -> Tensor:
    first, second = (_magnitude(wave, size, hop) for wave in (made, real))
    # Over the whole batch: a silent stretch of its own would divide by next to nothing.
    shape = torch.linalg.vector_norm(second - first) / torch.linalg.vector_norm(second)
    return (first.log10() - second.log10()).abs().mean() + shape


def _magnitude(wave: Tensor, size: int, hop: int) -> Tensor:
    window = torch.hann_window(size, device=wave.device)
    spectrum = torch.stft(wave, size, hop, window=window, return_complex=True)
    scale = (window.sum() / 2).item()
    return (spectrum.real.square() + spectrum.imag.square() + (_FLOOR * scale / 8) ** 2).sqrt() / scale
