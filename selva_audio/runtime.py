"""Devices, precision, offload: the only file that knows them.

torch is imported inside functions, so that front ends can name a policy without loading it.
"""

import contextlib
import ctypes
import functools
import gc
import logging
import mmap
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import InputError, unknown_name

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)

_KEEP_IN_VRAM_FROM = 16 * 2**30
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_MAPPED = "is_mapped"
_MADV_PAGEOUT = 21  # Linux 5.4; Python's mmap has no name for it
_OFFLOADS = ("auto", "keep_in_vram", "offload_to_cpu")


@dataclass(frozen=True, slots=True)
class RuntimePolicy:
    """Where parts run and in which number format.

    Attributes:
        device: torch device string of the computation.
        precision: "bf16", "fp16" or "fp32".
        staged: parts live on the CPU and visit the device only inside ``on_device``.
        keeps_parts: a part stays in memory after its stage, also where it could be mapped from disk again.
    """

    device: str = "cpu"
    precision: str = "fp32"
    staged: bool = False
    keeps_parts: bool = True

    @classmethod
    def resolve(cls, device: str = "auto", precision: str = "bf16", offload: str = "auto") -> "RuntimePolicy":
        """Choose for this machine.

        Args:
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".
            precision: "bf16", "fp16" or "fp32"; bf16 becomes fp16 on a GPU that lacks it.
            offload: "auto" (keep parts on the GPU from 16 GB free), "keep_in_vram" or "offload_to_cpu". On a
                CPU, "keep_in_vram" keeps parts in memory, and the others map each from disk for its stage.

        Raises:
            InputError: an unknown name, or a device that this machine does not have.
        """
        import torch

        if precision not in _DTYPES:
            raise InputError(unknown_name("precision", precision, _DTYPES))
        if offload not in _OFFLOADS:
            raise InputError(unknown_name("offload", offload, _OFFLOADS))
        chosen = _available_device(device)
        if chosen == "cpu" and precision == "fp16":
            logger.warning("fp16 is slow and inexact on a CPU; using fp32 instead.")
            precision = "fp32"
        if chosen.startswith("cuda") and precision == "bf16" and not torch.cuda.is_bf16_supported():
            logger.warning("%s has no bf16; using fp16 instead.", chosen)
            precision = "fp16"
        staged = chosen != "cpu" and (
            offload == "offload_to_cpu" or (offload == "auto" and _free_memory(chosen) < _KEEP_IN_VRAM_FROM)
        )
        return cls(chosen, precision, staged, keeps_parts=chosen != "cpu" or offload == "keep_in_vram")

    @property
    def dtype(self) -> "torch.dtype":
        """Number format of the weights, as a torch dtype."""
        import torch

        return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[self.precision]

    def dtype_of(self, part: str) -> "torch.dtype":
        """Number format of one part.

        T5 overflows in float16 (SPEC 12.6). The VAE costs next to nothing, and in bfloat16 its mel is
        1.3 % off (measured, 8 s at 16 kHz), so it is always float32.
        """
        import torch

        if part == "vae" or (part == "t5" and self.precision == "fp16"):
            return torch.float32
        return self.dtype

    @property
    def home(self) -> str:
        """Device where a part rests between stages."""
        return "cpu" if self.staged else self.device

    @contextlib.contextmanager
    def on_device(self, *parts: "nn.Module") -> Iterator[None]:
        """Have ``parts`` on the compute device inside the block; send them home after it, also on errors."""
        if not self.staged:
            yield
            return
        try:
            for part in parts:
                part.to(self.device)
            yield
        finally:
            for part in parts:
                part.to("cpu")
            release_memory()


def send(tensor: "torch.Tensor", device: str) -> "torch.Tensor":
    """``tensor`` on ``device``; a GPU fetches it while this thread goes on, for which it has to be pinned."""
    if device.startswith("cuda"):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def can_record(x: "torch.Tensor") -> bool:
    """Whether work on ``x`` can be recorded as a CUDA graph: on a GPU, while nobody else records."""
    import torch

    return x.is_cuda and not torch.cuda.is_current_stream_capturing()


