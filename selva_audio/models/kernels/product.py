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

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from .compiled import compiled_part, compiled_step
from .vectors import (
    BYTE,
    FLOATS,
    HALVES,
    LONG,
    VOID,
    address,
    floats,
    multiply_add,
    read,
    rounded,
    start_of,
    words,
    write,
)

SIDE = 32  # rows and columns of a block of results, and values of K that one step of the unit takes
FORMATS = ("bfloat16", "float32")

_TILE = 1024  # bytes: 16 rows of 64
_ROW = 4 * SIDE  # bytes of a row in a block of results
# Tiles 0 to 3 hold a block of results, 4 and 5 upper and lower rows, 6 and 7 left and right columns.
_PAIRS = ((4, 6), (4, 7), (5, 6), (5, 7))
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
_QUARTERS = (0, 64, 16 * _ROW, 16 * _ROW + 64)


@functools.cache
def compiled(number_format: str) -> Any:
    """``_multiply`` for activations of one of ``FORMATS``."""
    halves, floats = types.Array(types.uint16, 1, "C"), types.Array(types.float32, 1, "C")
    values = halves if number_format == "bfloat16" else floats
    settings = types.Array(types.uint8, 1, "C")
    sizes = [types.int64] * 10
    return compiled_step(
        _multiply, types.void(values, halves, floats, values, halves, floats, floats, settings, *sizes)
    )


def can_compile() -> bool:
    """False where numba was told not to, or where it knows of no such unit."""
    return not numba.config.DISABLE_JIT and bool(binding.get_host_cpu_features().get("amx-bf16"))


