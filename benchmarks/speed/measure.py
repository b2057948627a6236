"""Time, memory, operations and errors of two ways to do the same thing, in turn in one process."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from selva_audio.models import fast_attention, fast_heads, fast_product, fused_activation
from selva_audio.models.fast_path import in_threads
from selva_audio.runtime import forget_peak_memory, peak_memory_gb

Run = Callable[[int], Any]


@dataclass(slots=True)
class Tally:
    """What one side took.

    Attributes:
        seconds: CPU seconds of the process, or GPU seconds between events, one for each run.
        peak_gb: most memory above that before the run: resident, or of the GPU.
        dispatched: operations that reached the backend in one run, views among them.
        launched: those that are no views, which is about the kernels of a GPU.
        result: of the last run.
    """

    seconds: list[float] = field(default_factory=list)
    peak_gb: float = 0.0
    dispatched: int | None = None
    launched: int | None = None
    result: Any = None

    @property
    def median(self) -> float:
        """Of the seconds."""
        return statistics.median(self.seconds)

    def numbers(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "seconds": round(self.median, 3),
            "runs": [round(each, 3) for each in self.seconds],
            "peak_gb": round(self.peak_gb, 3),
            "dispatched": self.dispatched,
            "launched": self.launched,
        }


def in_turn(
    upstream: Run | None, ours: Run, *, repeats: int, count: bool, device: str = "cpu"
) -> tuple[Tally | None, Tally]:
    """Run both ``repeats`` times, A B A B; each gets the number of the repeat, from 1 on.

    ``count`` has each run once before that, to count its operations and to warm up; that run gets 0.
    """
    sides = [(run, Tally()) for run in (upstream, ours) if run is not None]
    for run, tally in sides if count else ():
        with Operations() as operations:
            run(0)
        tally.dispatched, tally.launched = operations.dispatched, operations.launched
    for repeat in range(1, repeats + 1):
        for run, tally in sides:
            tally.result = None
            with peak(device) as reached:
                tally.result, seconds = timed(lambda run=run, repeat=repeat: run(repeat), device)
            tally.seconds.append(seconds)
            tally.peak_gb = max(tally.peak_gb, reached[0])
    return (sides[0][1] if upstream is not None else None), sides[-1][1]


def ratio(upstream: Tally, ours: Tally) -> dict[str, float]:
    """How many times as long upstream takes: median of the pairs, and their range."""
    pairs = [a / b for a, b in zip(upstream.seconds, ours.seconds, strict=True)]
    return {
        "ratio": round(statistics.median(pairs), 3),
        "low": round(min(pairs), 3),
        "high": round(max(pairs), 3),
    }


def top_operations(run: Run, device: str, count: int = 12) -> list[dict[str, Any]]:
    """Where the time of a run goes: names, shares of the whole, calls; most first."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * device.startswith("cuda")
    with profile(activities=activities) as recorded:
        run(0)
    key = "self_device_time_total" if device.startswith("cuda") else "self_cpu_time_total"
    rows = sorted(recorded.key_averages(), key=lambda row: -getattr(row, key))
    total = sum(getattr(row, key) for row in rows) or 1
    return [
        {"name": row.key, "share": round(getattr(row, key) / total, 3), "calls": row.count}
        for row in rows[:count]
    ]


def timed(run: Callable[[], Any], device: str) -> tuple[Any, float]:
    """Result and seconds: of the CPU by all threads, on a GPU between events."""
    if device.startswith("cuda"):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        result = run()
        end.record()
        torch.cuda.synchronize()
        return result, start.elapsed_time(end) / 1000
    started = time.process_time()
    result = run()
    return result, time.process_time() - started


@contextlib.contextmanager
def peak(device: str) -> Iterator[list[float]]:
    """Most memory inside the block, in GiB above that at its start; 0 where the system does not tell."""
    reached = [0.0]
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated(device) / 2**30
        forget_peak_memory(device)
        yield reached
        reached[0] = (peak_memory_gb(device) or before) - before
        return
    before = _resident("VmRSS")
    # Sets the recorded peak back to the present size (Linux).
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    yield reached
    reached[0] = max(_resident("VmHWM") - before, 0.0)


def error(got: Tensor, expected: Tensor) -> dict[str, float]:
    """Relative difference: of the largest values, and of root mean squares."""
    got, expected = (each.detach().double().cpu().flatten() for each in (got, expected))
    length = min(len(got), len(expected))
    difference, expected = got[:length] - expected[:length], expected[:length]
    return {
        "max": float(difference.abs().max() / expected.abs().max()),
        "rms": float(difference.norm() / expected.norm()),
    }


def resident_gb() -> float:
    """Peak resident memory of this process since its start (Linux)."""
    return _resident("VmHWM")


def resident_now_gb() -> float:
    """Resident memory of this process now (Linux)."""
    return _resident("VmRSS")


def _resident(name: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0) / 2**20


class Operations(TorchDispatchMode):
    """Counts what reaches the backend; a step that we compiled ourselves is one, as a kernel would be."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatched = 0
        self.launched = 0
        self._patches = contextlib.ExitStack()

    def __enter__(self):
        for module in (fast_attention, fast_heads, fast_product, fused_activation):
            self._patches.enter_context(patch.object(module, "in_threads", self._counted))
        return super().__enter__()

    def __exit__(self, *failure) -> None:
        self._patches.close()
        super().__exit__(*failure)

    def _counted(self, *args, **kwargs) -> None:
        self.dispatched += 1
        self.launched += 1
        in_threads(*args, **kwargs)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.dispatched += 1
        self.launched += not (func.is_view or func.overloadpacket.__name__ in _EMPTY)
        return func(*args, **(kwargs or {}))


# Neither views by their schema nor work.
_EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "detach", "_unsafe_view", "lift_fresh"}
