"""An adapter from two whole sets of weights: what a full fine-tuning changed, at a low rank."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import InputError
from .algebra import Kept
from .record import Adapter, Delta
from .targets import adaptable_layers


@dataclass(frozen=True, slots=True, eq=False)
class Extraction:
    """What came of it.

    Attributes:
        adapter: plain LoRA, without any account.
        kept: of each layer; ``rank_before`` is the largest that its weight can have.
        left_out: names of tensors that changed and that no adapter can hold, such as biases.
    """

    adapter: Adapter
    kept: tuple[Kept, ...]
    left_out: tuple[str, ...]


def extract(base: nn.Module, tuned: Mapping[str, Tensor], rank: int) -> Extraction:
    """The best approximation of ``tuned`` less ``base`` that an adapter of ``rank`` can be.

    Args:
        base: generator without adapters.
        tuned: state dict of a generator of the same variant.
        rank: largest rank of a layer.

    Raises:
        InputError: a rank under 1, or weights that do not differ in any layer.
    """
    if rank < 1:
        raise InputError(f"The rank {rank} is under 1. Give a rank of 1 or more.")
    layers = adaptable_layers(base)
    deltas: dict[str, Delta] = {}
    kept: list[Kept] = []
    left_out: list[str] = []
    for name, before in base.state_dict().items():
        change = tuned[name].detach().cpu().double() - before.detach().cpu().double()
        if not bool(change.any()):
            continue
        path = name.removesuffix(".weight")
        if path == name or path not in layers:
            left_out.append(name)
            continue
        deltas[path], share, full = _low_rank(change, rank)
        kept.append(Kept(path, full, deltas[path].rank, share))
    if not deltas:
        raise InputError(
            "The weights do not differ in any layer. Give those of a generator that was trained."
        )
    return Extraction(Adapter(deltas, {}), tuple(kept), tuple(left_out))


def _low_rank(change: Tensor, rank: int) -> tuple[Delta, float, int]:
    """The change at a lower rank, the share of its energy, and the largest rank that it could have."""
    u, s, vh = torch.linalg.svd(change.flatten(1), full_matrices=False)
    count = min(rank, int((s > s[0] * torch.finfo(torch.float32).eps).sum()))
    root = s[:count].sqrt()
    a = (root[:, None] * vh[:count]).reshape(count, *change.shape[1:])
    b = u[:, :count] * root
    share = s[:count].square().sum() / s.square().sum()
    return (
        Delta(a.float().contiguous(), b.float().contiguous(), 1.0),
        min(cast(float, share.item()), 1.0),
        len(s),
    )
