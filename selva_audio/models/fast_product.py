"""Where linear layers and convolutions over tokens run on the matrix unit of a CPU, as one compiled step.

Weights are laid out for the unit when a layer is first used, and again when they have changed; what was laid
out goes when they go.

Letters: B batch, L tokens, C channels, N results.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from ..runtime import put_aside
from .fast_path import FORMATS, array, asks_for_gradients, in_threads, is_on_cpu, steps_of

_SWITCH = "SELVA_MATRIX_UNIT"
_SIDE = 32  # of the unit's blocks; rows and columns come in this many
# With fewer tokens or smaller weights, laying out and starting cost more than is gained.
_FEWEST_TOKENS = 64
_SMALLEST_WEIGHTS = {torch.float32: 2**16, torch.bfloat16: 2**18}
# What of both factors a core's second cache (2 MB) holds while it is used: rows, blocks of columns, and steps
# of 32 values. Sums of up to 48 steps are made in one go, longer ones in parts of 8.
_ROWS_AT_ONCE = 320
_SHORT, _IN_ONE_GO, _IN_PARTS = 48, (8, 48), (12, 8)
_ROWS_PER_THREAD = 256


class _Made(NamedTuple):
    """What was made of a parameter, and of which values of it."""

    array: "np.ndarray[Any, Any]"
    version: int
    address: int


class _Rooms(threading.local):
    """What each thread works in, kept so that no call begins with memory that the system has yet to clear."""

    def __init__(self) -> None:
        # From torch, whose memory starts at multiples of 64 bytes, as the unit likes it.
        self.blocks = torch.empty(0, dtype=torch.bfloat16)
        self.sums = torch.empty(_ROWS_AT_ONCE * max(_IN_ONE_GO[0], _IN_PARTS[0]) * _SIDE)
        self.finished = torch.empty(2 * _SIDE * _SIDE)

    def arrays(self, depth: int) -> tuple[Any, ...]:
        """Room for rows of ``depth`` bfloat16, for sums, and for two blocks of results."""
        if self.blocks.numel() < _ROWS_AT_ONCE * depth:
            self.blocks = torch.empty(_ROWS_AT_ONCE * depth, dtype=torch.bfloat16)
        return array(self.blocks), array(self.sums), array(self.finished)


_wants_exact = ContextVar("wants exact float32", default=False)
_made_of: Any = WeakIdKeyDictionary()
_lock = threading.Lock()
_rooms = _Rooms()


def can_multiply(x: Tensor, layer: nn.Linear | nn.Conv1d) -> bool:
    """Whether ``product`` may stand in for a layer on x (..., L, C).

    Not where gradients are asked for, as it has none, nor without numba or the unit; and in float32 not where
    anything is differentiated, so that gradients are as exact as the format. A convolution must keep the
    length, and be without stride, dilation and groups.
    """
    weight = layer.weight
    return (
        is_on_cpu(x, weight)
        and x.dtype == weight.dtype
        and x.dtype in FORMATS
        and x.numel() >= _FEWEST_TOKENS * x.shape[-1]
        and weight.numel() >= _SMALLEST_WEIGHTS[x.dtype]
        and weight.shape[0] % _SIDE == 0
        and weight.shape[1] % _SIDE == 0
        and not asks_for_gradients(x, layer)
        and not wants_exact_float32(x)
        and not torch.compiler.is_compiling()
        and compiler() is not None
    )


def wants_exact_float32(x: Tensor) -> bool:
    """Whether float32 is to be as exact as torch has it: where something is differentiated."""
    return x.dtype == torch.float32 and (torch.is_grad_enabled() or _wants_exact.get())


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Keep float32 exact inside the block, whose result is a part of what is differentiated."""
    before = _wants_exact.set(True)
    try:
        yield
    finally:
        _wants_exact.reset(before)


