"""The pieces of the flow-matching objective that training and validation share.

Letters: B batch, K clips, N latent tokens, C channels.
"""

import torch
from torch import Tensor

from ..errors import InputError
from ..models.generator import Generator
from .clips import Clips

# Outside of these, latents were not brought to the scale the generator was trained on.
_LARGEST_MEAN, _STD_RANGE = 1.0, (0.3, 3.0)


def normalized(generator: Generator, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (K, N, C) of posteriors in the generator's scale, on the CPU in float32."""
    centre, scale = generator.latent_mean.float().cpu(), generator.latent_std.float().cpu()
    return (mean - centre) / scale, std / scale


def check_scale(latents: Tensor, valid: Tensor) -> None:
    """Make sure that normalised latents (K, N, C) look like it, where ``valid`` (K, N).

    Raises:
        InputError: they do not: a VAE that is not the generator's, or statistics that are not its own.
    """
    values = latents[valid]
    mean, std = float(values.mean()), float(values.std())
    if not (abs(mean) < _LARGEST_MEAN and _STD_RANGE[0] < std < _STD_RANGE[1]):
        raise InputError(
            f"The latents of the clips have mean {mean:.2f} and deviation {std:.2f} where about 0 and 1 are "
            "expected: the VAE does not belong to this generator, or the clips are nearly silent. Check "
            "them with `selva dataset check`, and the weights with `selva models verify`."
        )


def masked_error(predicted: Tensor, target: Tensor, valid: Tensor, huber_delta: float = 0.0) -> Tensor:
    """(B,) mean squared error of (B, N, C) over the tokens in ``valid`` (B, N).

    Args:
        predicted: velocity.
        target: velocity.
        valid: tokens that count; at least one each.
        huber_delta: errors over it count linearly; 0 = all count squared.
    """
    error = predicted - target
    if huber_delta:
        size = error.abs()
        each = torch.where(size <= huber_delta, error.square(), huber_delta * (2 * size - huber_delta))
    else:
        each = error.square()
    weight = valid.to(each)
    return (each.mean(dim=2) * weight).sum(dim=1) / weight.sum(dim=1)


def clip_rows(generator: Generator, clips: Clips, indices: Tensor, use_clip: bool) -> Tensor:
    """(B, N_clip, D) CLIP features of clips; the generator's empty ones where there are none."""
    rows = clips.clip[indices]
    keep = clips.has_clip[indices] & use_clip
    empty = generator.empty_clip(len(rows), rows.shape[1]).detach().float().cpu()
    return torch.where(keep[:, None, None], rows, empty)
