"""What an adapter does to each layer: sizes, and directions that the base did not have."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .algebra import spectrum
from .layers import stable_seed
from .record import Delta, dense

THRESHOLDS = (0.3, 0.5, 0.6, 0.8)
NUM_DIRECTIONS = 10


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer of an adapter.

    Attributes:
        path: name of the layer.
        kind: "linear" or "conv".
        shape: of the weight.
        rank: of the matrices.
        scale: factor on their product.
        norm: Frobenius norm of the change; None for DoRA without the base.
        stable_rank: squared norm over the squared largest singular value; None likewise, and for no change.
        relative_norm: norm over that of the base weight; None without the base.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    rank: int
    scale: float
    norm: float | None
    stable_rank: float | None
    relative_norm: float | None


@dataclass(frozen=True, slots=True)
class Intruders:
    """Leading left directions of a changed weight that none of the base's is like.

    Attributes:
        matches: for each of the leading directions, its largest |cosine| with one of the base's.
        counts: threshold -> matches under it.
        control: the same counts for a random change of the same rank and norm.
    """

    matches: tuple[float, ...]
    counts: dict[float, int]
    control: dict[float, int]


def report_layer(path: str, delta: Delta, weight: Tensor | None = None) -> LayerReport:
    """Sizes of one change; ``weight`` is that of the base layer, where it is known."""
    norm = stable = None
    if delta.magnitude is None:
        singular = spectrum(delta)[1]
        norm = float(singular.norm()) if len(singular) else 0.0
        stable = float((norm / singular[0]) ** 2) if len(singular) else None
    elif weight is not None:
        change = dense(delta, weight).flatten(1)
        norm, largest = float(change.norm()), float(torch.linalg.matrix_norm(change, 2))
        stable = (norm / largest) ** 2 if largest else None
    relative = None if weight is None or norm is None else norm / float(weight.detach().double().norm())
    kind = "conv" if delta.a.ndim == 3 else "linear"
    return LayerReport(path, kind, delta.weight_shape, delta.rank, delta.scale, norm, stable, relative)


def find_intruders(
    weight: Tensor,
    delta: Delta,
    *,
    count: int = NUM_DIRECTIONS,
    thresholds: Sequence[float] = THRESHOLDS,
    seed: int = 0,
) -> Intruders:
    """Intruder dimensions of one layer, with a control without which the count says nothing.

    Args:
        weight: (out, in) or (out, in, k) of the base.
        delta: its change.
        count: leading directions that are looked at.
        thresholds: cosines under which a direction counts as new.
        seed: of the control.

    Source: arXiv:2410.21228, section 3; the control is ours.
    """
    base = weight.detach().double().cpu().flatten(1)
    change = dense(delta, weight).flatten(1)
    matches = _matches(base, change, count)
    return Intruders(
        tuple(matches),
        _counts(matches, thresholds),
        _counts(_matches(base, random_change(change, delta.rank, seed), count), thresholds),
    )


def random_change(change: Tensor, rank: int, seed: int) -> Tensor:
    """A change of the same norm and of this rank, in random directions: (out, in k) float64."""
    random = torch.Generator("cpu").manual_seed(stable_seed(seed, *change.shape))
    u, v = (
        torch.linalg.qr(torch.randn(size, min(rank, *change.shape), generator=random, dtype=torch.float64))[0]
        for size in change.shape
    )
    result: Tensor = float(change.norm()) / math.sqrt(u.shape[1]) * u @ v.T
    return result


def _matches(base: Tensor, change: Tensor, count: int) -> list[float]:
    before = torch.linalg.svd(base, full_matrices=False)[0]
    after = torch.linalg.svd(base + change, full_matrices=False)[0]
    cosines = (after[:, :count].T @ before).abs().amax(dim=1).clamp(max=1.0)
    return [float(each) for each in cosines]


def _counts(matches: Sequence[float], thresholds: Sequence[float]) -> dict[float, int]:
    return {threshold: sum(match < threshold for match in matches) for threshold in thresholds}
