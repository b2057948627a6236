"""What an adapter does to each layer, in sizes, alone and beside another one.

Directions that the base did not have are left to ``intruders``.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from .algebra import spectrum
from .record import Adapter, Delta, dense, stacked


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
class LayerDifference:
    """One layer of two adapters.

    Attributes:
        path: name of the layer.
        norms: Frobenius norm of each change; 0 where an adapter leaves the layer alone.
        difference: norm of one less the other.
        cosine: between the changes; None where one of them is none.
    """

    path: str
    norms: tuple[float, float]
    difference: float
    cosine: float | None


def compare_changes(first: Adapter, second: Adapter) -> list[LayerDifference]:
    """How unlike two adapters are, layer by layer, without making the changes.

    Raises:
        InputError: DoRA, whose change is no product of two matrices, or adapters of different models.
    """
    for adapter in (first, second):
        if any(delta.magnitude is not None for delta in adapter.deltas.values()):
            raise InputError("A DoRA adapter cannot be compared: its change is not of low rank. Merge it.")
    return [
        _compare(path, first.deltas.get(path), second.deltas.get(path))
        for path in dict.fromkeys((*first.deltas, *second.deltas))
    ]


def _compare(path: str, first: Delta | None, second: Delta | None) -> LayerDifference:
    if first is not None and second is not None and first.weight_shape != second.weight_shape:
        shapes = sorted((first.weight_shape, second.weight_shape))
        raise InputError(f"The adapters are of different models: {path} has the shapes {shapes}.")
    norms = _inner(first, first) ** 0.5, _inner(second, second) ** 0.5
    product = _inner(first, second)
    difference = max(norms[0] ** 2 + norms[1] ** 2 - 2 * product, 0.0) ** 0.5
    cosine = product / (norms[0] * norms[1]) if all(norms) else None
    return LayerDifference(path, norms, difference, cosine)


def _inner(first: Delta | None, second: Delta | None) -> float:
    """Sum of the products of two changes, number by number."""
    if first is None or second is None:
        return 0.0
    (b, a), (d, c) = stacked(first), stacked(second)
    product = float(((b.T @ d) * (a @ c.T)).sum())
    return max(product, 0.0) if first is second else product


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


def change_norm(adapter: Adapter) -> float | None:
    """Frobenius norm of all changes of an adapter together; None for DoRA, whose change needs the base."""
    norms = [report_layer(path, delta).norm for path, delta in adapter.deltas.items()]
    known = [norm for norm in norms if norm is not None]
    return math.hypot(*known) if len(known) == len(norms) else None
