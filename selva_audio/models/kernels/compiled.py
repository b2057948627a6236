"""Steps compiled by numba; imported only by modules that need numba."""

import pickle
from collections.abc import Callable
from typing import Any

from numba import njit

_OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "nogil": True, "error_model": "numpy"}
_CACHE_FAILURES = (OSError, RuntimeError, EOFError, ValueError, ImportError, pickle.PickleError)


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
