"""The vocoder's activation: a periodic nonlinearity run at twice the rate, between two low-pass filters.

Both resamplings are linear and shift-invariant, so a block of samples is one product with a small banded
matrix. That is the same sum as a depthwise (transposed) convolution with stride 2; on a CPU the demo
vocoder runs about 1.4 times as fast with it.

Letters: B batch, C channels, L samples.
"""

import functools
import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from .compiled_activation import can_compile, compiled_activation
from .fused_activation import can_fuse, fused_activation

NUM_TAPS = 12
# One output sample n sees doubled samples 2n - 5 to 2n + 6, and each of those sees 3 inputs back or ahead.
ACTIVATION_REACH = 5
_CUTOFF = 0.25
_HALF_WIDTH = 0.3
_EPSILON = 1e-9
_BLOCK = 32  # measured best of 8 to 64 on a CPU
_UP_PADDING = 3
_DOWN_PADDING = 5


class AntialiasedActivation(nn.Module):
    """Snake or SnakeBeta at twice the rate.

    Args:
        channels: C.
        kind: "snakebeta" has its own magnitude ``beta``; "snake" uses ``alpha`` for both.

    Source: BigVGAN (arXiv:2206.04658) section 3.2; SPEC 15.4.
    """

    def __init__(self, channels: int, kind: Literal["snake", "snakebeta"]) -> None:
        super().__init__()
        self.reach = ACTIVATION_REACH
        self.act = Snake(channels, kind)
        self.upsample = LowPass()
        self.downsample = Downsample()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, C, L), in the number format of the module."""
        up, down = self.upsample.filter, self.downsample.lowpass.filter
        if can_fuse(x, self):
            taps = _unrounded(up), _unrounded(down)
            return fused_activation(x, self.act.alpha, self.act.magnitude, *taps)
        if can_compile(x):
            return compiled_activation(x, self.act.alpha, self.act.magnitude, up, down)
        return downsample2(self.act(upsample2(x.to(up.dtype), up)), down)


class Snake(nn.Module):
    """x + sin(x e^alpha)^2 / e^beta per channel; parameters are logarithms."""

    def __init__(self, channels: int, kind: Literal["snake", "snakebeta"]) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels)) if kind == "snakebeta" else None

    @property
    def magnitude(self) -> Tensor:
        """(C) logarithms of what the squared sine is divided by."""
        return self.alpha if self.beta is None else self.beta

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, C, L)."""
        frequency, magnitude = (each.exp()[:, None] for each in (self.alpha, self.magnitude))
        sine = torch.sin(x * frequency)
        return torch.addcmul(x, sine * (1 / (magnitude + _EPSILON)), sine)


class LowPass(nn.Module):
    """Holds one filter under the name files give it."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", antialias_filter())


class Downsample(nn.Module):
    """Holds the second filter where files have it."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = LowPass()


def upsample2(x: Tensor, taps: Tensor) -> Tensor:
    """Twice the rate: (B, C, L) -> (B, C, 2 L), edges repeated.

    Equals: pad 5 each side with the edge value, transposed convolution by ``taps`` (1, 1, 12) with
    stride 2, times 2, cut 15 samples each side.
    """
    out = torch.arange(2 * _BLOCK, device=x.device)
    row = torch.arange(_BLOCK + 2 * _UP_PADDING, device=x.device)
    matrix = _pick(2 * taps, out[None, :] + (NUM_TAPS - 1) - 2 * row[:, None])
    return _banded_product(x, matrix, _UP_PADDING)[..., : 2 * x.shape[-1]]


def downsample2(x: Tensor, taps: Tensor) -> Tensor:
    """Half the rate: (B, C, 2 L) -> (B, C, L), edges repeated.

    Equals: pad 5 left and 6 right with the edge value, convolution by ``taps`` (1, 1, 12) with stride 2.
    """
    out = torch.arange(_BLOCK, device=x.device)
    row = torch.arange(2 * _BLOCK + 2 * _DOWN_PADDING, device=x.device)
    matrix = _pick(taps, row[:, None] - 2 * out[None, :])
    return _banded_product(x, matrix, _DOWN_PADDING)[..., : (x.shape[-1] + 1) // 2]


def _banded_product(x: Tensor, matrix: Tensor, padding: int) -> Tensor:
    """Blocks of ``x`` with ``padding`` neighbours each side, times ``matrix`` (size + 2 padding, out).

    Neighbours are multiplied apart from their block: windows of both would copy ``x`` once more. Returns
    (B, C, blocks * out), computed from the edge value beyond the ends.
    """
    batch, channels, length = x.shape
    size = matrix.shape[0] - 2 * padding
    spare = -length % size
    last = x[..., -1:]
    if spare:
        x = torch.cat([x, last.expand(-1, -1, spare)], dim=-1)
    blocks = x.reshape(batch, channels, -1, size)
    before = torch.cat([x[..., None, :1].expand(-1, -1, 1, padding), blocks[..., :-1, -padding:]], dim=2)
    after = torch.cat([blocks[..., 1:, :padding], last[..., None].expand(-1, -1, 1, padding)], dim=2)
    neighbours = torch.cat([before, after], dim=-1)
    inner, outer = matrix[padding:-padding], torch.cat([matrix[:padding], matrix[-padding:]])
    out = torch.addmm(blocks.flatten(0, 2) @ inner, neighbours.flatten(0, 2), outer)
    return out.reshape(batch, channels, -1)


@functools.cache
def _standard_filter() -> Tensor:
    with torch.device("cpu"):  # whatever the default is while a model is built
        return antialias_filter()


def _unrounded(taps: Tensor) -> Tensor:
    """The standard filter in float32 where ``taps`` are its rounded form, else ``taps`` themselves."""
    standard = _standard_filter()
    return standard if torch.equal(taps, standard.to(taps.dtype)) else taps


def antialias_filter() -> Tensor:
    """(1, 1, 12) Kaiser-windowed sinc of unit sum, for halving the band; float32.

    Source: SPEC 15.5; the attenuation formula is Kaiser's.
    """
    attenuation = 2.285 * (NUM_TAPS / 2 - 1) * math.pi * 4 * _HALF_WIDTH + 7.95
    beta = 0.1102 * (attenuation - 8.7)
    window = torch.kaiser_window(NUM_TAPS, periodic=False, beta=beta, dtype=torch.float64)
    times = torch.arange(NUM_TAPS, dtype=torch.float64) - (NUM_TAPS - 1) / 2
    taps = 2 * _CUTOFF * window * torch.sinc(2 * _CUTOFF * times)
    return (taps / taps.sum()).to(torch.float32).reshape(1, 1, NUM_TAPS)


def add_missing_filters(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy of a vocoder's state dict in which every activation has its two filters."""
    filters = {
        key.removesuffix("act.alpha") + name: antialias_filter()
        for key in state_dict
        if key.endswith("act.alpha")
        for name in ("upsample.filter", "downsample.lowpass.filter")
    }
    return filters | dict(state_dict)


def _pick(taps: Tensor, index: Tensor) -> Tensor:
    """``taps[index]``, and zero where the index is outside the filter."""
    inside = (index >= 0) & (index < NUM_TAPS)
    return taps.flatten()[index.clamp(0, NUM_TAPS - 1)] * inside
