"""Products of matrices on the matrix unit of a CPU (AMX).

At the sizes of transformers torch's library reaches a third of what this unit can do. Here both factors lie
in the blocks that it loads, the weights once and for all and the activations as they come, and results are
rounded and written while it works at the next block.

bfloat16 is multiplied as it is. A float32 is taken as the sum of two bfloat16, and of the four products of
two such sums the three large ones are made: 17 bits of each factor count where float32 has 24. The result is
3e-6 off, relative to its size, instead of 3e-7, in a third of the time that the CPU's float32 takes.

Letters: L rows of an item, C channels, K values that one result is a sum over, N results of a row.

Source: Intel 64 and IA-32 architectures manual, volume 1, chapter 18; arXiv:1904.06376 for the sums.
"""

import functools
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from .compiled import ELEMENTS, compiled_part, compiled_step
from .unit import (
    bytes_of_step,
    clear_sums,
    lay_out,
    lay_out_zeros,
    load_settings,
    load_sums,
    multiply_step,
    save_settings,
    store_sums,
)
from .vectors import FLOATS, LONG, address, floats, multiply_add, narrowed, read, size_of, write

# (Phi(v) - 1/2) / v of the normal distribution on [-5.5, 5.5], as a polynomial of u = 2 (v / 5.5)^2 - 1, the
# highest power first; a Chebyshev fit. The GELU it gives is at most 8e-7 off (torch's: 1.2e-6).
_BOUND = 5.5
_PHI = (
    -0.000285676331,
    0.000656236662,
    -0.000356754608,
    0.000639906502,
    -0.00265870243,
    0.00472356984,
    -0.00665067835,
    0.0101642124,
    -0.015062524,
    0.0203848071,
    -0.0260361508,
    0.0320672244,
    -0.0387937948,
    0.0477377959,
    -0.0641723126,
    0.12855193,
)


@functools.cache
def compiled(number_format: str) -> Any:
    """``_multiply`` for "float32" or "bfloat16"."""
    halves, floats = types.Array(types.uint16, 1, "C"), types.Array(types.float32, 1, "C")
    values = types.Array(ELEMENTS[number_format], 1, "C")
    settings = types.Array(types.uint8, 1, "C")
    sizes = [types.int64] * 10
    return compiled_step(
        _multiply, types.void(values, halves, floats, values, halves, floats, floats, settings, *sizes)
    )


