"""Steps compiled by numba; imported only by modules that need numba."""

import pickle
from collections.abc import Callable
from typing import Any

import numba
from numba import njit, types

_OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "nogil": True, "error_model": "numpy"}
_CACHE_FAILURES = (OSError, RuntimeError, EOFError, ValueError, ImportError, pickle.PickleError)


# How the values of a number format come to a step: bfloat16 as its bits.
ELEMENTS = {"float32": types.float32, "bfloat16": types.uint16}


def can_compile() -> bool:
    """False where numba was told not to."""
    return not numba.config.DISABLE_JIT


def compiled_step(step: Callable[..., None], signature: Any) -> Any:
    """``step`` for one signature, from numba's cache where it has it; it runs without Python's lock.

    A folder that cannot be written, a full disk or a damaged cache cost one compilation per process.
    """
    try:
        return njit(signature, cache=True, **_OPTIONS)(step)
    except _CACHE_FAILURES:
        return njit(signature, **_OPTIONS)(step)


def compiled_part(part: Callable[..., None]) -> Any:
    """A decorator of what steps call."""
    return njit(**_OPTIONS)(part)


def compiled_inline(part: Callable[..., Any]) -> Any:
    """A decorator of what is small and used in inner loops."""
    return njit(inline="always")(part)
