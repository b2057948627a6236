"""Where the anti-aliased snake is compiled for a GPU, with ``SELVA_COMPILE=on``.

Written as products of banded matrices, as elsewhere, it is a dozen passes over the sound. Here it is sums of
shifted samples, even and odd ones apart, which torch's compiler makes a few kernels of. The first sound takes
the time of compiling, so nobody gets it unasked.

Letters: B batch, C channels, L samples.
"""

import functools
import importlib.util
import os
from collections.abc import Callable

import torch
from torch import Tensor

from .fast_path import is_on_cpu

_SWITCH = "SELVA_COMPILE"
# Output sample n sees the doubled samples 2 n - 5 to 2 n + 6; the edge values stand for those past the ends.
_BEFORE, _AFTER = 3, 3


def can_compile(x: Tensor) -> bool:
    """Whether ``compiled_activation`` may be used: asked for, off the CPU, with Triton, without gradients."""
    return (
        os.environ.get(_SWITCH, "") == "on"
        and not is_on_cpu(x)
        and not torch.is_grad_enabled()
        and importlib.util.find_spec("triton") is not None
    )


def compiled_activation(
    x: Tensor, log_frequency: Tensor, log_magnitude: Tensor, up_taps: Tensor, down_taps: Tensor
) -> Tensor:
    """``downsample2(snake(upsample2(x)))`` compiled, with float32 inside.

    Args:
        x: (B, C, L).
        log_frequency: (C), the ``alpha`` of the snake.
        log_magnitude: (C), its ``beta``.
        up_taps: 12 values.
        down_taps: 12 values.

    Returns:
        (B, C, L) in the number format of ``log_frequency``.
    """
    return _compiled()(x, log_frequency, log_magnitude, up_taps, down_taps)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    # Lengths differ from clip to clip and from layer to layer; one kernel serves all.
    made: Callable[..., Tensor] = torch.compile(polyphase_activation, dynamic=True, fullgraph=True)
    return made


def polyphase_activation(
    x: Tensor, log_frequency: Tensor, log_magnitude: Tensor, up_taps: Tensor, down_taps: Tensor
) -> Tensor:
    """What is compiled; arguments of ``compiled_activation``."""
    frequency = log_frequency.float().exp()[:, None]
    scale = 1 / (log_magnitude.float().exp()[:, None] + 1e-9)
    up, down = 2 * up_taps.flatten().float(), down_taps.flatten().float()
    padded = _padded(x[..., :1], x.float(), x[..., -1:])
    even, odd = (
        value + scale * torch.sin(value * frequency).square()
        for value in (_sum(padded, up.flip(0)[0::2], 0, x), _sum(padded, up.flip(0)[1::2], 1, x))
    )
    first, last = even[..., :1], odd[..., -1:]
    made = _sum(_padded(first, odd, last), down[0::2], 0, x)
    made = made + _sum(_padded(first, even, last), down[1::2], 1, x)
    return made.to(log_frequency.dtype)


def _padded(first: Tensor, middle: Tensor, last: Tensor) -> Tensor:
    return torch.cat([first.to(middle.dtype)] * _BEFORE + [middle] + [last.to(middle.dtype)] * _AFTER, dim=-1)


def _sum(padded: Tensor, taps: Tensor, first: int, like: Tensor) -> Tensor:
    """As long as ``like``: each sample a sum over six neighbours, from ``first`` on, by their taps."""
    length = like.shape[-1]
    terms = (tap * padded[..., first + k : first + k + length] for k, tap in enumerate(taps.unbind()))
    return functools.reduce(torch.add, terms)
