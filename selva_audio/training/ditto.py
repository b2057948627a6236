"""A sampler and decoder that a gradient can pass, and the style loss of what they make: what DITTO optimises.

The descent itself is ``flow.ditto``'s, the statistics are ``flow.style``'s.

Letters: N latent tokens, C channels, M mel bands, F mel frames.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from ..bundle import SelVAModel
from ..features import VideoFeatures
from ..flow import SOLVERS, Velocity, latent_noise
from ..flow.ditto import solve_with_gradient
from ..flow.style import (
    Style,
    latent_style_loss,
    mel_frames,
    mel_level,
    mel_style_loss,
    style_of,
    timing_loss,
)
from ..flow.windows import Window, join_windows, plan_windows
from ..media.audio import resample
from ..models.mel import FLOOR
from ..options import DittoOptions, GenerateOptions
from ..records import Audio
from ..synthesis import MIN_DURATION, encode_prompts, window_velocity
from .keyed import keyed

# A first sound that is silent says nothing about how loud a sound is to be.
_MOST_GAIN_DB = 30.0
_LONGEST_PIECE = 60.0  # seconds of a reference that are analysed at once


class StyleSampler:
    """The sounds of noises for one video, as the ordinary job makes them, and how far they are from a style.

    Args:
        model: with its generator and VAE on the device.
        windows: of the clip.
        velocities: one for each.
        sampling: seed, steps, solver.
    """

    def __init__(
        self,
        model: SelVAModel,
        windows: Sequence[Window],
        velocities: Sequence[Velocity],
        sampling: GenerateOptions,
    ) -> None:
        self.model = model
        self.windows = windows
        self.total = windows[-1].stop
        self.sampling = sampling
        self.evaluations = 0
        self.velocities = [self._counted(velocity) for velocity in velocities]

    @classmethod
    @contextlib.contextmanager
    def opened(
        cls, model: SelVAModel, features: VideoFeatures, sampling: GenerateOptions, *, duration: float
    ) -> Iterator["StyleSampler"]:
        """With its parts on the device, and steering in place, inside the block; ``duration`` in seconds."""
        windows = plan_windows(max(duration, MIN_DURATION), model.config)
        text = encode_prompts(
            model, sampling.prompt or features.prompt, sampling.negative_prompt or features.negative_prompt
        )
        with contextlib.ExitStack() as stack:
            stack.enter_context(model.policy.on_device(model.generator, model.vae))
            velocities = [
                stack.enter_context(window_velocity(model, features, text, sampling, window))
                for window in windows
            ]
            yield cls(model, windows, velocities, sampling)

    def noise(self) -> Tensor:
        """(N, C) that the seed gives, on the device."""
        dim = self.model.config.generator.latent_dim
        return latent_noise(self.sampling.seed, 0, 0, self.total, dim).to(self.model.policy.device)

    def target(self, references: Sequence[Audio], options: DittoOptions) -> Style:
        """Style of the references, which are brought to the loudness of the sound of the first noise."""
        if options.loss == "latent":
            each = [
                style_of((self._sampled(mel) for mel in self._mels([sound])), centred=False)
                for sound in references
            ]
            return Style(
                torch.stack([style.mean for style in each]).mean(dim=0),
                torch.stack([style.gram for style in each]).mean(dim=0),
            )
        mels = list(self._mels(references))
        level = mel_level([self._first_mel], self.model.config.mel)
        unit = math.log(10) if self.model.config.mel.log_base == "10" else 1.0
        most = _MOST_GAIN_DB / 20 * math.log(10) / unit
        shift = min(max(level - mel_level(mels, self.model.config.mel), -most), most)
        floor = math.log(FLOOR) / unit
        return style_of((self._frames((mel + shift).clamp(min=floor)) for mel in mels), centred=True)

    def loss(self, x: Tensor, target: Style, options: DittoOptions) -> tuple[Tensor, Tensor]:
        """Style and timing loss of the sound that few solver steps make, with a way back to ``x``.

        The timing is compared with that of the first noise; it is 0 where it has no weight.
        """
        steps = options.surrogate_steps if options.gradient == "surrogate" else options.n_ode_steps
        latent = self._joined(
            solve_with_gradient(velocity, x[None, window.first : window.stop], steps, options)
            for window, velocity in zip(self.windows, self.velocities, strict=True)
        )
        # The backward pass through a step that was computed again costs two calls more.
        passed = min(options.n_grad_steps, steps) if options.gradient == "truncated" else steps
        self.evaluations += 2 * passed * len(self.windows)
        if not options.timing_weight:
            return self._compare(latent, target, options), latent.new_zeros(())
        mel = self._mel(latent)
        return self._compare(latent, target, options, mel), timing_loss(mel, self._first_mel)

    def true_loss(self, x: Tensor, target: Style, options: DittoOptions) -> float:
        """Style loss of the sound that is made in the end."""
        with torch.no_grad():
            return float(self._compare(self._latent(x), target, options))

    @cached_property
    def _first_mel(self) -> Tensor:
        """(1, M, F) of the sound that the first noise becomes."""
        with torch.no_grad():
            return self._mel(self._latent(self.noise()))

    def _latent(self, x: Tensor) -> Tensor:
        """(1, N, C) normalised, as ``synthesis.sample_latents`` makes it."""
        sample = SOLVERS[self.sampling.solver]
        return self._joined(
            sample(velocity, x[None, window.first : window.stop], self.sampling.steps, None)
            for window, velocity in zip(self.windows, self.velocities, strict=True)
        )

    def _joined(self, pieces: Iterator[Tensor]) -> Tensor:
        parts = ((window, piece.transpose(1, 2)) for window, piece in zip(self.windows, pieces, strict=True))
        return join_windows(parts, self.total).transpose(1, 2)

    def _compare(
        self, latent: Tensor, target: Style, options: DittoOptions, mel: Tensor | None = None
    ) -> Tensor:
        """Style loss of a normalised latent, whose mel may be known already."""
        if options.loss == "latent":
            latent = self.model.generator.unnormalize(latent)
            return latent_style_loss(style_of([latent[0]], centred=False), target, options.gram_weight)
        style = style_of([self._frames(self._mel(latent) if mel is None else mel)], centred=True)
        return mel_style_loss(style, target, options.gram_weight)

    def _mel(self, latent: Tensor) -> Tensor:
        """(1, M, F) of a normalised latent, window by window as results are decoded."""
        latent = self.model.generator.unnormalize(latent)
        decode = self.model.vae.decode
        pieces = ((window, decode(latent[:, window.first : window.stop])) for window in self.windows)
        return join_windows(pieces, self.total, per_latent=2)

    def _frames(self, mel: Tensor) -> Tensor:
        vae = self.model.vae
        return mel_frames(mel, vae.data_mean.float(), vae.data_std.float(), self.model.config.mel)

    def _mels(self, references: Sequence[Audio]) -> Iterator[Tensor]:
        """Mels (1, M, F) of the references, in pieces."""
        rate = self.model.config.sample_rate
        shortest = self.model.config.mel.n_fft
        length = round(_LONGEST_PIECE * rate)
        for sound in references:
            wave = resample(sound.waveform[0].mean(dim=0), sound.sample_rate, rate)
            for first in range(0, len(wave), length):
                piece = wave[first : first + length]
                if len(piece) >= shortest:
                    yield self.model.mel(piece[None].to(self.model.policy.device))

    def _sampled(self, mel: Tensor) -> Tensor:
        """A latent (N, C) of a reference, drawn from its posterior as the public pack does."""
        posterior = self.model.vae.encode(mel)
        draw = torch.randn(posterior.mean.shape, generator=keyed(self.sampling.seed, "ditto", mel.shape[-1]))
        latent: Tensor = posterior.sample(draw.to(posterior.mean.device))
        return latent[0]

    def _counted(self, velocity: Velocity) -> Velocity:
        def counted(t: Tensor, x: Tensor) -> Tensor:
            self.evaluations += 1
            return velocity(t, x)

        return counted
