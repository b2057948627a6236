"""Recordings as a GPU has them, without one; a replay is one operation to whoever counts them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

# What a capture cannot hold: the host would have to wait for a value.
_WAITS = {"_local_scalar_dense", "nonzero", "unique_dim", "_unique2", "masked_select", "is_nonzero", "equal"}
_EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}

_Steps = list[tuple[Any, Any, Any, list[Any]]]


class Tape:
    """The operations of a step, done again on the same memory.

    A replay runs no Python of the step, which may be made of operations of torch alone. It sees new values
    only where it would find them on a GPU: in the places that the step read from while it was recorded. All
    that was made on the way is kept, so a step has to be small.

    Attributes:
        operations: how many each recording has, in order.
        replays: how often one was replayed.
    """

    def __init__(self) -> None:
        self.operations: list[int] = []
        self.replays = 0

    def takes(self, x: Tensor) -> bool:
        """Always."""
        return True

    def record(self, run: Callable[[], Tensor], x: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """As the protocol says."""
        steps: _Steps = []
        with _Noted(steps):
            result = run()
        self.operations.append(len(steps))
        launch = torch.zeros(1)

        def replay() -> None:
            self.replays += 1
            launch.zero_()
            with _disable_current_modes():
                for step in steps:
                    _repeat(*step)

        return result, replay


class Again:
    """Runs a step again, Python and all, in place of a replay; counts steps that are too large for a tape."""

    def takes(self, x: Tensor) -> bool:
        """Always."""
        return True

    def record(self, run: Callable[[], Tensor], x: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """As the protocol says."""
        result, launch = run(), torch.zeros(1)

        def replay() -> None:
            launch.zero_()
            with _disable_current_modes():
                result.copy_(run())

        return result, replay


def _repeat(function: Any, args: Any, kwargs: Any, places: list[Any]) -> None:
    for place, made in zip(places, tree_leaves(function(*args, **kwargs)), strict=True):
        if isinstance(made, Tensor) and made.data_ptr() != place.data_ptr():
            place.copy_(made)


class _Noted(TorchDispatchMode):
    """Notes what has to be done again: not views, whose memory is that of what they show."""

    def __init__(self, steps: _Steps) -> None:
        super().__init__()
        self._steps = steps

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in _WAITS:
            raise RuntimeError(f"{func} waits for a value, which no recording can")
        made = func(*args, **kwargs)
        read, places = _memory((args, kwargs)), tree_leaves(made)
        writes = any(
            each.alias_info is not None and each.alias_info.is_write for each in func._schema.arguments
        )
        is_new = not _memory(places) <= read
        if writes or (is_new and func.overloadpacket.__name__ not in _EMPTY):
            self._steps.append((func, args, kwargs, places))
        return made


def _memory(values: Any) -> set[int]:
    return {each.untyped_storage().data_ptr() for each in tree_leaves(values) if isinstance(each, Tensor)}
