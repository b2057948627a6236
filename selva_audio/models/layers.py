"""Small layers that several networks share (SPEC 3): convolutions on channel-last tensors, gated MLPs, norms.

Nothing here knows sequence lengths, time or positions; rope lives with the attention in ``transformer.py``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .fast_path import is_on_cpu
from .fast_product import can_multiply, product, wants_exact_float32


def hidden_width(dim: int, multiple_of: int = 256) -> int:
    """Hidden width of a gated MLP: two thirds of ``4 dim``, rounded up to a multiple.

    Source: GLU variants (arXiv:2002.05202) keep the parameter count of an ungated MLP this way.
    """
    width = int(2 * (4 * dim) / 3)
    return multiple_of * -(-width // multiple_of)


def head_norm(head_dim: int) -> nn.RMSNorm:
    """RMSNorm over the channels of one head, for queries and keys.

    The epsilon is float32's for every parameter dtype: "None" would follow the dtype in some torch releases.
    """
    return nn.RMSNorm(head_dim, eps=torch.finfo(torch.float32).eps)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Adaptive layer norm's affine part; ``shift`` and ``scale`` are (B, 1, D) or (B, N, D)."""
    return torch.addcmul(shift, x, 1 + scale)


class Linear(nn.Linear):
    """``nn.Linear``, on the matrix unit of a CPU where there is one."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return product(x, self.weight, self.bias) if can_multiply(x, self) else super().forward(x)

    def with_gelu(self, x: Tensor) -> Tensor:
        """The exact GELU of ``forward``."""
        if can_multiply(x, self):
            return product(x, self.weight, self.bias, with_gelu=True)
        return functional.gelu(self(x))


class ChannelLastConv1d(nn.Conv1d):
    """Length-keeping convolution on (B, N, C), zero padded; odd kernel sizes only.

    Other libraries make more of its kind with the arguments of ``nn.Conv1d``, of which it has the first few.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int] | None = None,
        *,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        (size,) = (kernel_size,) if isinstance(kernel_size, int) else kernel_size
        padding = size // 2 if padding is None else padding
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, in) -> (B, N, out)."""
        if self._is_plain and can_multiply(x, self):
            return product(x, self.weight, self.bias)
        if is_on_cpu(x) and wants_exact_float32(x):
            # A tenth slower than as a picture, and a third as far off: the kernels for a picture, which are
            # taken wherever the weights lie as its would, have longer sums. Gradients feel it.
            rows: Tensor = self._conv_forward(x.transpose(1, 2), self.weight.contiguous(), self.bias)
            return rows.transpose(1, 2)
        # As a picture of one row, whose channels-last form is the memory of x as it is: the kernels for it
        # need no copies of x and their result. The one-dimensional ones make both.
        picture, kernel = x.transpose(1, 2).unsqueeze(2), self.weight.unsqueeze(2)
        padding = (0, int(self.padding[0]))
        made = functional.conv2d(picture, kernel, self.bias, (1, *self.stride), padding, groups=self.groups)
        return made.squeeze(2).transpose(1, 2)

    @property
    def _is_plain(self) -> bool:
        """Whether each result is a sum over neighbours, as many on both sides, of all channels."""
        keeps_length = self.kernel_size[0] == 2 * int(self.padding[0]) + 1
        return keeps_length and self.stride[0] == self.groups == 1


@torch.no_grad()
def lay_out_convolutions(module: nn.Module) -> None:
    """Bring the kernels of channel-last convolutions to the order in memory that they are used in.

    Shapes and values stay as they are; without it, each call makes such a copy of the kernel. A kernel that
    lies so already is not copied.
    """
    for layer in module.modules():
        if isinstance(layer, ChannelLastConv1d):
            ordered = layer.weight.data.transpose(1, 2).contiguous().transpose(1, 2)
            layer.weight.data = ordered


class GatedMLP(nn.Module):
    """``w2(silu(w1 x) * w3 x)`` without biases.

    Args:
        dim: width of input and output.
        hidden: inner width, usually ``hidden_width(dim)``.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1 = Linear(dim, hidden, bias=False)
        self.w2 = Linear(hidden, dim, bias=False)
        self.w3 = Linear(dim, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        hidden: Tensor = functional.silu(self.w1(x)) * self.w3(x)
        output: Tensor = self.w2(hidden)
        return output


class ConvGatedMLP(nn.Module):
    """``GatedMLP`` with a channel-last convolution in place of each linear.

    Args:
        dim: width of input and output.
        hidden: inner width, usually ``hidden_width(dim)``.
        kernel_size: of all three convolutions; odd.
    """

    def __init__(self, dim: int, hidden: int, kernel_size: int) -> None:
        super().__init__()
        self.w1 = ChannelLastConv1d(dim, hidden, kernel_size, bias=False)
        self.w2 = ChannelLastConv1d(hidden, dim, kernel_size, bias=False)
        self.w3 = ChannelLastConv1d(dim, hidden, kernel_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, dim) -> (B, N, dim)."""
        hidden: Tensor = functional.silu(self.w1(x)) * self.w3(x)
        output: Tensor = self.w2(hidden)
        return output
