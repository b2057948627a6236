"""Where the anti-aliased snake runs as one compiled step instead of three in torch.

The step takes and gives samples with the channels side by side, which is also the layout that convolutions of
a CPU are fastest in. What it computes is ``AntialiasedActivation`` up to rounding, with float32 inside
whatever the number format of the module.

Letters: B batch, C channels, L samples.
"""

import torch
from torch import Tensor, nn

from .fast_path import (
    FORMATS,
    array,
    asks_for_gradients,
    has_channels_together,
    in_threads,
    is_on_cpu,
    steps_of,
)

_VALUES_PER_THREAD = 2**18


def can_fuse(x: Tensor, module: nn.Module) -> bool:
    """Whether ``fused_activation`` may stand in for ``module`` on ``x``.

    It does for channels side by side, which is how a vocoder lays out long sounds; not where gradients are
    asked for, as it has none, nor without numba.
    """
    return (
        is_on_cpu(x, *module.parameters())
        and has_channels_together(x)
        and x.dtype in FORMATS
        and all(each.dtype in FORMATS for each in module.parameters())
        and not asks_for_gradients(x, module)
        and not torch.compiler.is_compiling()
        and steps_of("snake") is not None
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
    compiled = steps_of("snake")
    assert compiled is not None
    channels, length = x.shape[1:]
    rows = x.detach().transpose(1, 2).contiguous()
    out = torch.empty_like(rows, dtype=log_frequency.dtype)
    step = compiled(FORMATS[x.dtype], FORMATS[out.dtype])
    frequency = array(log_frequency.detach().float().exp())
    scale = array(1 / (log_magnitude.detach().float().exp() + 1e-9))
    taps = [array(2 * up_taps.detach().float()), array(down_taps.detach().float())]
    work = [(array(item), array(made)) for item, made in zip(rows, out, strict=True)]
    in_threads(
        lambda first, last, each: step(*each, frequency, scale, *taps, length, first, last),
        work,
        length,
        -(-_VALUES_PER_THREAD // channels),
    )
    return out.transpose(1, 2)