def tile_settings() -> "np.ndarray[Any, Any]":
    """What the unit is told: eight tiles of 16 rows of 64 bytes."""
    settings = np.zeros(64, np.uint8)
    settings[0] = 1
    settings[16:32].view(np.uint16)[:] = 64
    settings[48:56] = 16
    return settings


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
    _save_settings(before)
    _load_settings(settings)
    steps = taps * channels // 32
    step_bytes = _bytes_of_step(x)
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
                            _clear_sums()
                        else:
                            _load_sums(sums, place)
                        for step in range(begin, end):
                            _step(
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
                            _store_sums(sums, place)
                            written = 0
                        else:
                            _store_sums(finished, turn * 4096)
                            written = min(32, rows - row_block * 32)
                            target = (start + row_block * 32) * n + column * 32
                            shift = column * 32
                            turn = 1 - turn
        for row in range(written):
            _finish(finished, (1 - turn) * 4096 + row * 128, bias, shift, out, target + row * n, with_gelu)
    _load_settings(before)


@compiled_part
def _lay_out_rows(x, blocks, start, rows, row_blocks, length, channels, taps):  # type: ignore[no-untyped-def]
    """Rows ``start`` on of every tap, as tiles of 16 rows and 32 values; rows past the last are zeros."""
    # Written in order: places 2 KB apart would fall on the same few lines of a cache.
    steps, step_bytes, per_tap = taps * channels // 32, _bytes_of_step(x), channels // 32
    for row_block in range(row_blocks):
        for step in range(steps):
            tap, piece = step // per_tap, step % per_tap
            place = (row_block * steps + step) * step_bytes
            for row in range(row_block * 32, row_block * 32 + 32):
                source = start + row + tap - taps // 2
                if row < rows and 0 <= source < length:
                    _lay_out(x, source * channels + piece * 32, blocks, place + (row % 32) * 64)
                else:
                    _lay_out_zeros(x, blocks, place + (row % 32) * 64)


@intrinsic
def _bytes_of_step(typing_context: Any, x: Any) -> Any:
    """One step's share of 32 rows or columns: two tiles, or two of large and two of small parts."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(LONG, _TILE * (4 if signature.args[0].dtype == types.float32 else 2))

    return types.int64(x), generate


@intrinsic
def _lay_out(typing_context: Any, x: Any, source: Any, blocks: Any, place: Any) -> Any:
    """32 values of ``x`` to bytes ``place`` on; the small parts of float32 go two tiles further."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        is_single = signature.args[0].dtype == types.float32
        values = address(context, builder, signature, arguments, 0, scale=4 if is_single else 2)
        target = address(context, builder, signature, arguments, 2)
        for half in (0, 1):
            if not is_single:
                write(builder, read(builder, HALVES, values, 32 * half), target, 32 * half)
                continue
            value = read(builder, FLOATS, values, 64 * half)
            large = rounded(builder, value)
            small = builder.fsub(value, builder.bitcast(builder.shl(large, words(16)), FLOATS))
            write(builder, builder.trunc(large, HALVES), target, 32 * half)
            write(builder, builder.trunc(rounded(builder, small), HALVES), target, 2 * _TILE + 32 * half)
        return context.get_dummy_value()

    return types.void(x, source, blocks, place), generate


@intrinsic
def _lay_out_zeros(typing_context: Any, x: Any, blocks: Any, place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = address(context, builder, signature, arguments, 1)
        parts = (0, 2 * _TILE) if signature.args[0].dtype == types.float32 else (0,)
        for place in parts:
            for half in (0, 32):
                write(builder, ir.Constant(HALVES, [0] * 16), target, place + half)
        return context.get_dummy_value()

    return types.void(x, blocks, place), generate


@intrinsic
def _step(typing_context: Any, x: Any, blocks: Any, row_place: Any, weights: Any, column_place: Any) -> Any:
    """Add the products of 32 rows and 32 columns over 32 values to the block of results."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = address(context, builder, signature, arguments, 1)
        columns = address(context, builder, signature, arguments, 3)

        def load(first_tile: int, source: Any, part: int) -> None:
            for tile in (0, 1):
                place = builder.gep(source, [LONG((2 * part + tile) * _TILE)])
                _unit(builder, "tileloadd64", BYTE(first_tile + tile), place, LONG(64))

        def multiply() -> None:
            for quarter, (row_tile, column_tile) in enumerate(_PAIRS):
                _unit(builder, "tdpbf16ps", BYTE(quarter), BYTE(row_tile), BYTE(column_tile))

        if signature.args[0].dtype != types.float32:
            load(4, rows, 0)
            load(6, columns, 0)
            multiply()
            return context.get_dummy_value()
        load(4, rows, 1)  # small x large, large x large, large x small: each next one loads two tiles anew
        load(6, columns, 0)
        multiply()
        load(4, rows, 0)
        multiply()
        load(6, columns, 1)
        multiply()
        return context.get_dummy_value()

    return types.void(x, blocks, row_place, weights, column_place), generate


@intrinsic
def _clear_sums(typing_context: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        for quarter in range(4):
            _unit(builder, "tilezero", BYTE(quarter))
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _load_sums(typing_context: Any, sums: Any, place: Any) -> Any:
    return types.void(sums, place), functools.partial(_move_sums, "tileloadd64")


@intrinsic
def _store_sums(typing_context: Any, sums: Any, place: Any) -> Any:
    return types.void(sums, place), functools.partial(_move_sums, "tilestored64")


def _move_sums(instruction: str, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    block = address(context, builder, signature, arguments, 0)
    for quarter, place in enumerate(_QUARTERS):
        _unit(builder, instruction, BYTE(quarter), builder.gep(block, [LONG(place)]), LONG(_ROW))
    return context.get_dummy_value()


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
        is_single = signature.args[4].dtype == types.float32
        block = address(context, builder, signature, arguments, 0)
        biases = address(context, builder, signature, arguments, 2, scale=4)
        row = address(context, builder, signature, arguments, 4, scale=4 if is_single else 2)
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
            value = result
            if is_single:
                write(builder, value, row, 64 * half)
            else:
                write(builder, builder.trunc(rounded(builder, value), HALVES), row, 32 * half)
        return context.get_dummy_value()

    return types.void(finished, place, bias, shift, out, target, with_gelu), generate


@intrinsic
def _load_settings(typing_context: Any, settings: Any) -> Any:
    return types.void(settings), functools.partial(_move_settings, "ldtilecfg")


@intrinsic
def _save_settings(typing_context: Any, settings: Any) -> Any:
    return types.void(settings), functools.partial(_move_settings, "sttilecfg")


def _move_settings(instruction: str, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    _unit(builder, instruction, start_of(context, builder, signature, arguments, 0))
    return context.get_dummy_value()


def _unit(builder: Any, instruction: str, *arguments: Any) -> None:
    name, kinds = f"llvm.x86.{instruction}", [each.type for each in arguments]
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(VOID, kinds), name)
    builder.call(function, arguments)


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
