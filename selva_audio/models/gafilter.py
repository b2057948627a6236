"""A short filter after each activation of a vocoder's residual blocks, one per channel.

Users' tuned vocoders have it, so the names are those of their files. ``activation_post`` has none.

Letters: B batch, C channels, L samples.
"""

import torch
from torch import Tensor, nn

from .antialias import AntialiasedActivation
from .bigvgan import BigVGAN, ResidualBlock
from .convolution import Convolution


class FilteredActivation(nn.Module):
    """An activation, then its filter.

    Args:
        activation: what comes first; kept as it is.
        kernel_size: taps, an odd number.
    """

    def __init__(self, activation: AntialiasedActivation, kernel_size: int) -> None:
        super().__init__()
        self.reach = activation.reach + kernel_size // 2
        self.activation = activation
        alpha = activation.act.alpha
        self.gafilter = GAFilter(alpha.numel(), kernel_size).to(device=alpha.device, dtype=alpha.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, C, L)."""
        filtered: Tensor = self.gafilter(self.activation(x))
        return filtered


class GAFilter(nn.Module):
    """One filter for each channel; as made, it changes nothing."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = Convolution(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False
        )
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[..., kernel_size // 2] = 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, C, L)."""
        filtered: Tensor = self.conv(x)
        return filtered


def add_filters(vocoder: BigVGAN, kernel_size: int) -> None:
    """Put filters that change nothing yet after the activations of ``vocoder``, which is changed itself."""
    for block in vocoder.resblocks:
        assert isinstance(block, ResidualBlock)
        for place, activation in enumerate(block.activations):
            assert isinstance(activation, AntialiasedActivation)
            block.activations[place] = FilteredActivation(activation, kernel_size).train(block.training)


def has_filters(vocoder: BigVGAN) -> bool:
    """Whether ``add_filters`` has been there."""
    return any(isinstance(module, FilteredActivation) for module in vocoder.modules())
