"""Queries, keys and values out of a projection in which they are interleaved, in one step, and back.

Queries and keys are normalised and rotated on the way, in float32.

Letters: N tokens of an item, R tokens of all items, H heads, E channels of one head.
"""

import functools
from collections.abc import Callable
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
    floats,
    multiply_add,
    narrowed,
    read,
    reduced,
    singles,
    size_of,
    splat,
    start_of,
    widened,
    write,
)

_LANES = 16
_STRANDS = 3  # queries, keys, values
_EPSILON = float(np.finfo(np.float32).eps)  # of the norms, whatever the format of their weights
_SWAPPED = [lane ^ 1 for lane in range(_LANES)]
_SIGNS = [-1.0, 1.0] * (_LANES // 2)


@functools.cache
def compiled(number_format: str) -> tuple[Any, Any]:
    """``_split`` and ``_join`` for "float32" or "bfloat16"."""
    values, floats = types.Array(ELEMENTS[number_format], 1, "C"), types.Array(types.float32, 1, "C")
    sizes = [types.int64] * 6
    split = types.void(values, values, *[floats] * 4, *sizes)
    join = types.void(values, values, values, *[floats] * 4, *sizes)
    return compiled_step(_split, split), compiled_step(_join, join)


def _split(  # type: ignore[no-untyped-def]
    x, out, query_weight, key_weight, cosines, sines, total, tokens, heads, width, first, last
):
    """Write tokens ``first`` to ``last`` of each strand.

    Args:
        x: (R, H, E, 3) flat.
        out: (3, R, H, E) flat.
        query_weight: (E) of the norm.
        key_weight: likewise.
        cosines: (N, E / 2) of the rotation of each pair of channels.
        sines: likewise.
        total: R.
        tokens: N.
        heads: H.
        width: E, a multiple of 16.
        first: token to begin with, of all items.
        last: token to end before.
    """
    for token in range(first, last):
        place = (token % tokens) * (width // 2)
        for head in range(heads):
            row = (token * heads + head) * width
            _split_head(
                x, row * 3, out, row, total * heads * width, query_weight, key_weight, cosines, place, sines,
                place, width,
            )  # fmt: skip


def _join(  # type: ignore[no-untyped-def]
    x, grad, out, query_weight, key_weight, cosines, sines, total, tokens, heads, width, first, last
):
    """Write the gradient of tokens ``first`` to ``last`` of x; ``grad`` is that of what ``_split`` gave."""
    for token in range(first, last):
        place = (token % tokens) * (width // 2)
        for head in range(heads):
            row = (token * heads + head) * width
            _join_head(
                x, row * 3, grad, row, total * heads * width, out, query_weight, key_weight, cosines, place,
                sines, place, width,
            )  # fmt: skip


@intrinsic
def _split_head(
    typing_context: Any, x: Any, source: Any, out: Any, target: Any, stride: Any, query_weight: Any,
    key_weight: Any, cosines: Any, place: Any, sines: Any, also_place: Any, width: Any,
) -> Any:  # fmt: skip
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = size_of(signature.args[0])
        start = address(context, builder, signature, arguments, 0, scale=size)
        goal = address(context, builder, signature, arguments, 2, scale=size)
        weights = [start_of(context, builder, signature, arguments, index) for index in (5, 6)]
        turn = [address(context, builder, signature, arguments, index, scale=4) for index in (7, 9)]
        stride, width = arguments[4], arguments[11]
        factors = _factors(builder, start, size, width)

        def chunk(index: Any) -> None:
            strands = _strands(builder, start, index, size)
            for strand, (values, weight, factor) in enumerate(
                zip(strands[:2], weights, factors, strict=True)
            ):
                normed = builder.fmul(builder.fmul(values, factor), _chunk_of(builder, weight, index))
                _store(builder, _turned(builder, normed, turn, index, 1), goal, stride, strand, index, size)
            _store(builder, strands[2], goal, stride, 2, index, size)

        _each_chunk(builder, width, chunk)
        return context.get_dummy_value()

    arguments = (
        x, source, out, target, stride, query_weight, key_weight, cosines, place, sines, also_place, width,
    )  # fmt: skip
    return types.void(*arguments), generate


@intrinsic
def _join_head(
    typing_context: Any, x: Any, source: Any, grad: Any, grad_source: Any, stride: Any, out: Any,
    query_weight: Any, key_weight: Any, cosines: Any, place: Any, sines: Any, also_place: Any, width: Any,
) -> Any:  # fmt: skip
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = size_of(signature.args[0])
        start = address(context, builder, signature, arguments, 0, scale=size)
        given = address(context, builder, signature, arguments, 2, scale=size)
        goal = builder.gep(
            start_of(context, builder, signature, arguments, 5), [builder.mul(arguments[1], LONG(size))]
        )
        weights = [start_of(context, builder, signature, arguments, index) for index in (6, 7)]
        turn = [address(context, builder, signature, arguments, index, scale=4) for index in (8, 10)]
        stride, width = arguments[4], arguments[12]
        factors = _factors(builder, start, size, width)

        def before_norm(strand: int, index: Any) -> Any:
            turned = _load(builder, given, stride, strand, index, size)
            back = _turned(builder, turned, turn, index, -1)
            return builder.fmul(back, _chunk_of(builder, weights[strand], index))

        # Of y = f x with f = (mean x^2 + eps)^-1/2: dx = f (dy - y mean(y dy)).
        sums = [_zeroed(builder) for _ in factors]

        def add(index: Any) -> None:
            strands = _strands(builder, start, index, size)
            for strand, (total, factor) in enumerate(zip(sums, factors, strict=True)):
                normed = builder.fmul(strands[strand], factor)
                value = multiply_add(builder, normed, before_norm(strand, index), builder.load(total))
                builder.store(value, total)

        _each_chunk(builder, width, add)
        count = builder.uitofp(width, ir.FloatType())
        means = [
            splat(builder, builder.fdiv(reduced(builder, "fadd", builder.load(total)), count))
            for total in sums
        ]

        def chunk(index: Any) -> None:
            strands = _strands(builder, start, index, size)
            results = []
            for strand, (mean, factor) in enumerate(zip(means, factors, strict=True)):
                normed = builder.fmul(strands[strand], factor)
                change = builder.fsub(before_norm(strand, index), builder.fmul(normed, mean))
                results.append(builder.fmul(change, factor))
            results.append(_load(builder, given, stride, 2, index, size))
            _store_strands(builder, results, goal, index, size)

        _each_chunk(builder, width, chunk)
        return context.get_dummy_value()

    arguments = (
        x, source, grad, grad_source, stride, out, query_weight, key_weight, cosines, place, sines,
        also_place, width,
    )  # fmt: skip
    return types.void(*arguments), generate


def _each_chunk(builder: Any, width: Any, body: Callable[[Any], None]) -> None:
    with cgutils.for_range(builder, builder.udiv(width, LONG(_LANES))) as loop:
        body(loop.index)


def _zeroed(builder: Any) -> Any:
    total = cgutils.alloca_once(builder, FLOATS)
    builder.store(floats(0), total)
    return total


def _factors(builder: Any, start: Any, size: int, width: Any) -> list[Any]:
    """What queries and keys are multiplied with to have a mean square of 1."""
    squares = [_zeroed(builder) for _ in range(2)]

    def add(index: Any) -> None:
        for values, total in zip(_strands(builder, start, index, size), squares, strict=False):
            builder.store(multiply_add(builder, values, values, builder.load(total)), total)

    _each_chunk(builder, width, add)
    single = ir.FloatType()
    count = builder.uitofp(width, single)
    root = builder.module.declare_intrinsic("llvm.sqrt", (single,))
    factors = []
    for total in squares:
        mean = builder.fdiv(reduced(builder, "fadd", builder.load(total)), count)
        length = builder.call(root, [builder.fadd(mean, single(_EPSILON))])
        factors.append(splat(builder, builder.fdiv(single(1.0), length)))
    return factors


def _strands(builder: Any, start: Any, index: Any, size: int) -> list[Any]:
    """16 channels of queries, keys and values as float32, from where they are interleaved."""
    count = _STRANDS * _LANES
    kind = ir.VectorType(ir.FloatType() if size == 4 else ir.IntType(16), count)
    both = read(builder, kind, builder.gep(start, [builder.mul(index, LONG(count * size))]), 0)
    return [
        widened(builder, _picked(builder, both, both, list(range(strand, count, _STRANDS))), size)
        for strand in range(_STRANDS)
    ]


def _store_strands(builder: Any, strands: list[Any], goal: Any, index: Any, size: int) -> None:
    """The opposite of ``_strands``."""
    query, key, value = (narrowed(builder, each, size) for each in strands)
    pair = _picked(builder, query, key, list(range(2 * _LANES)))
    # A vector of the same length as the pair, of which only the first half is used.
    rest = _picked(builder, value, value, [lane % _LANES for lane in range(2 * _LANES)])
    order = [lane + strand * _LANES for lane in range(_LANES) for strand in range(_STRANDS)]
    mixed = _picked(builder, pair, rest, order)
    write(builder, mixed, builder.gep(goal, [builder.mul(index, LONG(_STRANDS * _LANES * size))]), 0)


def _load(builder: Any, start: Any, stride: Any, strand: int, index: Any, size: int) -> Any:
    place = builder.add(builder.mul(stride, LONG(strand)), builder.mul(index, LONG(_LANES)))
    return singles(builder, builder.gep(start, [builder.mul(place, LONG(size))]), size)


def _store(builder: Any, values: Any, start: Any, stride: Any, strand: int, index: Any, size: int) -> None:
    place = builder.add(builder.mul(stride, LONG(strand)), builder.mul(index, LONG(_LANES)))
    write(builder, narrowed(builder, values, size), builder.gep(start, [builder.mul(place, LONG(size))]), 0)


def _turned(builder: Any, values: Any, turn: list[Any], index: Any, direction: int) -> Any:
    """Pairs of channels rotated by their angles, or back."""
    cosine, sine = (_doubled(builder, each, index) for each in turn)
    swapped = _picked(builder, values, values, _SWAPPED)
    signs = ir.Constant(FLOATS, [direction * sign for sign in _SIGNS])
    return multiply_add(builder, values, cosine, builder.fmul(builder.fmul(swapped, sine), signs))


def _doubled(builder: Any, start: Any, index: Any) -> Any:
    """8 numbers, each twice."""
    half = read(
        builder,
        ir.VectorType(ir.FloatType(), _LANES // 2),
        builder.gep(start, [builder.mul(index, LONG(2 * _LANES))]),
        0,
    )
    return _picked(builder, half, half, [lane // 2 for lane in range(_LANES)])


def _chunk_of(builder: Any, start: Any, index: Any) -> Any:
    return read(builder, FLOATS, builder.gep(start, [builder.mul(index, LONG(4 * _LANES))]), 0)


def _picked(builder: Any, first: Any, second: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(
        first, second, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    )
