"""Steps recorded once on a GPU and replayed from then on: one launch in place of a thousand.

A GPU is done with most kernels of these networks before Python has launched the next one. A recording (a CUDA
graph) runs the same kernels on the same places in memory without Python. The first call of a kind runs as it
is, the second is recorded and compared with its recording, and later ones are replayed.
"""

import enum
import functools
import itertools
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .runtime import can_record, record_graph

logger = logging.getLogger(__name__)

_SWITCH = "SELVA_CUDA_GRAPHS"
# Each holds the memory of its step: about as much as the step takes when it runs as it is.
_KEPT_PER_MODULE = 4
_TOLERANCES = {torch.float32: 1e-4}
_TOLERANCE_OF_OTHERS = 2e-2


class Recorder(Protocol):
    """What records a step."""

    def takes(self, x: Tensor) -> bool:
        """Whether steps on ``x`` are to be recorded."""
        ...

    def record(self, run: Callable[[], Tensor], x: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """The place of the result of ``run``, and what fills it anew from what ``run`` reads by then.

        ``x`` tells the device. Raises RuntimeError where ``run`` cannot be recorded.
        """
        ...


class CudaGraphs:
    """Records CUDA graphs; ``SELVA_CUDA_GRAPHS=off`` has every step run as it is."""

    def takes(self, x: Tensor) -> bool:
        """Whether ``x`` is on a GPU, and nobody else records at the moment."""
        return os.environ.get(_SWITCH, "") != "off" and can_record(x)

    def record(self, run: Callable[[], Tensor], x: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """One launch for all of ``run``, on the GPU of ``x``."""
        return record_graph(run, str(x.device))


_recorder: Recorder = CudaGraphs()


class Replayed:
    """``call(module, *tensors, *fixed, **settings)``, replayed where it has been recorded.

    It is for one clip: while the object is in use, the weights of ``module`` stay where they are, and nothing
    hooks into it. Nothing is recorded where gradients are asked for, nor of a module with hooks.

    Args:
        module: owner of the weights.
        call: gives one tensor, and depends on its arguments and the weights alone; the same object each time.
        fixed: tensors that are the same in every call, on the device of the weights.
        settings: values that are the same in every call; they tell recordings apart.
    """

    def __init__(
        self, module: nn.Module, call: Callable[..., Tensor], *fixed: Tensor, **settings: Hashable
    ) -> None:
        self._module = module
        self._call = call
        self._fixed = fixed
        self._settings = settings
        self._run = functools.partial(call, module, **settings)
        self._recordings: _Recordings | None = None

    def __call__(self, *tensors: Tensor) -> Tensor:
        """The tensor for these arguments, which are on the device of the weights."""
        if torch.is_grad_enabled() or not _recorder.takes(tensors[0]):
            return self._run(*tensors, *self._fixed)
        if self._recordings is None:
            self._recordings = _recordings_of(self._module)
        key = (self._call, *sorted(self._settings.items()))
        return self._recordings.run(key, self._run, tensors, self._fixed)


def forget(module: nn.Module) -> None:
    """Let go of the recordings of a module, and of the memory that they hold."""
    with _lock:
        _known.pop(module, None)


class _Recording:
    """A step, and the places that it reads from and writes to."""

    def __init__(
        self, run: Callable[..., Tensor], tensors: Sequence[Tensor], fixed: Sequence[Tensor]
    ) -> None:
        self._tensors, self._fixed = (
            [torch.empty_like(each, memory_format=torch.contiguous_format) for each in some]
            for some in (tensors, fixed)
        )
        self._holds: object = None
        self._fill(tensors, fixed)
        self._result, self._replay = _recorder.record(
            lambda: run(*self._tensors, *self._fixed), self._tensors[0]
        )

    def __call__(self, tensors: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
        self._fill(tensors, fixed)
        self._replay()
        return self._result.clone()  # the next call writes over it

    def _fill(self, tensors: Sequence[Tensor], fixed: Sequence[Tensor]) -> None:
        for place, given in zip(self._tensors, tensors, strict=True):
            place.copy_(given)
        if self._holds is not fixed:  # the tuple of one ``Replayed``, which nobody else has
            for place, given in zip(self._fixed, fixed, strict=True):
                place.copy_(given)
            self._holds = fixed


class _Mark(enum.Enum):
    """What is known of a kind of step that has no recording."""

    SEEN_ONCE = enum.auto()
    CANNOT_BE_RECORDED = enum.auto()


class _Recordings:
    """Those of one module, valid while its weights are at ``addresses``; the last few are kept."""

    def __init__(self, addresses: tuple[int, ...], *, is_hooked: bool) -> None:
        self.addresses = addresses
        self._is_hooked = is_hooked
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Recording | _Mark] = OrderedDict()

    def run(
        self,
        key: Hashable,
        run: Callable[..., Tensor],
        tensors: Sequence[Tensor],
        fixed: Sequence[Tensor],
    ) -> Tensor:
        """What ``run`` gives for the tensors."""
        if self._is_hooked:
            return run(*tensors, *fixed)
        kind = (key, *((each.shape, each.dtype, each.device) for each in (*tensors, *fixed)))
        with self._lock:
            known = self._kept.pop(kind, None)
            if isinstance(known, _Recording):
                self._kept[kind] = known  # the last one now
                return known(tensors, fixed)
            result = run(*tensors, *fixed)
            if known is None:
                known = _Mark.SEEN_ONCE
            elif known is _Mark.SEEN_ONCE:
                known = _recorded(run, tensors, fixed, result) or _Mark.CANNOT_BE_RECORDED
            self._kept[kind] = known
            while len(self._kept) > _KEPT_PER_MODULE:
                self._kept.popitem(last=False)
            return result


def _recorded(
    run: Callable[..., Tensor], tensors: Sequence[Tensor], fixed: Sequence[Tensor], expected: Tensor
) -> _Recording | None:
    """A recording that gives what was expected; None, with a warning, where that cannot be had."""
    try:
        # What is written to again may not be a tensor of inference mode.
        with torch.inference_mode(False), torch.no_grad():
            recording = _Recording(run, tensors, fixed)
            difference = (recording(tensors, fixed).float() - expected.float()).norm()
    except RuntimeError as error:
        logger.warning("A step could not be recorded, and runs as it is: %s", error)
        return None
    allowed = _TOLERANCES.get(expected.dtype, _TOLERANCE_OF_OTHERS) * expected.float().norm()
    if bool(difference <= allowed):
        return recording
    logger.warning(
        "A recorded step was %.1e off, with %.1e allowed, and runs as it is. Please report this, and set "
        "%s=off to hear of it no more.",
        *(difference, allowed, _SWITCH),
    )
    return None


_lock = threading.Lock()
_known: WeakKeyDictionary[nn.Module, _Recordings] = WeakKeyDictionary()


def _recordings_of(module: nn.Module) -> _Recordings:
    """Those made with the weights where they are now."""
    addresses = tuple(each.data_ptr() for each in itertools.chain(module.parameters(), module.buffers()))
    hooks = (hook for each in module.modules() for hook in (each._forward_hooks, each._forward_pre_hooks))
    is_hooked = any(hooks)
    with _lock:
        found = _known.get(module)
        if found is None or found.addresses != addresses or is_hooked:
            found = _Recordings(addresses, is_hooked=is_hooked)
            _known[module] = found
        return found
