"""Where attention within small groups of tokens runs as one compiled step on a CPU.

Letters: B batch, T times, P places, H heads, E channels of one head.
"""

import torch
from torch import Tensor

from .fast_path import FORMATS, array, in_threads, is_on_cpu, steps_of

_LANES = 16
_PLACES_PER_THREAD = 32


def can_attend_over_time(qkv: Tensor, num_times: int) -> bool:
    """Whether ``attend_over_time`` may be used; not where gradients are asked for, nor without numba."""
    return (
        is_on_cpu(qkv)
        and qkv.dtype in FORMATS
        and qkv.is_contiguous()
        and qkv.shape[-1] % _LANES == 0
        and num_times < _LANES
        and not (torch.is_grad_enabled() and qkv.requires_grad)
        and not torch.compiler.is_compiling()
        and steps_of("attention") is not None
    )


def attend_over_time(qkv: Tensor, num_times: int) -> Tensor:
    """Attention of every token to the first one and to those of its own place.

    Args:
        qkv: (B, 1 + T P, 3, H, E); the first token, then all places of each time.
        num_times: T.

    Returns:
        (B, 1 + T P, H, E); what the first token sees is left to the caller.
    """
    compiled = steps_of("attention")
    assert compiled is not None
    batch, tokens, _, heads, width = qkv.shape
    num_places = (tokens - 1) // num_times
    out = torch.empty(batch, tokens, heads, width, dtype=qkv.dtype)
    step = compiled(FORMATS[qkv.dtype])
    work = [(array(each), array(made)) for each, made in zip(qkv.detach(), out, strict=True)]
    sizes = (num_times, num_places, heads, width)
    in_threads(
        lambda first, last, each: step(*each, *sizes, first, last), work, num_places, _PLACES_PER_THREAD
    )
    return out
