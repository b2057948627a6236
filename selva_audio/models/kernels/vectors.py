"""Vectors of 16 numbers inside compiled steps, where numba's own loops would not be made into such."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

VOID, BYTE, LONG = ir.VoidType(), ir.IntType(8), ir.IntType(64)
FLOATS, WORDS = ir.VectorType(ir.FloatType(), 16), ir.VectorType(ir.IntType(32), 16)
HALVES = ir.VectorType(ir.IntType(16), 16)
_ROUNDER = 1.5 * 2**23  # adding and taking away leaves a whole number
# log 2 in two parts, of which the first has so few bits that its products with a whole number are exact.
_LOG2_HIGH, _LOG2_LOW = 0.693359375, -2.12194440e-4
_TAYLOR = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)


def start_of(context: Any, builder: Any, signature: Any, arguments: Any, index: int) -> Any:
    """Where the values of argument ``index``, an array, begin."""
    array = context.make_array(signature.args[index])(context, builder, value=arguments[index])
    return builder.bitcast(array.data, BYTE.as_pointer())


def address(context: Any, builder: Any, signature: Any, arguments: Any, index: int, scale: int = 1) -> Any:
    """Where argument ``index``, an array, and the next, an offset in ``scale`` bytes, point to."""
    start = start_of(context, builder, signature, arguments, index)
    return builder.gep(start, [builder.mul(arguments[index + 1], LONG(scale))])


def read(builder: Any, kind: Any, start: Any, place: int) -> Any:
    """A value of ``kind`` from ``place`` bytes past ``start``."""
    return builder.load(builder.bitcast(builder.gep(start, [LONG(place)]), kind.as_pointer()), align=2)


def write(builder: Any, value: Any, start: Any, place: int) -> None:
    """``value`` to ``place`` bytes past ``start``."""
    builder.store(value, builder.bitcast(builder.gep(start, [LONG(place)]), value.type.as_pointer()), align=2)


def size_of(array: Any) -> int:
    """Bytes of a value of an array: 4 of float32, 2 where it holds the bits of bfloat16."""
    return 4 if array.dtype == types.float32 else 2


def singles(builder: Any, start: Any, size: int) -> Any:
    """16 numbers of ``size`` bytes, float32 or the bits of bfloat16, as float32."""
    return widened(builder, read(builder, FLOATS if size == 4 else HALVES, start, 0), size)


def widened(builder: Any, values: Any, size: int) -> Any:
    """16 float32 of as many numbers of ``size`` bytes."""
    if size == 4:
        return values
    return builder.bitcast(builder.shl(builder.zext(values, WORDS), words(16)), FLOATS)


def narrowed(builder: Any, values: Any, size: int) -> Any:
    """16 float32 as numbers of ``size`` bytes, rounded."""
    return values if size == 4 else builder.trunc(rounded(builder, values), HALVES)


def floats(number: float) -> Any:
    """16 times the same float32."""
    return ir.Constant(FLOATS, [float(np.float32(number))] * 16)


def words(number: int) -> Any:
    """16 times the same 32 bits."""
    return ir.Constant(WORDS, [number] * 16)


def splat(builder: Any, value: Any) -> Any:
    """16 times a float32 that is known at run time."""
    one = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, ir.Constant(FLOATS, ir.Undefined), words(0))


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """The sum a b + c, in one step where the CPU has it."""
    may_fuse = ("contract",)
    return builder.fadd(builder.fmul(a, b, flags=may_fuse), c, flags=may_fuse)


def rounded(builder: Any, value: Any) -> Any:
    """16 float32 -> the bits of the nearest bfloat16, ties to even, in 32 bits each."""
    word = builder.bitcast(value, WORDS)
    lowest = builder.and_(builder.lshr(word, words(16)), words(1))
    nearest = builder.lshr(builder.add(builder.add(word, words(0x7FFF)), lowest), words(16))
    return builder.select(builder.fcmp_unordered("uno", value, value), words(0x7FC0), nearest)


def reduced(builder: Any, how: str, value: Any) -> Any:
    """The "fadd" or "fmax" of 16 float32, in no order of its own."""
    name, single = f"llvm.vector.reduce.{how}.v16f32", ir.FloatType()
    arguments = [single(0.0), value] if how == "fadd" else [value]
    function = builder.module.globals.get(name)
    if function is None:
        kind = ir.FunctionType(single, [each.type for each in arguments])
        function = ir.Function(builder.module, kind, name)
    return builder.call(function, arguments, fastmath=("reassoc",))


def exponential(builder: Any, x: Any) -> Any:
    """The exponential of 16 float32, none above 0, to 1e-7 of its size; 0 below -87; NaN stays NaN."""
    turns = builder.fmul(x, floats(1.4426950408889634))
    whole = builder.fsub(builder.fadd(turns, floats(_ROUNDER)), floats(_ROUNDER))
    rest = builder.fsub(x, builder.fmul(whole, floats(_LOG2_HIGH)))
    rest = builder.fsub(rest, builder.fmul(whole, floats(_LOG2_LOW)))
    # The Taylor series on [-log 2 / 2, log 2 / 2]: the first term left out is under 6e-9.
    value = floats(_TAYLOR[0])
    for coefficient in _TAYLOR[1:]:
        value = multiply_add(builder, value, rest, floats(coefficient))
    power = builder.bitcast(
        builder.shl(builder.add(builder.fptosi(whole, WORDS), words(127)), words(23)), FLOATS
    )
    is_nothing = builder.fcmp_ordered("<", x, floats(-87))
    return builder.select(is_nothing, floats(0), builder.fmul(value, power))
