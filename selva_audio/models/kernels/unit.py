"""The matrix unit of a CPU (AMX) inside compiled steps: its tiles, its products, and what it loads.

A block of results has 32 rows and 32 columns. One step adds to it the products over 32 values: of 32 rows,
which lie in memory as two tiles of 16, and of 32 columns, likewise, with two neighbouring values side by
side. Of float32 there are two such pairs of tiles, of large and of small parts.

Source: Intel 64 and IA-32 architectures manual, volume 1, chapter 18.
"""

import functools
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from .vectors import (
    BYTE,
    FLOATS,
    HALVES,
    LONG,
    VOID,
    address,
    narrowed,
    read,
    rounded,
    size_of,
    start_of,
    words,
    write,
)

SIDE = 32  # rows and columns of a block of results, and values of K that one step of the unit takes
TILE = 1024  # bytes: 16 rows of 64

_ROW = 4 * SIDE  # bytes of a row in a block of results
# Tiles 0 to 3 hold a block of results, 4 and 5 upper and lower rows, 6 and 7 left and right columns.
_PAIRS = ((4, 6), (4, 7), (5, 6), (5, 7))
_QUARTERS = (0, 64, 16 * _ROW, 16 * _ROW + 64)


def is_known() -> bool:
    """Whether the compiler knows of the unit in this CPU."""
    return bool(binding.get_host_cpu_features().get("amx-bf16"))


def tile_settings() -> "np.ndarray[Any, Any]":
    """What the unit is told: eight tiles of 16 rows of 64 bytes."""
    settings = np.zeros(64, np.uint8)
    settings[0] = 1
    settings[16:32].view(np.uint16)[:] = 64
    settings[48:56] = 16
    return settings


@intrinsic
def bytes_of_step(typing_context: Any, x: Any) -> Any:
    """One step's share of 32 rows or columns: two tiles, or two of large and two of small parts."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(LONG, TILE * size_of(signature.args[0]))

    return types.int64(x), generate


@intrinsic
def lay_out(typing_context: Any, x: Any, source: Any, blocks: Any, place: Any) -> Any:
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
            write(builder, narrowed(builder, small, 2), target, 2 * TILE + 32 * half)
        return context.get_dummy_value()

    return types.void(x, source, blocks, place), generate


@intrinsic
def lay_out_zeros(typing_context: Any, x: Any, blocks: Any, place: Any) -> Any:
    """32 zeros where ``lay_out`` would put values."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = address(context, builder, signature, arguments, 1)
        parts = (0, 2 * TILE) if signature.args[0].dtype == types.float32 else (0,)
        for place in parts:
            for half in (0, 32):
                write(builder, ir.Constant(HALVES, [0] * 16), target, place + half)
        return context.get_dummy_value()

    return types.void(x, blocks, place), generate


@intrinsic
def multiply_step(
    typing_context: Any, x: Any, blocks: Any, row_place: Any, weights: Any, column_place: Any
) -> Any:
    """Add the products of 32 rows and 32 columns over 32 values to the block of results."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = address(context, builder, signature, arguments, 1)
        columns = address(context, builder, signature, arguments, 3)

        def load(first_tile: int, source: Any, part: int) -> None:
            for tile in (0, 1):
                place = builder.gep(source, [LONG((2 * part + tile) * TILE)])
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
def clear_sums(typing_context: Any) -> Any:
    """Begin a block of results."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        for quarter in range(4):
            _unit(builder, "tilezero", BYTE(quarter))
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def load_sums(typing_context: Any, sums: Any, place: Any) -> Any:
    """Go on with a block of results from bytes ``place`` of ``sums`` on."""
    return types.void(sums, place), functools.partial(_move_sums, "tileloadd64")


@intrinsic
def store_sums(typing_context: Any, sums: Any, place: Any) -> Any:
    """Keep a block of results there."""
    return types.void(sums, place), functools.partial(_move_sums, "tilestored64")


def _move_sums(instruction: str, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    block = address(context, builder, signature, arguments, 0)
    for quarter, place in enumerate(_QUARTERS):
        _unit(builder, instruction, BYTE(quarter), builder.gep(block, [LONG(place)]), LONG(_ROW))
    return context.get_dummy_value()


@intrinsic
def load_settings(typing_context: Any, settings: Any) -> Any:
    """Set up the unit, or put it back; 64 bytes."""
    return types.void(settings), functools.partial(_move_settings, "ldtilecfg")


@intrinsic
def save_settings(typing_context: Any, settings: Any) -> Any:
    """How the unit is set up now."""
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