def record_graph(run: "Callable[[], torch.Tensor]", device: str) -> "tuple[torch.Tensor, Callable[[], None]]":
    """``run`` as a CUDA graph: the place of its result, and what fills it anew in one launch.

    Raises:
        RuntimeError: ``run`` does what cannot be recorded, as waiting for a value, or memory is short.
    """
    import torch

    graph = torch.cuda.CUDAGraph()
    # Other threads pin and read frames meanwhile, which would end a capture that heeds them.
    with torch.cuda.device(device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = run()
    return result, graph.replay


def release_memory() -> None:
    """Give cached device memory back to the system, and what the C library keeps."""
    import torch

    gc.collect()
    trim_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def trim_memory() -> None:
    """Give back what the C library keeps for later: pieces between others, hundreds of MB after many sizes.

    Only glibc can; elsewhere nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def mark_mapped(module: "nn.Module") -> None:
    """Say of a module that its tensors are mapped from a file, and may be put aside after their use."""
    for parameter in module.parameters():
        setattr(parameter, _MAPPED, True)


def put_aside(parameter: "torch.Tensor") -> None:
    """Let go of the memory of a parameter that is mapped from a file; it comes back when it is touched.

    Only Linux can; elsewhere nothing happens, nor with a parameter that ``mark_mapped`` has not seen.
    """
    if not getattr(parameter, _MAPPED, False) or not sys.platform.startswith("linux"):
        return
    start = -(-parameter.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (parameter.data_ptr() + parameter.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
    if size > 0:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_PAGEOUT)


def num_threads() -> int:
    """CPU threads of one operation; part of a recipe, because sums depend on it."""
    import torch

    return torch.get_num_threads()


def set_num_threads(count: int) -> None:
    """Use ``count`` CPU threads per operation."""
    import torch

    torch.set_num_threads(count)


def wait_for(device: str) -> None:
    """Return when all work that was given to the device is done."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


@functools.cache
def has_bf16_arithmetic() -> bool:
    """Whether the CPU multiplies bfloat16 itself; where it does not, float32 is several times as fast.

    Only Intel's and AMD's are asked; others are taken at their word.
    """
    import torch

    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return asked is None or platform.machine().lower() not in ("x86_64", "amd64") or bool(asked())


def describe_devices() -> list[str]:
    """One line per usable device, for ``selva doctor``."""
    import torch

    lines = [f"cpu: {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"]
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        lines.append(f"cuda:{index}: {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GB free")
    if torch.backends.mps.is_available():
        lines.append("mps: Apple GPU")
    return lines


def describe_system() -> dict[str, str | float | None]:
    """What numbers were made on: versions, and name and memory of the first GPU."""
    import torch

    has_gpu = torch.cuda.is_available()
    return {
        "torch_version": str(torch.__version__),
        "cuda_version": torch.version.cuda,
        "gpu_name": torch.cuda.get_device_name(0) if has_gpu else None,
        "gpu_vram_gb": round(torch.cuda.mem_get_info(0)[1] / 2**30, 2) if has_gpu else None,
    }


def forget_peak_memory(device: str) -> None:
    """Begin to measure the peak of the device's memory anew; that of the CPU is always since the start."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gb(device: str) -> float | None:
    """Most memory at once, in GiB: of a GPU since ``forget_peak_memory``, else of the whole process.

    None where the system does not tell.
    """
    import torch

    if device.startswith("cuda"):
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)


def _available_device(device: str) -> str:
    import torch

    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise InputError(unknown_name("device", device, ("auto", "cpu", "cuda", "cuda:0", "mps")))
    found = {"cpu": True, "cuda": int(index or 0) < torch.cuda.device_count(), "mps": has_mps}
    if not found[kind]:
        raise InputError(f"This machine has no device {device!r}. Use cpu, or auto to take what is there.")
    return device


def _free_memory(device: str) -> int:
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return _KEEP_IN_VRAM_FROM
