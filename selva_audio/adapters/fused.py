"""A layer and its low-rank change in one step, forwards and backwards.

Written out, the change is a chain of small products and passes over whole activations, each of which autograd
does again backwards. Here the change is added within a product of matrices, and so is its share of the
gradient.

Letters: B items, N tokens, R rank, K taps of a kernel, odd.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ..models.fast_product import can_multiply, exact_float32, product


def adapted_output(x: Tensor, base: nn.Linear | nn.Conv1d, a: Tensor, b: Tensor, factor: float) -> Tensor:
    """``base(x) + factor B A x`` with gradients for x, A and B; the base layer gets none.

    Args:
        x: (B, N, in).
        base: linear layer or length-keeping convolution on channel-last tensors, without groups.
        a: (R, in) or (R, in, K); rounded to the dtype of ``x``.
        b: (out, R); likewise, after the factor.
        factor: on the change.

    Returns:
        (B, N, out).
    """
    output: Tensor = _AdaptedOutput.apply(x, a, b, base, factor)  # type: ignore[no-untyped-call]
    return output


class _AdaptedOutput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, base: Any, factor: float) -> Tensor:
        with exact_float32():  # autograd has switched itself off here, which says nothing of what is asked
            y: Tensor = base(x)
        y = y.contiguous()
        low = _gathered(x.flatten(0, 1) @ _rows(a, x.dtype).T, x.shape[:2], a)
        y.view(-1, y.shape[2]).addmm_(low, (factor * b).to(x.dtype).T)
        ctx.save_for_backward(x, a, b, low)
        ctx.base, ctx.factor = base, factor
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, a, b, low = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[2])
        grad_low = _scattered(flat @ (ctx.factor * b).to(x.dtype), x.shape[:2], a)
        grad_x = grad_a = grad_b = None
        if ctx.needs_input_grad[0]:
            grad_x = _input_gradient(grad, x, ctx.base)
            grad_x.view(-1, x.shape[2]).addmm_(grad_low, _rows(a, x.dtype))
        if ctx.needs_input_grad[1]:
            product = (grad_low.T @ x.flatten(0, 1)).to(a.dtype)
            grad_a = product if a.ndim == 2 else product.unflatten(0, (a.shape[2], -1)).permute(1, 2, 0)
        if ctx.needs_input_grad[2]:
            grad_b = ctx.factor * (flat.T @ low).to(b.dtype)
        return grad_x, grad_a, grad_b, None, None


def _rows(a: Tensor, dtype: torch.dtype) -> Tensor:
    """(R, in), or (K R, in) of a kernel, tap by tap."""
    return (a if a.ndim == 2 else a.permute(2, 0, 1).flatten(0, 1)).to(dtype)


def _gathered(taps: Tensor, tokens: torch.Size, a: Tensor) -> Tensor:
    """(B N, K R) products of each token with each tap -> (B N, R) sums over neighbouring tokens."""
    if a.ndim == 2:
        return taps
    count = a.shape[2]
    padded = functional.pad(taps.view(*tokens, count, -1), (0, 0, 0, 0, count // 2, count // 2))
    parts = [padded[:, tap : tap + tokens[1], tap] for tap in range(count)]
    return torch.stack(parts).sum(dim=0).flatten(0, 1)


def _scattered(low: Tensor, tokens: torch.Size, a: Tensor) -> Tensor:
    """The transpose of ``_gathered``: (B N, R) -> (B N, K R)."""
    if a.ndim == 2:
        return low
    count = a.shape[2]
    padded = functional.pad(low.view(*tokens, -1), (0, 0, count // 2, count // 2))
    parts = [padded[:, count - 1 - tap : count - 1 - tap + tokens[1]] for tap in range(count)]
    return torch.cat(parts, dim=2).flatten(0, 1)


def _input_gradient(grad: Tensor, x: Tensor, base: nn.Linear | nn.Conv1d) -> Tensor:
    """(B, N, in), in memory of its own."""
    if grad.dtype != torch.float32 and can_multiply(grad, base):
        return product(grad, base.weight, None, transposed=True)
    if isinstance(base, nn.Linear):
        return (grad.reshape(-1, grad.shape[2]) @ base.weight).view(x.shape)
    pictures = (each.transpose(1, 2).unsqueeze(2) for each in (grad.contiguous(), x))
    padding, weight = [0, int(base.padding[0])], base.weight.unsqueeze(2)
    made: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        *pictures, weight, None, [1, 1], padding, [1, 1], False, [0, 0], 1, [True, False, False]
    )
    return made[0].squeeze(2).transpose(1, 2).contiguous()
