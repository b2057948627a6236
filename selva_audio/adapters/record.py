"""An adapter as numbers: for each layer two small matrices, and what is known about them.

Files are left to ``formats``, modules to ``inject``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """Change of one layer's weight, ``scale (B A - B0 A0)``, on the CPU in float32.

    Attributes:
        a: (r, in) of a linear layer, (r, in, k) of a convolution.
        b: (out, r).
        scale: factor on the products.
        a0: value of ``a`` at which the change is none (PiSSA in offset form), with ``b0``.
        b0: value of ``b`` likewise.
        magnitude: (out,) length of each row of the changed weight (DoRA); None leaves it as it comes.
    """

    a: Tensor
    b: Tensor
    scale: float
    a0: Tensor | None = None
    b0: Tensor | None = None
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        """Rows of ``a``; the change itself may have twice the rank where there is an offset."""
        return self.a.shape[0]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight that is changed."""
        return (self.b.shape[0], *self.a.shape[1:])

    @property
    def is_plain(self) -> bool:
        """Whether two matrices are all there is to it."""
        return self.a0 is None and self.magnitude is None


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """Changes by module path, as in the published weights.

    Attributes:
        deltas: one for each layer.
        meta: what the file tells: variant, rank, alpha, target, steps, ...
        residuals: weights that a file of the residual kind of PiSSA holds in place of the base's; see
            ``residual.resolved``.
        biases: the biases beside them, by path.
        origin: "pack" for files of the public pack, "peft", "plain" (tensors without an account), or "selva".
    """

    deltas: Mapping[str, Delta]
    meta: Mapping[str, Any] = field(default_factory=dict)
    residuals: Mapping[str, Tensor] = field(default_factory=dict)
    biases: Mapping[str, Tensor] = field(default_factory=dict)
    origin: str = "selva"

    @property
    def rank(self) -> int:
        """Largest rank of a layer."""
        return max(delta.rank for delta in self.deltas.values())

    @property
    def variant(self) -> str:
        """Variant it was trained on, or "" where that is not told."""
        return str(self.meta.get("variant") or "")

    @property
    def clip_conditioning(self) -> bool:
        """Whether it was trained on CLIP features of the picture; files that do not say so were."""
        return str(self.meta.get("clip_conditioning", "on")).lower() not in ("off", "false")

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know before trusting it."""
        if self.origin != "pack":
            return ()
        return (
            "This adapter looks like one of the public ComfyUI pack, whose trainer saw mis-scaled mels: it "
            "is loaded exactly, and it is worth training again.",
        )


def dense(delta: Delta, weight: Tensor | None = None) -> Tensor:
    """The change as a full tensor of the weight's shape, in float64.

    Args:
        delta: the change.
        weight: weight of the base layer; needed for DoRA.

    Raises:
        InputError: DoRA without the weight.
    """
    b, a = stacked(delta)
    change = (b @ a).reshape(delta.weight_shape)
    if delta.magnitude is None:
        return change
    if weight is None:
        raise InputError("The change of a DoRA adapter depends on the base weights. Give the variant too.")
    base = weight.detach().double().cpu()
    direction = base + change
    return row_gain(delta.magnitude.double(), direction) * direction - base


def row_gain(magnitude: Tensor, direction: Tensor) -> Tensor:
    """Magnitude / row length, shaped to multiply ``direction`` (out, ...).

    Source: DoRA (arXiv:2402.09353), equation 5; convolutions take the length over all but the first axis.
    """
    gain: Tensor = magnitude / direction.flatten(1).norm(dim=1)
    return gain.reshape(-1, *[1] * (direction.ndim - 1))


def stacked(delta: Delta) -> tuple[Tensor, Tensor]:
    """(out, R) and (R, in k) float64 whose product is the change before DoRA, with the scale in the first."""
    b, a = delta.b.double(), delta.a.double().flatten(1)
    if delta.a0 is not None and delta.b0 is not None:
        b = torch.cat((b, -delta.b0.double()), dim=1)
        a = torch.cat((a, delta.a0.double().flatten(1)))
    return delta.scale * b, a
