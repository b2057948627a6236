"""Where queries, keys and values are taken apart, normalised and rotated as one compiled step on a CPU.

Letters: B batch, N tokens, H heads, E channels of one head.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .fast_path import FORMATS, array, in_threads, is_on_cpu, steps_of

_LANES = 16
_TOKENS_PER_THREAD = 128


def can_split_heads(qkv: Tensor, query_weight: Tensor, key_weight: Tensor) -> bool:
    """Whether ``split_heads`` may be used; not where the norms are trained, nor without numba."""
    is_trained = query_weight.requires_grad or key_weight.requires_grad
    return (
        is_on_cpu(qkv, query_weight)
        and qkv.dtype in FORMATS
        and len(query_weight) % _LANES == 0
        and not (torch.is_grad_enabled() and is_trained)
        and not torch.compiler.is_compiling()
        and steps_of("heads") is not None
    )


def split_heads(
    qkv: Tensor, query_weight: Tensor, key_weight: Tensor, rope: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Heads out of a projection whose innermost axis is queries, keys, values.

    Args:
        qkv: (B, N, 3 H E).
        query_weight: (E) of the RMS norm of queries.
        key_weight: likewise.
        rope: cosines and sines of queries and keys, (N, E / 2) each; None does not rotate.

    Returns:
        Queries, keys and values, each (B, H, N, E); gradients go back to ``qkv`` alone.
    """
    width = len(query_weight)
    if rope is None:
        rope = torch.ones(qkv.shape[1], width // 2), torch.zeros(qkv.shape[1], width // 2)
    weights = query_weight.detach().float(), key_weight.detach().float()
    apart: Tensor = _Heads.apply(qkv, *weights, *(each.contiguous() for each in rope))  # type: ignore[no-untyped-call]
    queries, keys, values = apart.transpose(2, 3).unbind(0)
    return queries, keys, values


class _Heads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, *tables: Tensor) -> Tensor:
        width = len(tables[0])
        qkv = qkv.contiguous()
        batch, tokens, channels = qkv.shape
        heads = channels // (3 * width)
        out = torch.empty(3, batch, tokens, heads, width, dtype=qkv.dtype)
        split, _ = _compiled(qkv.dtype)
        sizes = (batch * tokens, tokens, heads, width)
        arrays = (array(qkv), array(out), *(array(each) for each in tables))
        in_threads(
            lambda first, last, _: split(*arrays, *sizes, first, last),
            [None],
            batch * tokens,
            _TOKENS_PER_THREAD,
        )
        ctx.save_for_backward(qkv, *tables)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qkv, *tables = ctx.saved_tensors
        grad, out = grad.contiguous(), torch.empty_like(qkv)
        _, join = _compiled(qkv.dtype)
        _, batch, tokens, heads, width = grad.shape
        sizes = (batch * tokens, tokens, heads, width)
        arrays = (array(qkv), array(grad), array(out), *(array(each) for each in tables))
        in_threads(
            lambda first, last, _: join(*arrays, *sizes, first, last),
            [None],
            batch * tokens,
            _TOKENS_PER_THREAD,
        )
        return out, None, None, None, None


def _compiled(dtype: torch.dtype) -> tuple[Any, Any]:
    compiled = steps_of("heads")
    assert compiled is not None
    split, join = compiled(FORMATS[dtype])
    return split, join
