"""Attention within many small groups of tokens.

A library's attention is made for long sequences; over eight times of one place it spends its time on setting
up. Here a group's queries, keys and values are read where the projection left them, and its results are
written where the next projection reads them.

Letters: T times, P places, H heads, E channels of one head.
"""

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiled import ELEMENTS, compiled_step
from .vectors import (
    FLOATS,
    LONG,
    address,
    exponential,
    floats,
    multiply_add,
    narrowed,
    read,
    reduced,
    singles,
    size_of,
    splat,
    start_of,
    write,
)

_LANES = 16  # keys of which all scores are made at once


@functools.cache
def compiled(number_format: str) -> Any:
    """``_attend_over_time`` for "float32" or "bfloat16"."""
    values = types.Array(ELEMENTS[number_format], 1, "C")
    return compiled_step(_attend_over_time, types.void(values, values, *[types.int64] * 6))


def _attend_over_time(qkv, out, times, places, heads, width, first, last):  # type: ignore[no-untyped-def]
    """Write the tokens of places ``first`` to ``last``: each sees the first token and those of its place.

    Args:
        qkv: (1 + T P, 3, H, E) flat; the shared token first, then all places of each time.
        out: (1 + T P, H, E) flat; its first token is left as it is.
        times: T, at most 15.
        places: P.
        heads: H.
        width: E, a multiple of 16.
        first: place to begin with.
        last: place to end before.
    """
    row = 3 * heads * width
    queries = np.empty(times * width, np.float32)
    values = np.empty((times + 1) * width, np.float32)
    keys = np.zeros(width * _LANES, np.float32)  # channel by channel, so that all keys are met at once
    shares = np.empty(_LANES, np.float32)
    hidden = np.full(_LANES, -np.inf, np.float32)  # added to scores: no share for lanes that hold no key
    hidden[: times + 1] = 0
    scale = np.float32(1 / np.sqrt(width))
    for place in range(first, last):
        for head in range(heads):
            for time in range(times + 1):
                token = 0 if time == 0 else 1 + (time - 1) * places + place
                start = token * row + head * width
                if time > 0:
                    _read(qkv, start, queries, (time - 1) * width, width)
                _read_across(qkv, start + heads * width, keys, time, width)
                _read(qkv, start + 2 * heads * width, values, time * width, width)
            for time in range(times):
                target = ((1 + time * places + place) * heads + head) * width
                _attend(
                    queries, time * width, keys, values, shares, hidden, out, target, width, times + 1, scale
                )


@intrinsic
def _read(typing_context: Any, source: Any, start: Any, target: Any, place: Any, count: Any) -> Any:
    """``count`` values, a multiple of 16, as float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = size_of(signature.args[0])
        values = address(context, builder, signature, arguments, 0, scale=size)
        goal = address(context, builder, signature, arguments, 2, scale=4)
        with cgutils.for_range(builder, builder.udiv(arguments[4], LONG(16))) as loop:
            found = builder.gep(values, [builder.mul(loop.index, LONG(16 * size))])
            write(
                builder,
                singles(builder, found, size),
                builder.gep(goal, [builder.mul(loop.index, LONG(64))]),
                0,
            )
        return context.get_dummy_value()

    return types.void(source, start, target, place, count), generate


@intrinsic
def _read_across(typing_context: Any, source: Any, start: Any, target: Any, lane: Any, count: Any) -> Any:
    """``count`` values as float32, to the same lane of as many vectors."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = size_of(signature.args[0])
        values = address(context, builder, signature, arguments, 0, scale=size)
        goal = address(context, builder, signature, arguments, 2, scale=4)
        with cgutils.for_range(builder, builder.udiv(arguments[4], LONG(16))) as loop:
            found = singles(builder, builder.gep(values, [builder.mul(loop.index, LONG(16 * size))]), size)
            near = builder.gep(goal, [builder.mul(loop.index, LONG(16 * 64))])
            for channel in range(16):
                write(builder, builder.extract_element(found, ir.IntType(32)(channel)), near, 64 * channel)
        return context.get_dummy_value()

    return types.void(source, start, target, lane, count), generate


@intrinsic
def _attend(
    typing_context: Any, queries: Any, first: Any, keys: Any, values: Any, shares: Any, hidden: Any, out: Any,
    target: Any, width: Any, count: Any, scale: Any,
) -> Any:  # fmt: skip
    """What one query sees: its scores of all keys at once, their softmax, and the values in these shares."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        query = address(context, builder, signature, arguments, 0, scale=4)
        key, value, share, mask = (start_of(context, builder, signature, arguments, i) for i in (2, 3, 4, 5))
        size = size_of(signature.args[6])
        goal = address(context, builder, signature, arguments, 6, scale=size)
        width, count, scale = arguments[8:]
        scores = _scores(builder, query, key, width)
        scores = multiply_add(builder, scores, splat(builder, scale), read(builder, FLOATS, mask, 0))
        powers = exponential(builder, builder.fsub(scores, splat(builder, reduced(builder, "fmax", scores))))
        total = splat(builder, reduced(builder, "fadd", powers))
        write(builder, builder.fdiv(powers, total), share, 0)
        with cgutils.for_range(builder, builder.udiv(width, LONG(_LANES))) as loop:
            place = builder.mul(loop.index, LONG(_LANES))
            seen = _weighted_sum(builder, share, value, count, width, place)
            result = narrowed(builder, seen, size)
            write(builder, result, builder.gep(goal, [builder.mul(place, LONG(size))]), 0)
        return context.get_dummy_value()

    return types.void(
        queries, first, keys, values, shares, hidden, out, target, width, count, scale
    ), generate


def _scores(builder: Any, query: Any, keys: Any, width: Any) -> Any:
    """Products of a query with all keys, in four sums, so that none waits for the one before."""
    sums = [cgutils.alloca_once_value(builder, floats(0)) for _ in range(4)]
    for total in sums:
        builder.store(floats(0), total)
    with cgutils.for_range(builder, builder.udiv(width, LONG(4))) as loop:
        for part, total in enumerate(sums):
            channel = builder.add(builder.mul(loop.index, LONG(4)), LONG(part))
            each = _single_at(builder, query, channel)
            lanes = read(builder, FLOATS, builder.gep(keys, [builder.mul(channel, LONG(4 * _LANES))]), 0)
            builder.store(multiply_add(builder, splat(builder, each), lanes, builder.load(total)), total)
    first, second, third, fourth = (builder.load(total) for total in sums)
    return builder.fadd(builder.fadd(first, second), builder.fadd(third, fourth))


def _weighted_sum(builder: Any, shares: Any, values: Any, count: Any, width: Any, place: Any) -> Any:
    """16 channels of the sum of ``count`` values, each in its share."""
    total = cgutils.alloca_once_value(builder, floats(0))
    builder.store(floats(0), total)
    with cgutils.for_range(builder, count) as loop:
        share = splat(builder, _single_at(builder, shares, loop.index))
        start = builder.mul(builder.add(builder.mul(loop.index, width), place), LONG(4))
        lanes = read(builder, FLOATS, builder.gep(values, [start]), 0)
        builder.store(multiply_add(builder, share, lanes, builder.load(total)), total)
    return builder.load(total)


def _single_at(builder: Any, start: Any, index: Any) -> Any:
    return read(builder, ir.FloatType(), builder.gep(start, [builder.mul(index, LONG(4))]), 0)