def product(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, with_gelu: bool = False, transposed: bool = False
) -> Tensor:
    """A linear layer, or a convolution over tokens with zeros on both sides.

    Args:
        x: (..., C), or (B, L, C) for a convolution; float32 or bfloat16.
        weight: (N, C), or (N, C, taps) with an odd number of taps; of the same format.
        bias: (N) or None.
        with_gelu: the exact GELU of every result.
        transposed: x (..., N) -> (..., C), as a layer's gradient goes from its output to its input.

    Returns:
        (..., N), in the same format.
    """
    compiled = compiler()
    assert compiled is not None
    n, channels = weight.shape[:2] if not transposed else weight.shape[1::-1]
    taps = weight.shape[2] if weight.ndim == 3 else 1
    items = x.detach().contiguous().view(-1, x.shape[-2] if taps > 1 else x.numel() // channels, channels)
    length = items.shape[1]
    out = torch.empty(len(items), length, n, dtype=x.dtype)
    step = compiled(FORMATS[x.dtype])
    weights = _kept(
        weight, "transposed" if transposed else "packed", functools.partial(_packed, transposed=transposed)
    )
    shifts = np.zeros(n, np.float32) if bias is None else _kept(bias, "shift", _shift)
    group, depth = _IN_ONE_GO if channels * taps <= _SHORT * _SIDE else _IN_PARTS
    sizes = (channels, taps, n, _ROWS_AT_ONCE, group, depth, int(with_gelu))
    parts = 2 if x.dtype == torch.float32 else 1

    def multiply(first: int, last: int, item: Any) -> None:
        values, made = item
        room = _rooms.arrays(channels * taps * parts)
        step(values, weights, shifts, made, *room, _settings(), length, first, last, *sizes)

    work = [(array(item), array(made)) for item, made in zip(items, out, strict=True)]
    in_threads(multiply, work, length, _ROWS_PER_THREAD, multiple=_SIDE)
    return out.view(*x.shape[:-1], n)


@functools.cache
def compiler() -> Callable[..., Any] | None:
    """What makes the step for a number format.

    None without numba, without the unit, where the system does not lend it, or where
    ``SELVA_MATRIX_UNIT=off``.
    """
    if os.environ.get(_SWITCH, "").lower() in ("off", "0", "false", "no"):
        return None
    lend = getattr(torch.cpu, "_init_amx", None)
    try:
        if lend is None or not torch.cpu._is_amx_tile_supported() or not lend():
            return None
        from .kernels.unit import is_known
    except (ImportError, AttributeError):
        return None
    return steps_of("product") if is_known() else None


@functools.cache
def _settings() -> "np.ndarray[Any, Any]":
    from .kernels import unit

    return unit.tile_settings()


def _kept(
    parameter: Tensor, kind: str, make: "Callable[[Tensor], np.ndarray[Any, Any]]"
) -> "np.ndarray[Any, Any]":
    """What ``make`` gives for a parameter, made again where its values have changed."""
    version = 0 if parameter.is_inference() else parameter._version
    with _lock:
        by_kind: dict[str, _Made] = _made_of.setdefault(parameter, {})
        known = by_kind.get(kind)
    if known is not None and (known.version, known.address) == (version, parameter.data_ptr()):
        return known.array
    made = make(parameter.detach())
    put_aside(parameter)
    by_kind[kind] = _Made(made, version, parameter.data_ptr())
    return made


def _shift(bias: Tensor) -> "np.ndarray[Any, Any]":
    # Copied, for what was made of a parameter must not change with it unnoticed, nor keep it in memory.
    return array(bias.float().clone())


def _packed(weight: Tensor, *, transposed: bool) -> "np.ndarray[Any, Any]":
    """(N, C) or (N, C, taps) -> blocks of 32 columns by 32 values of K: (N / 32, K / 32, parts, 1024)."""
    matrix = weight
    if transposed:
        matrix = matrix.transpose(0, 1)
        matrix = matrix.flip(2) if matrix.ndim == 3 else matrix
    if matrix.ndim == 3:
        matrix = matrix.transpose(1, 2).flatten(1)
    parts = [matrix]
    if matrix.dtype == torch.float32:
        large = matrix.bfloat16()
        parts = [large, (matrix - large.float()).bfloat16()]
    # The unit takes two neighbouring values of K side by side, for 16 columns in a row, 16 such rows a tile.
    tiled = [each.reshape(len(each) // 32, 2, 16, -1, 16, 2).permute(0, 3, 1, 4, 2, 5) for each in parts]
    return array(torch.stack(tiled, dim=2).flatten())
