"""When the forms of a layer that are faster on a CPU may stand in for the plain ones.

A vocoder lays out its channels side by side where that pays, and every layer sees it by the strides.

Letters: B batch, C channels, L samples.
"""

import torch
from torch import Tensor, nn


def has_channels_together(x: Tensor) -> bool:
    """Whether (B, C, L) lies in memory as (B, L, C)."""
    return x.shape[1] > 1 and x.transpose(1, 2).is_contiguous()


def asks_for_gradients(x: Tensor, module: nn.Module) -> bool:
    """Whether a backward pass through ``module`` may come."""
    return torch.is_grad_enabled() and (
        x.requires_grad or any(parameter.requires_grad for parameter in module.parameters())
    )
