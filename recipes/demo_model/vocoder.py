"""Stage "vocoder": log-mels to waveforms, by spectral losses alone.

Short stretches around impacts, half of them through the trained VAE first, because that is what the vocoder
will be given.

The sounds span 70 dB. A loss that counts every level alike from the start finds silence first and then stays
there, so levels are compared above a floor that falls during training: impacts first, the room tone last.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from selva_audio.models.bigvgan import BigVGAN
from selva_audio.models.vae import VAE
from selva_audio.scenes import HEARD, HELD_OUT, PERIOD, stem

from .data import CONFIG, HELD_OUT_SHARE, mels, training_scene
from .fit import Plan, Trainee, device_of

PLAN = Plan(
    steps=15000,
    learning_rate=5e-4,
    ema=0.998,
    clip=5.0,
    weight_decay=0.0,
    betas=(0.8, 0.99),
    save_every=500,
)
POLISH_PLAN = replace(PLAN, steps=9000, learning_rate=2e-4)
BATCH = 4
FRAMES = 32
_SCENE_SECONDS = 4.0
_CHOICES = 3
_LOUD_SHARE = 0.85
_RESOLUTIONS = ((2048, 512), (1024, 256), (512, 128), (128, 32))
_SHAPE_WEIGHT = 2.0
_POLISH_MEL_WEIGHT = 6.0
_QUIET = 1e-2
_FIRST_FLOOR, _LAST_FLOOR = 3e-2, 5e-5
_FLOOR_SHARE = 0.7
# A tone of amplitude a has a log-mel of about log10(5 a).
_MEL_OF_TONE = 5.0


class VocoderStage(Trainee):
    """Multi-resolution STFT and mel distances of short stretches.

    Args:
        vae: what half of the mels go through; None leaves all as they are.
        start: weights to polish: the floor is low from the start, and the mel counts for more.
        batch: stretches per step.
        frames: mel frames of each.
    """

    def __init__(
        self,
        vae: VAE | None,
        *,
        start: Mapping[str, Tensor] | None = None,
        batch: int = BATCH,
        frames: int = FRAMES,
    ) -> None:
        self.vae, self.batch, self.frames = vae, batch, frames
        self.polishes = start is not None
        self.module = BigVGAN(CONFIG.vocoder)
        if start is None:
            initialize(self.module)
        else:
            self.module.load_state_dict(start)

    def loss(self, rng: np.random.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        """See ``Trainee``."""
        wave, mel = (each.to(device_of(self.module)) for each in self._draw(rng))
        made = self.module(mel)[:, 0]
        if self.polishes:
            return spectral_loss(made, wave, mel_weight=_POLISH_MEL_WEIGHT)
        return spectral_loss(made, wave, floor=falling_floor(step / PLAN.steps))

    def _draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Waveforms, and their mels of which every second one went through the VAE."""
        wave = torch.from_numpy(np.stack([_stretch(rng, self.frames * PERIOD) for _ in range(self.batch)]))
        mel = mels(wave)
        if self.vae is not None:
            with torch.no_grad():
                mel[1::2] = self.vae.decode(self.vae.encode(mel[1::2]).mean)
        return wave, mel


@torch.no_grad()
def initialize(vocoder: BigVGAN) -> None:
    """Start as a linear synthesis: the last transposed convolution adds cosines, what follows passes them.

    They are those of the modified discrete cosine transform, which every waveform is a sum of.

    Source: J. Princen and A. Bradley, IEEE Trans. ASSP 34 (1986).
    """
    weight = vocoder.ups[-1][0].weight
    count, _, length = weight.shape
    half = length // 2
    time, index = torch.arange(length) + 0.5, torch.arange(count)[:, None] % half + 0.5
    cosines = torch.sin(math.pi / length * time) * torch.cos(math.pi / half * (time + half / 2) * index)
    weight.mul_(0.1)
    weight[:, 0] += cosines * math.sqrt(2 / half)
    vocoder.ups[-1][0].bias.zero_()
    last = vocoder.resblocks[-len(vocoder.config.resblock_kernels) :]
    for block in last:
        for convolution in block.convs2:
            convolution.weight.zero_()
            convolution.bias.zero_()
    for activation in (vocoder.activation_post, *(each for block in last for each in block.activations)):
        activation.act.alpha.fill_(-4.0)
    vocoder.conv_post.weight.mul_(0.1)
    vocoder.conv_post.weight[0, 0, vocoder.conv_post.kernel_size[0] // 2] += 1
    vocoder.conv_post.bias.zero_()


def falling_floor(share: float) -> float:
    """Amplitude under which nothing is compared, after this share of the training."""
    return float(_FIRST_FLOOR * (_LAST_FLOOR / _FIRST_FLOOR) ** min(1.0, share / _FLOOR_SHARE))


def spectral_loss(
    made: Tensor, real: Tensor, *, floor: float = _LAST_FLOOR, mel_weight: float = 1.0
) -> tuple[Tensor, dict[str, float]]:
    """Log-magnitude and relative magnitude distances at several resolutions, and the mel distance.

    Args:
        made: (B, L).
        real: (B, L).
        floor: amplitude of a tone that counts as silence.
        mel_weight: of the mel distance; the others have 1 and 2.

    Source: Parallel WaveGAN (arXiv:1910.11480) section 2.2, and BigVGAN's mel loss.
    """
    levels, shapes = [], []
    for size, hop in _RESOLUTIONS:
        first, second = (_magnitude(wave, size, hop, floor) for wave in (made, real))
        levels.append((first.log10() - second.log10()).abs().mean())
        norm = (second.square() - floor**2).clamp(min=0).sum(dim=(1, 2)).sqrt()
        distance = (first - second).square().sum(dim=(1, 2)).add(1e-12).sqrt()
        shapes.append((distance / (norm + _QUIET)).mean())
    level, shape = torch.stack(levels).mean(), torch.stack(shapes).mean()
    first, second = ((10 ** mels(wave) + _MEL_OF_TONE * floor).log10() for wave in (made, real))
    mel = (first - second).abs().mean()
    numbers = {"level": float(level.detach()), "shape": float(shape.detach()), "mel": float(mel.detach())}
    return level + _SHAPE_WEIGHT * shape + mel_weight * mel, numbers


def _magnitude(wave: Tensor, size: int, hop: int, floor: float) -> Tensor:
    """(B, K, T) amplitude of a tone in each bin, with ``floor`` added in power."""
    window = torch.hann_window(size, device=wave.device)
    spectrum = torch.stft(wave, size, hop, window=window, return_complex=True) * (2 / window.sum())
    return (spectrum.real.square() + spectrum.imag.square() + floor**2).sqrt()


def _stretch(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """A stretch of a stem from the start of a mel frame; mostly the loudest of a few: stems are sparse."""
    scene = training_scene(
        int(rng.integers(2**48)),
        materials=HELD_OUT if rng.random() < HELD_OUT_SHARE else HEARD,
        num_objects=1,
        duration=_SCENE_SECONDS,
    )
    wave = stem(scene, 0)
    starts = PERIOD * rng.integers((len(wave) - num_samples) // PERIOD + 1, size=_CHOICES)
    stretches = [wave[first : first + num_samples] for first in starts]
    if rng.random() < _LOUD_SHARE:
        return max(stretches, key=lambda each: float(np.square(each).sum()))
    return stretches[0]