def _multiply(  # type: ignore[no-untyped-def]
    x, weights, bias, out, blocks, sums, finished, settings, length, first, last, channels, taps, n, at_once,
    group, depth, with_gelu,
):  # fmt: skip
    """Write rows ``first`` to ``last`` of (L, N): bias, and the sum over taps of shifted ``x`` times weights.

    Args:
        x: (L, C) flat; tap t sees row ``l + t - taps // 2``, and zeros where there is none.
        weights: what ``fast_product`` packs of (N, K), where K runs over taps, and for each over channels.
        bias: (N).
        out: (L, N) flat, in the format of ``x``.
        blocks: room for ``at_once`` rows of K; aligned to 64 bytes, like the next two.
        sums: room for ``at_once`` rows of ``group`` blocks.
        finished: room for two blocks.
        settings: of the tiles.
        length: L.
        first: row to begin with.
        last: row to end before.
        channels: C, a multiple of 32.
        taps: 1 for a linear layer.
        n: N, a multiple of 32.
        at_once: rows laid out at once, a multiple of 32.
        group: blocks side by side whose weights stay in the cache meanwhile.
        depth: steps along K after which it is the next block's turn, so that what is loaded stays close.
        with_gelu: 1 to put every result through a GELU.
    """
    before = np.empty(64, np.uint8)
    save_settings(before)
    load_settings(settings)
    steps = taps * channels // 32
    step_bytes = bytes_of_step(x)
    for start in range(first, last, at_once):
        rows = min(at_once, last - start)
        row_blocks = (rows + 31) // 32
        _lay_out_rows(x, blocks, start, rows, row_blocks, length, channels, taps)
        # The block that was last finished is written while the unit works at the next one.
        written, target, shift, turn = 0, 0, 0, 0
        for left in range(0, n // 32, group):
            right = min(left + group, n // 32)
            for begin in range(0, steps, depth):
                end = min(begin + depth, steps)
                per_step = (31 + end - begin) // (end - begin)
                for row_block in range(row_blocks):
                    for column in range(left, right):
                        place = (row_block * group + column - left) * 4096
                        if begin == 0:
                            clear_sums()
                        else:
                            load_sums(sums, place)
                        for step in range(begin, end):
                            multiply_step(
                                x,
                                blocks,
                                (row_block * steps + step) * step_bytes,
                                weights,
                                (column * steps + step) * step_bytes,
                            )
                            for row in range(
                                (step - begin) * per_step, min((step - begin + 1) * per_step, written)
                            ):
                                _finish(
                                    finished,
                                    (1 - turn) * 4096 + row * 128,
                                    bias,
                                    shift,
                                    out,
                                    target + row * n,
                                    with_gelu,
                                )
                        if end < steps:
                            store_sums(sums, place)
                            written = 0
                        else:
                            store_sums(finished, turn * 4096)
                            written = min(32, rows - row_block * 32)
                            target = (start + row_block * 32) * n + column * 32
                            shift = column * 32
                            turn = 1 - turn
        for row in range(written):
            _finish(finished, (1 - turn) * 4096 + row * 128, bias, shift, out, target + row * n, with_gelu)
    load_settings(before)


@compiled_part
def _lay_out_rows(x, blocks, start, rows, row_blocks, length, channels, taps):  # type: ignore[no-untyped-def]
    """Rows ``start`` on of every tap, as tiles of 16 rows and 32 values; rows past the last are zeros."""
    # Written in order: places 2 KB apart would fall on the same few lines of a cache.
    steps, step_bytes, per_tap = taps * channels // 32, bytes_of_step(x), channels // 32
    for row_block in range(row_blocks):
        for step in range(steps):
            tap, piece = step // per_tap, step % per_tap
            place = (row_block * steps + step) * step_bytes
            for row in range(row_block * 32, row_block * 32 + 32):
                source = start + row + tap - taps // 2
                if row < rows and 0 <= source < length:
                    lay_out(x, source * channels + piece * 32, blocks, place + (row % 32) * 64)
                else:
                    lay_out_zeros(x, blocks, place + (row % 32) * 64)


@intrinsic
def _finish(
    typing_context: Any,
    finished: Any,
    place: Any,
    bias: Any,
    shift: Any,
    out: Any,
    target: Any,
    with_gelu: Any,
) -> Any:
    """32 sums of a row, with bias and GELU and in the format of ``out``, to where they belong."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = size_of(signature.args[4])
        block = address(context, builder, signature, arguments, 0)
        biases = address(context, builder, signature, arguments, 2, scale=4)
        row = address(context, builder, signature, arguments, 4, scale=size)
        for half in (0, 1):
            value = builder.fadd(
                read(builder, FLOATS, block, 64 * half), read(builder, FLOATS, biases, 64 * half)
            )
            before = builder.block
            with builder.if_then(builder.icmp_signed("!=", arguments[6], LONG(0))):
                bent = _gelu(builder, value)
                inside = builder.block
            result = builder.phi(FLOATS)
            result.add_incoming(value, before)
            result.add_incoming(bent, inside)
            write(builder, narrowed(builder, result, size), row, 16 * size * half)
        return context.get_dummy_value()

    return types.void(finished, place, bias, shift, out, target, with_gelu), generate


def _gelu(builder: Any, value: Any) -> Any:
    """The exact GELU (with the normal distribution, not tanh) of 16 float32."""
    low, high = floats(-_BOUND), floats(_BOUND)
    near = builder.select(builder.fcmp_ordered("<", value, low), low, value)
    near = builder.select(builder.fcmp_ordered(">", near, high), high, near)
    u = multiply_add(builder, builder.fmul(near, near), floats(2 / _BOUND**2), floats(-1))
    slope = floats(_PHI[0])
    for coefficient in _PHI[1:]:
        slope = multiply_add(builder, slope, u, floats(coefficient))
    return builder.fmul(value, multiply_add(builder, near, slope, floats(0.5)))
