"""Convolutions over samples, in the form that a CPU is fastest at.

torch computes one axis with the samples side by side. With the channels side by side, as an image of one row,
the same sum takes between half and a fifth of the time in bfloat16 and up to three quarters in float32.

Letters: B batch, C channels, L samples, K taps.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..runtime import has_bf16_arithmetic
from .fast_path import asks_for_gradients, has_channels_together, is_on_cpu

# Preparing a convolution takes torch's CPU library time in proportion to the samples of an item (95 ms
# for 128,000 in bfloat16, where the sum itself takes 5), so a long sound is cut into a batch of short ones.
_PIECE = 1024
# Output from which a transposed convolution is one of each phase, whose weights cost a copy.
_LONG = 16384


class Convolution(nn.Conv1d):
    """``nn.Conv1d`` that takes and gives either layout of memory; a (B, C, L) tensor in both."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, C', L'), in the number format of the weights."""
        if not has_channels_together(x):
            return super().forward(x.to(self.weight.dtype))
        stride, padding, dilation = self.stride[0], int(self.padding[0]), self.dilation[0]
        values = _in_fast_format(x, self.weight, self.bias)
        keeps_length = stride == 1 and 2 * padding == dilation * (self.kernel_size[0] - 1)
        if keeps_length and not asks_for_gradients(x, self):
            out = _convolve_in_pieces(*values, padding, dilation, self.groups)
        else:
            out = _convolve(*values, padding, dilation, self.groups, stride)
        return out.to(self.weight.dtype)


class TransposedConvolution(nn.ConvTranspose1d):
    """``nn.ConvTranspose1d`` likewise."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, L) -> (B, C', L'), in the number format of the weights."""
        if not has_channels_together(x):
            return super().forward(x.to(self.weight.dtype), output_size)
        stride, padding, kernel = self.stride[0], int(self.padding[0]), self.kernel_size[0]
        x, weight, bias = _in_fast_format(x, self.weight, self.bias)
        is_long = x.shape[2] * stride > _LONG
        if is_long and kernel - stride == 2 * padding and not asks_for_gradients(x, self):
            phases = _phases(weight, stride, padding)
            biases = None if bias is None else bias.repeat(stride)
            rows = _convolve_in_pieces(x, phases, biases, phases.shape[2] // 2, 1, 1)
            out = rows.transpose(1, 2).reshape(x.shape[0], -1, self.out_channels).transpose(1, 2)
        else:
            image = functional.conv_transpose2d(
                x[:, :, None], weight[:, :, None], bias, (1, stride), (0, padding)
            )
            out = image[:, :, 0]
        return out.to(self.weight.dtype)


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, dilation: int, groups: int, stride: int = 1
) -> Tensor:
    image = functional.conv2d(
        x[:, :, None], weight[:, :, None], bias, (1, stride), (0, padding), (1, dilation), groups
    )
    return image[:, :, 0]


def _convolve_in_pieces(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, dilation: int, groups: int
) -> Tensor:
    """``_convolve`` for a padding that keeps the length, as a batch of pieces with their neighbours."""
    batch, channels, length = x.shape
    count = -(-length // _PIECE)
    if count == 1:
        return _convolve(x, weight, bias, padding, dilation, groups)
    size = -(-length // count)
    rows = x.new_empty(batch, count * size + 2 * padding, channels)
    rows[:, :padding], rows[:, padding + length :] = 0, 0
    rows[:, padding : padding + length] = x.transpose(1, 2)
    reach = (size + 2 * padding) * channels
    overlapping = rows.as_strided((batch, count, reach), (rows.stride(0), size * channels, 1))
    pieces = overlapping.contiguous().view(batch * count, -1, channels)
    made = _convolve(pieces.transpose(1, 2), weight, bias, 0, dilation, groups)
    joined = made.transpose(1, 2).reshape(batch, count * size, -1)
    return joined[:, :length].contiguous().transpose(1, 2)


def _phases(weight: Tensor, stride: int, padding: int) -> Tensor:
    """Weights (C, C', K) of a transposed convolution -> (stride * C', C, K') of the plain one it interleaves.

    Output ``stride * m + phase`` sees input ``m + tap`` by the weight ``phase + padding - stride * tap``.
    """
    inputs, outputs, kernel = weight.shape
    reach = max((stride - 1 + padding) // stride, (kernel - 1 - padding) // stride)
    taps = torch.arange(-reach, reach + 1, device=weight.device)
    index = torch.arange(stride, device=weight.device)[:, None] + padding - stride * taps  # (stride, K')
    inside = (index >= 0) & (index < kernel)
    picked = weight[..., index.clamp(0, kernel - 1)] * inside.to(weight.dtype)  # (C, C', stride, K')
    return picked.permute(2, 1, 0, 3).reshape(stride * outputs, inputs, -1)


def _in_fast_format(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """In the number format of the weights, or in float32 where the CPU would only imitate bfloat16."""
    dtype = weight.dtype
    if dtype == torch.bfloat16 and is_on_cpu(x) and not has_bf16_arithmetic():
        dtype = torch.float32
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
