"""The anti-aliased snake compiled for the CPU; imports numba, so only ``fused_activation`` imports it.

One pass over blocks that stay in the cache: the even and the odd samples of the doubled signal are made apart
from each other (six taps each, no zeros in between), bent, and filtered down again. Rows are times, so a tap
is a shift by C and every inner loop runs along memory whatever C is.

Letters: C channels, L samples.
"""

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compiled import ELEMENTS, compiled_inline, compiled_part, compiled_step

_VALUES = 32768  # of one block: its five scratch arrays fill about 700 KB of a core's cache

# sin(r) = r + r^3 S(r^2) on [-pi/2, pi/2], fitted for the least largest error (5e-9 before rounding).
_S3, _S5 = np.float32(-0.16666657094897763), np.float32(0.008333017260627467)
_S7, _S9 = np.float32(-0.0001980661335500262), np.float32(2.600051282391865e-6)
_PER_PI = np.float32(1 / np.pi)
# pi in two parts, of which the first has so few bits that its products with a whole number are exact.
_PI_HIGH, _PI_LOW = np.float32(3.140625), np.float32(np.pi - 3.140625)
_HALF_PI = np.float32(np.pi / 2)
_ROUNDER = np.float32(1.5 * 2**23)  # adding and taking away leaves a whole number


@functools.cache
def compiled(kind_in: str, kind_out: str) -> Any:
    """``_activate`` for the element types "float32" and "bfloat16", from numba's cache where it has one.

    A folder that cannot be written, a full disk or a damaged cache cost one compilation per process.
    """
    vector = types.Array(types.float32, 1, "C")
    arrays = [types.Array(ELEMENTS[kind], 1, "C") for kind in (kind_in, kind_out)]
    signature = types.void(*arrays, *[vector] * 4, *[types.int64] * 3)
    return compiled_step(_activate, signature)


