"""Arithmetic on adapters: plain form, uniform rank, several into one, lower rank, into the weights.

Matrices A and B of different adapters are never averaged apart; products are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import InputError
from .inject import check_fits
from .record import Adapter, Delta, dense, stacked
from .residual import resolved
from .targets import adaptable_layers

# Singular values under this share of the largest are rounding.
_NEGLIGIBLE = 1e-7


@dataclass(frozen=True, slots=True)
class Kept:
    """What a lower rank keeps of one layer: ranks before and after, and the share of the energy."""

    path: str
    rank_before: int
    rank_after: int
    energy: float

    @property
    def relative_error(self) -> float:
        """Norm of what is lost over the norm of the change."""
        return float(max(0.0, 1 - self.energy) ** 0.5)


def plain(adapter: Adapter) -> Adapter:
    """The same changes as two matrices each; an offset doubles the rank at most.

    Raises:
        InputError: a DoRA adapter, whose change is no product of two small matrices.
    """
    if all(delta.is_plain for delta in adapter.deltas.values()):
        return adapter
    _refuse_dora(adapter, "has no plain form")
    deltas = {
        path: delta if delta.is_plain else _from_spectrum(delta, *spectrum(delta))
        for path, delta in adapter.deltas.items()
    }
    return _renamed(adapter, deltas)


def uniform(adapter: Adapter) -> Adapter:
    """The same changes with one rank and one scale for all layers; smaller ones are filled with zeros."""
    ranks = {delta.rank for delta in adapter.deltas.values()}
    scales = {delta.scale for delta in adapter.deltas.values()}
    if len(ranks) == 1 and len(scales) == 1:
        return adapter
    rank = max(ranks)
    deltas = {path: _padded(delta, rank) for path, delta in adapter.deltas.items()}
    return _renamed(adapter, deltas)


def concatenate(adapters: Sequence[Adapter], strengths: Sequence[float]) -> Adapter:
    """One adapter that does what several do together; exact, ranks add.

    Raises:
        InputError: none given, or a DoRA adapter.
    """
    if not adapters:
        raise InputError("There is nothing to merge. Give one adapter at least.")
    parts: dict[str, list[tuple[Tensor, Tensor, Delta]]] = {}
    for adapter, strength in zip(adapters, strengths, strict=True):
        _refuse_dora(adapter, "cannot be put together with others")
        for path, delta in adapter.deltas.items():
            b, a = stacked(delta)
            parts.setdefault(path, []).append((strength * b, a, delta))
    deltas = {}
    for path, found in parts.items():
        first = found[0][2]
        shapes = {delta.weight_shape for _, _, delta in found}
        if len(shapes) > 1:
            raise InputError(f"The adapters are of different models: {path} has the shapes {sorted(shapes)}.")
        a = torch.cat([each for _, each, _ in found])
        b = torch.cat([each for each, _, _ in found], dim=1)
        deltas[path] = Delta(
            a.reshape(len(a), *first.a.shape[1:]).float().contiguous(), b.float().contiguous(), 1.0
        )
    return _renamed(adapters[0], deltas)


def resize(
    adapter: Adapter, rank: int | None = None, *, energy: float | None = None
) -> tuple[Adapter, list[Kept]]:
    """Best approximation of every change at a lower rank.

    Args:
        adapter: plain, or PiSSA in offset form.
        rank: largest rank of a layer; None means no limit.
        energy: share of the squared singular values that each layer keeps at least, while the rank allows.

    Returns:
        The smaller adapter, and what each layer keeps.

    Raises:
        InputError: neither is given, one is out of range, or the adapter is DoRA.
    """
    if rank is None and energy is None:
        raise InputError("Resizing needs a rank, or the energy to keep such as 0.999. Give one of them.")
    if rank is not None and rank < 1:
        raise InputError(f"The rank {rank} is under 1. Give a rank of 1 or more.")
    if energy is not None and not 0 < energy <= 1:
        raise InputError(f"The energy {energy} is no share. Give a number over 0, up to 1.")
    _refuse_dora(adapter, "cannot be resized")
    deltas, kept = {}, []
    for path, delta in adapter.deltas.items():
        u, s, vh = spectrum(delta)
        shares = s.square().cumsum(0) / s.square().sum() if len(s) else s
        count = len(s) if energy is None else int((shares < energy * (1 - 1e-12)).sum()) + 1
        count = min(count, len(s), rank or len(s))
        deltas[path] = _from_spectrum(delta, u[:, :count], s[:count], vh[:count])
        share = float(shares[count - 1]) if count else 1.0
        kept.append(Kept(path, delta.rank, deltas[path].rank, min(share, 1.0)))
    return _renamed(adapter, deltas), kept


def spectrum(delta: Delta) -> tuple[Tensor, Tensor, Tensor]:
    """Compact SVD of a change in float64, without making it: (out, R), (R,), (R, in k)."""
    b, a = stacked(delta)
    q_b, r_b = torch.linalg.qr(b)
    q_a, r_a = torch.linalg.qr(a.T)
    u, s, vh = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    count = int((s > _NEGLIGIBLE * s.max()).sum()) if len(s) and s.max() > 0 else 0
    return q_b @ u[:, :count], s[:count], vh[:count] @ q_a.T


def merge(generator: nn.Module, adapters: Sequence[Adapter], strengths: Sequence[float]) -> dict[str, Tensor]:
    """State dict of the base with the changes in its weights; changed weights are new tensors, others shared.

    Args:
        generator: the base, without adapters.
        adapters: any of them, DoRA and residual files included.
        strengths: factor on each.

    Raises:
        CheckpointError: an adapter does not fit.
    """
    state = dict(generator.state_dict())
    layers = adaptable_layers(generator)
    changes: dict[str, Tensor] = {}
    for adapter, strength in zip(adapters, strengths, strict=True):
        check_fits(generator, adapter)
        if strength == 0:
            continue
        for path, delta in resolved(adapter, generator).deltas.items():
            weight = cast(Tensor, layers[path].weight)
            # DoRA too is a change of the base weight, so that the order of adapters is of no matter.
            changes[path] = changes.get(path, 0) + strength * dense(delta, weight)
    for path, change in changes.items():
        weight = state[f"{path}.weight"]
        merged = weight.detach().double().cpu() + change
        state[f"{path}.weight"] = merged.to(dtype=weight.dtype, device=weight.device)
    return state


def _from_spectrum(delta: Delta, u: Tensor, s: Tensor, vh: Tensor) -> Delta:
    """A plain change of scale 1 with balanced factors; one of no energy keeps a rank of zeros."""
    if len(s) == 0:
        return Delta(torch.zeros_like(delta.a[:1]), torch.zeros_like(delta.b[:, :1]), 1.0)
    root = s.sqrt()
    a = (root[:, None] * vh).reshape(len(s), *delta.a.shape[1:])
    return Delta(a.float().contiguous(), (u * root).float().contiguous(), 1.0)


def _padded(delta: Delta, rank: int) -> Delta:
    def rows(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        return torch.cat((tensor, tensor.new_zeros(rank - len(tensor), *tensor.shape[1:])))

    def columns(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        return torch.cat((tensor * delta.scale, tensor.new_zeros(len(tensor), rank - tensor.shape[1])), dim=1)

    a, b = cast(Tensor, rows(delta.a)), cast(Tensor, columns(delta.b))
    return replace(delta, a=a, b=b, a0=rows(delta.a0), b0=columns(delta.b0), scale=1.0)


def _renamed(adapter: Adapter, deltas: dict[str, Delta]) -> Adapter:
    """The account of an adapter whose matrices were made anew; files take rank and alpha from the tensors."""
    dropped = ("rank", "alpha", "rank_pattern", "alpha_pattern", "scaling", "use_rslora", "init_mode")
    meta: dict[str, Any] = {key: value for key, value in adapter.meta.items() if key not in dropped}
    return replace(adapter, deltas=deltas, meta=meta)


def _refuse_dora(adapter: Adapter, what: str) -> None:
    if any(delta.magnitude is not None for delta in adapter.deltas.values()):
        raise InputError(f"A DoRA adapter {what}: its change is not of low rank. Merge it into the weights.")
