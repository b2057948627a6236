"""What an adapter does to each layer, in sizes.

Directions that the base did not have are left to ``intruders``.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .algebra import spectrum
from .record import Adapter, Delta, dense


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