def _activate(x, out, frequency, scale, up_taps, down_taps, length, first, last):  # type: ignore[no-untyped-def]
    """Write rows ``first`` to ``last`` of the activation of ``x``, both flat (L * C)."""
    c = np.uint64(frequency.shape[0])
    most = min(max(_VALUES // frequency.shape[0], 8), last - first)
    rows = np.uint64(most)
    near = np.empty((rows + np.uint64(11)) * c, np.float32)  # x[start - 6 .. stop + 5)
    even = np.empty((rows + np.uint64(6)) * c, np.float32)  # doubled samples 2 (start - 3) ...
    odd = np.empty((rows + np.uint64(6)) * c, np.float32)
    frequencies = np.empty((rows + np.uint64(6)) * c, np.float32)
    scales = np.empty((rows + np.uint64(6)) * c, np.float32)
    for row in range(rows + np.uint64(6)):
        _copy(frequency, np.uint64(0), frequencies, row * c, c)
        _copy(scale, np.uint64(0), scales, row * c, c)
    u = up_taps
    for start in range(first, last, most):
        stop = min(start + most, last)
        low, high = max(start - 6, 0), min(stop + 5, length)
        _widen(x, np.uint64(low) * c, near, np.uint64(low - start + 6) * c, np.uint64(high - low) * c)
        for row in range(low - start + 6):
            _copy(near, np.uint64(low - start + 6) * c, near, np.uint64(row) * c, c)
        for row in range(high - start + 6, stop - start + 11):
            _copy(near, np.uint64(high - start + 5) * c, near, np.uint64(row) * c, c)
        count = np.uint64(stop - start + 6) * c
        _double(near, np.uint64(0), even, frequencies, scales, c, count, u[11], u[9], u[7], u[5], u[3], u[1])
        _double(near, c, odd, frequencies, scales, c, count - c, u[10], u[8], u[6], u[4], u[2], u[0])
        for row in range(3 - start):
            _copy(even, np.uint64(3 - start) * c, even, np.uint64(row) * c, c)
            _copy(even, np.uint64(3 - start) * c, odd, np.uint64(row) * c, c)
        end = length - start + 3
        for row in range(end, stop - start + 6):
            _copy(odd, np.uint64(end - 1) * c, even, np.uint64(row) * c, c)
            _copy(odd, np.uint64(end - 1) * c, odd, np.uint64(row) * c, c)
        _halve(even, odd, down_taps, out, np.uint64(start) * c, c, np.uint64(stop - start) * c)


@compiled_part
def _double(near, offset, out, frequencies, scales, c, count, t0, t1, t2, t3, t4, t5):  # type: ignore[no-untyped-def]
    """One phase of the doubled signal, bent; the offset is 0 for even samples and C for odd ones."""
    c2, c3, c4, c5 = c + c, c + c + c, (c + c) + (c + c), (c + c) + (c + c) + c
    for i in range(count):
        j = offset + i
        value = (
            t0 * near[j]
            + t1 * near[j + c]
            + t2 * near[j + c2]
            + t3 * near[j + c3]
            + t4 * near[j + c4]
            + t5 * near[j + c5]
        )
        out[i] = _snake(value, frequencies[i], scales[i])


@compiled_part
def _halve(even, odd, taps, out, offset, c, count):  # type: ignore[no-untyped-def]
    t0, t1, t2, t3, t4, t5 = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5]
    t6, t7, t8, t9, t10, t11 = taps[6], taps[7], taps[8], taps[9], taps[10], taps[11]
    c2, c3, c4, c5 = c + c, c + c + c, (c + c) + (c + c), (c + c) + (c + c) + c
    c6 = c5 + c
    for i in range(count):
        value = t1 * even[i + c] + t3 * even[i + c2] + t5 * even[i + c3]
        value += t7 * even[i + c4] + t9 * even[i + c5] + t11 * even[i + c6]
        value += t0 * odd[i] + t2 * odd[i + c] + t4 * odd[i + c2]
        value += t6 * odd[i + c3] + t8 * odd[i + c4] + t10 * odd[i + c5]
        out[offset + i] = _narrow(value, out[offset + i])


@compiled_inline
def _snake(x, frequency, scale):  # type: ignore[no-untyped-def]
    """The x + scale sin(frequency x)^2 of x. The square has the period pi, so the sine needs no sign."""
    angle = x * frequency
    turns = (angle * _PER_PI + _ROUNDER) - _ROUNDER
    r = (angle - turns * _PI_HIGH) - turns * _PI_LOW
    r = _HALF_PI if r > _HALF_PI else r  # huge angles have no digits left: stay bounded
    r = -_HALF_PI if r < -_HALF_PI else r
    q = r * r
    sine = r + r * q * (_S3 + q * (_S5 + q * (_S7 + q * _S9)))
    return x + (sine * scale) * sine


@compiled_part
def _widen(x, x_offset, out, out_offset, count):  # type: ignore[no-untyped-def]
    for i in range(count):
        out[out_offset + i] = _single(x[x_offset + i])


@compiled_part
def _copy(x, x_offset, out, out_offset, count):  # type: ignore[no-untyped-def]
    for i in range(count):
        out[out_offset + i] = x[x_offset + i]


@intrinsic
def _single(typing_context: Any, value: Any) -> Any:
    """A float32 as it is, or the float32 that 16 bits of bfloat16 stand for."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if signature.args[0] == types.float32:
            return arguments[0]
        word = builder.zext(arguments[0], ir.IntType(32))
        return builder.bitcast(builder.shl(word, word.type(16)), ir.FloatType())

    return types.float32(value), generate


@intrinsic
def _narrow(typing_context: Any, value: Any, like: Any) -> Any:
    """A float32 as the type of ``like``; bits of bfloat16 are rounded to nearest, ties to even."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = arguments[0]
        if signature.args[1] == types.float32:
            return value
        word = builder.bitcast(value, ir.IntType(32))
        lowest = builder.and_(builder.lshr(word, word.type(16)), word.type(1))
        rounded = builder.lshr(builder.add(builder.add(word, word.type(0x7FFF)), lowest), word.type(16))
        is_nan = builder.fcmp_unordered("uno", value, value)
        return builder.trunc(builder.select(is_nan, word.type(0x7FC0), rounded), ir.IntType(16))

    return like(value, like), generate
