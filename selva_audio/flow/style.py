"""How far a sound is from the style of a reference, by what does not depend on when things happen.

Of a log mel (or a latent) two statistics over time count: the mean of each band, and how bands go together.
Differentiable. Letters: F frames, M bands (or latent channels).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..configs import MelConfig
from ..errors import InputError

_GATE_DB = 50.0


@dataclass(frozen=True, slots=True, eq=False)
class Style:
    """Statistics over time.

    Attributes:
        mean: (M,).
        gram: (M, M) mean product of two bands; of the mel less their means, of the latent as they are.
    """

    mean: Tensor
    gram: Tensor


def mel_frames(mel: Tensor, data_mean: Tensor, data_std: Tensor, config: MelConfig) -> Tensor:
    """The frames of a mel that are heard, in the scale of the VAE.

    Args:
        mel: (1, M, F) log mel.
        data_mean: (1, M, 1) of the VAE.
        data_std: (1, M, 1) likewise.
        config: of the mel, for its logarithm.

    Returns:
        (F', M): those within 50 dB of the loudest, since silence has no style; at least one.
    """
    to_log = math.log(10) if config.log_base == "10" else 1.0
    level = torch.logsumexp(2 * to_log * mel[0].detach(), dim=0)
    heard = level >= level.max() - _GATE_DB / 10 * math.log(10)
    return ((mel - data_mean) / data_std)[0, :, heard].T


def mel_level(mels: Sequence[Tensor], config: MelConfig) -> float:
    """Loudness of mels (1, M, F) together, over the frames that are heard, in their logarithm."""
    to_log = math.log(10) if config.log_base == "10" else 1.0
    frames = [torch.logsumexp(2 * to_log * mel[0].detach().double(), dim=0) for mel in mels]
    levels = torch.cat(frames)
    heard = levels[levels >= levels.max() - _GATE_DB / 10 * math.log(10)]
    return float(torch.logsumexp(heard, dim=0) - math.log(len(heard))) / (2 * to_log)


def style_of(frames: Iterable[Tensor], *, centred: bool) -> Style:
    """Style of all frames (F, M) together, however long the pieces are; sums are taken in float64.

    Raises:
        InputError: no frames.
    """
    count, total, products = 0, None, None
    for rows in frames:
        rows = rows.double()
        count += len(rows)
        total = rows.sum(dim=0) if total is None else total + rows.sum(dim=0)
        products = rows.T @ rows if products is None else products + rows.T @ rows
    if total is None or products is None or not count:
        raise InputError("There is no sound to take a style from. Give a folder of sounds.")
    mean, gram = total / count, products / count
    return Style(mean, gram - torch.outer(mean, mean) if centred else gram)


def mel_style_loss(style: Style, reference: Style, gram_weight: float) -> Tensor:
    """|mean - mean'|^2 / M + weight |G - G'|^2 / M^2, of mels in the VAE's scale: a scalar.

    Source: after DITTO (arXiv:2401.12179), sections 4 and 5; the Gram matrix of the mel less its mean, which
    would otherwise only say the mean again.
    """
    gram = (style.gram - reference.gram).square().mean()
    return (style.mean - reference.mean).square().mean() + gram_weight * gram


def attacks(mel: Tensor) -> Tensor:
    """When sounds begin: how much a log mel (1, M, F) rises from frame to frame, over all bands.

    Returns:
        (F - 1,), 0 or more; three frames wide, so that a frame early or late is still near.
    """
    rise = mel[0].diff(dim=-1).clamp(min=0).mean(dim=0)
    window = rise.new_tensor([0.5, 1.0, 0.5])
    return torch.nn.functional.conv1d(rise[None, None], window[None, None], padding=1)[0, 0]


def timing_loss(mel: Tensor, first: Tensor) -> Tensor:
    """1 - cosine of the attacks of two log mels (1, M, F): 0 where all sounds begin when they did; a scalar.

    Loudness and spectrum do not count, so that a style can change with all sounds in their places.
    """
    similarity = torch.nn.functional.cosine_similarity(attacks(mel), attacks(first), dim=0)
    return 1 - similarity


def latent_style_loss(style: Style, reference: Style, gram_weight: float) -> Tensor:
    """Mean absolute difference of means plus the weighted mean square of that of Gram matrices: a scalar.

    Source: what the public pack does (COMPAT 3.5).
    """
    gram = (style.gram - reference.gram).square().mean()
    return (style.mean - reference.mean).abs().mean() + gram_weight * gram
