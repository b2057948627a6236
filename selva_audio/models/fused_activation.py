"""Where the anti-aliased snake runs as one compiled step instead of three in torch.

The step takes and gives samples with the channels side by side, which is also the layout that convolutions of
a CPU are fastest in. What it computes is ``AntialiasedActivation`` up to rounding, with float32 inside
whatever the number format of the module.

Letters: B batch, C channels, L samples.
"""

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .fast_path import asks_for_gradients, has_channels_together

_FORMATS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_VALUES_PER_THREAD = 2**18


def can_fuse(x: Tensor, module: nn.Module) -> bool:
    """Whether ``fused_activation`` may stand in for ``module`` on ``x``.

    It does for channels side by side, which is how a vocoder lays out long sounds; not where gradients are
    asked for, as it has none, nor without numba.
    """
    return (
        x.device.type == "cpu"
        and has_channels_together(x)
        and x.dtype in _FORMATS
        and all(each.device.type == "cpu" and each.dtype in _FORMATS for each in module.parameters())
        and not asks_for_gradients(x, module)
        and not torch.compiler.is_compiling()
        and compiler() is not None
    )


def fused_activation(
    x: Tensor, log_frequency: Tensor, log_magnitude: Tensor, up_taps: Tensor, down_taps: Tensor
) -> Tensor:
    """``downsample2(snake(upsample2(x)))`` in one step.

    Args:
        x: (B, C, L) float32 or bfloat16, on the CPU.
        log_frequency: (C), the ``alpha`` of the snake.
        log_magnitude: (C), its ``beta``.
        up_taps: 12 values.
        down_taps: 12 values.

    Returns:
        (B, C, L) in the number format of ``log_frequency``, channels side by side in memory.
    """
    compiled = compiler()
    assert compiled is not None
    batch, channels, length = x.shape
    rows = x.detach().transpose(1, 2).contiguous()
    out = torch.empty_like(rows, dtype=log_frequency.dtype)
    step = compiled(_FORMATS[x.dtype], _FORMATS[out.dtype])
    frequency = _array(log_frequency.detach().float().exp())
    scale = _array(1 / (log_magnitude.detach().float().exp() + 1e-9))
    taps = [_array(2 * up_taps.detach().float()), _array(down_taps.detach().float())]
    threads = max(1, min(torch.get_num_threads(), length, channels * length // _VALUES_PER_THREAD))
    ends = [length * part // threads for part in range(threads + 1)]
    work = [
        (_array(rows[item]), _array(out[item]), frequency, scale, *taps, length, first, last)
        for item in range(batch)
        for first, last in itertools.pairwise(ends)
    ]
    if threads == 1:
        for each in work:
            step(*each)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda each: step(*each), work))
    return out.transpose(1, 2)


@functools.cache
def compiler() -> Callable[[str, str], Any] | None:
    """What makes the step for two number formats; None where numba is absent, does not load or is off."""
    try:
        from . import snake_kernel
    except ImportError:
        return None
    return snake_kernel.compiled if snake_kernel.can_compile() else None


def _array(values: Tensor) -> "np.ndarray[Any, Any]":
    """The memory of contiguous values; bfloat16 as its bits, which numpy has no name for."""
    flat = values.reshape(-1)
    return (flat.view(torch.uint16) if flat.dtype == torch.bfloat16 else flat).numpy()
