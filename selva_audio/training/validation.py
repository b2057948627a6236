"""Validation with fixed noise: the same clips, times and noises for whatever is compared.

With noise of their own, two adapters differ more by luck than by what they learned.

Letters: K clips, J times, M noises, N latent tokens, C channels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..flow import interpolate
from ..flow.timesteps import TimestepLaw
from ..models.generator import Generator
from ..progress import Progress, ProgressFn, ignore_progress
from .clips import Clips
from .keyed import keyed
from .objective import clip_rows, masked_error, normalized

_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class ValidationLosses:
    """Losses in a grid.

    Attributes:
        losses: (K, J, M) float64, unweighted.
        times: (J,) float32, the t of each.
        names: of the clips.
    """

    losses: Tensor
    times: Tensor
    names: tuple[str, ...]

    @property
    def mean(self) -> float:
        """Mean of all."""
        return float(self.losses.mean())

    @property
    def per_time(self) -> Tensor:
        """(J,) mean at each time."""
        return self.losses.mean(dim=(0, 2))


def fixed_noise_loss(
    generator: Generator,
    clips: Clips,
    *,
    law: TimestepLaw | None = None,
    num_times: int = 8,
    num_noises: int = 2,
    clip_conditioning: bool = True,
    batch_size: int = 8,
    seed: int = 0,
    on_progress: ProgressFn = ignore_progress,
) -> ValidationLosses:
    """Flow-matching loss on a fixed grid of clips, times and noises; nothing is dropped or drawn anew.

    Args:
        generator: whatever is judged; its training mode is set to evaluation meanwhile.
        clips: usually those for validation.
        law: the times are the middles of its equally likely stretches; None: logit-normal.
        num_times: J.
        num_noises: M.
        clip_conditioning: whether CLIP features of the picture are used.
        batch_size: how many are computed at once.
        seed: of the noises.
        on_progress: called after every batch; cancels by raising.

    Returns:
        Losses that can be compared one by one with those of another generator.
    """
    device = generator.sync_pos_emb.device
    times = (law or TimestepLaw()).midpoints(num_times)
    latents = normalized(generator, clips.mean, clips.std)[0]
    noises = torch.stack(
        [
            torch.randn(latents.shape[1:], generator=keyed(seed, "validation", name, number))
            for name in clips.names
            for number in range(num_noises)
        ]
    ).reshape(len(clips), num_noises, *latents.shape[1:])
    cells = [(k, j, m) for k in range(len(clips)) for j in range(num_times) for m in range(num_noises)]
    losses = torch.zeros(len(clips), num_times, num_noises, dtype=torch.float64)
    was_training = generator.training
    generator.eval()
    try:
        with torch.no_grad():
            for first in range(0, len(cells), batch_size):
                k, j, m = (
                    torch.tensor(each) for each in zip(*cells[first : first + batch_size], strict=True)
                )
                x0, x1, t = noises[k, m], latents[k], times[j]
                predicted = generator(
                    interpolate(x0, x1, t).to(device),
                    clip_rows(generator, clips, k, clip_conditioning).to(device),
                    clips.sync[k].to(device),
                    clips.text[k].to(device),
                    t.to(device),
                )
                losses[k, j, m] = masked_error(predicted.float().cpu(), x1 - x0, clips.valid[k]).double()
                on_progress(Progress("validating", min(first + batch_size, len(cells)), len(cells)))
    finally:
        generator.train(was_training)
    return ValidationLosses(losses, times, clips.names)


def paired_difference(
    a: ValidationLosses | Tensor,
    b: ValidationLosses | Tensor,
    *,
    confidence: float = 0.9,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean of ``a - b``, with bounds by bootstrap over clips.

    Args:
        a: losses (K, J, M), or anything with the clips first.
        b: losses of the same grid.
        confidence: share of resamples between the bounds.
        seed: of the resamples.

    Returns:
        Mean, lower and upper bound; below 0, ``a`` is better.
    """
    first, second = (each.losses if isinstance(each, ValidationLosses) else each for each in (a, b))
    if first.shape != second.shape:
        raise ValueError(f"the grids have the shapes {tuple(first.shape)} and {tuple(second.shape)}")
    per_clip = (first.double() - second.double()).flatten(1).mean(dim=1).numpy()
    picks = np.random.default_rng(seed).integers(0, len(per_clip), (_RESAMPLES, len(per_clip)))
    means = per_clip[picks].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(per_clip.mean()), float(low), float(high)
