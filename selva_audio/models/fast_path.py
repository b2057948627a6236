"""When the forms of a layer that are faster on a CPU may stand in for the plain ones, and how they are run.

A vocoder lays out its channels side by side where that pays, and every layer sees it by the strides.

Letters: B batch, C channels, L samples.
"""

import contextlib
import functools
import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Item = TypeVar("Item")

FORMATS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


_wants_plain_forms = ContextVar("wants plain forms", default=False)


@contextlib.contextmanager
def plain_forms() -> Iterator[None]:
    """Have every layer run as it does on a GPU inside the block, as far as this thread goes."""
    before = _wants_plain_forms.set(True)
    try:
        yield
    finally:
        _wants_plain_forms.reset(before)


def is_on_cpu(*tensors: Tensor) -> bool:
    """Whether all tensors are where forms for a CPU may be used on them."""
    return not _wants_plain_forms.get() and all(each.device.type == "cpu" for each in tensors)


@functools.cache
def steps_of(name: str) -> Callable[..., Any] | None:
    """What makes the steps of ``kernels.<name>`` for number formats.

    None where numba is absent, does not load or is off.
    """
    try:
        kernel = importlib.import_module(f".kernels.{name}", __package__)
        from .kernels.compiled import can_compile
    except ImportError:
        return None
    made: Callable[..., Any] = kernel.compiled
    return made if can_compile() else None


def has_channels_together(x: Tensor) -> bool:
    """Whether (B, C, L) lies in memory as (B, L, C)."""
    return x.shape[1] > 1 and x.transpose(1, 2).is_contiguous()


def asks_for_gradients(x: Tensor, module: nn.Module) -> bool:
    """Whether a backward pass through ``module`` may come."""
    return torch.is_grad_enabled() and (
        x.requires_grad or any(parameter.requires_grad for parameter in module.parameters())
    )


def array(values: Tensor) -> "np.ndarray[Any, Any]":
    """The memory of contiguous values, flat; bfloat16 as its bits, which numpy has no name for."""
    flat = values.reshape(-1)
    return (flat.view(torch.uint16) if flat.dtype == torch.bfloat16 else flat).numpy()


def in_threads(
    step: Callable[[int, int, Item], None],
    items: Sequence[Item],
    length: int,
    fewest: int,
    *,
    multiple: int = 1,
) -> None:
    """Run ``step(first, last, item)`` on parts of every item, in as many threads as torch uses.

    Args:
        step: works without Python's lock.
        items: each of ``length`` rows.
        length: rows of an item.
        fewest: rows that are worth a thread.
        multiple: of rows at which parts may begin.
    """
    threads = max(1, min(torch.get_num_threads(), length // fewest))
    size = -(-length // (threads * multiple)) * multiple
    parts = list(itertools.pairwise([*range(0, length, max(size, 1)), length]))
    work = [(first, last, item) for item in items for first, last in parts]
    if threads == 1:
        for each in work:
            step(*each)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda each: step(*each), work))
