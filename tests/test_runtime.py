import logging
import mmap
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from selva_audio.errors import InputError
from selva_audio.runtime import (
    RuntimePolicy,
    describe_devices,
    mark_mapped,
    num_threads,
    put_aside,
    send,
    set_num_threads,
    trim_memory,
)


def test_the_cpu_keeps_everything_in_place() -> None:
    policy = RuntimePolicy.resolve("cpu", "fp32", "offload_to_cpu")
    assert (policy.device, policy.home, policy.staged, policy.dtype) == ("cpu", "cpu", False, torch.float32)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("gpu", "fp32", "auto"), "Unknown device 'gpu'.*cuda"),
        (("cuda:x", "fp32", "auto"), "Unknown device 'cuda:x'"),
        (("cpu", "fp8", "auto"), r"Unknown precision 'fp8'\. Did you mean 'fp"),
        (("cpu", "fp32", "keep"), "Unknown offload 'keep'"),
        (("cuda:99", "fp32", "auto"), "no device 'cuda:99'. Use cpu"),
    ],
)
def test_what_is_not_there_is_refused(arguments: tuple[str, str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        RuntimePolicy.resolve(*arguments)


def test_half_precision_on_a_cpu_becomes_single_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert RuntimePolicy.resolve("cpu", "fp16").precision == "fp32"
    assert "fp16" in caplog.text


@pytest.mark.parametrize(
    ("precision", "part", "dtype"),
    [
        ("bf16", "generator", torch.bfloat16),
        ("fp16", "generator", torch.float16),
        ("fp16", "t5", torch.float32),
        ("fp32", "t5", torch.float32),
    ],
)
def test_a_part_gets_a_number_format_that_it_survives(precision: str, part: str, dtype: torch.dtype) -> None:
    assert RuntimePolicy("cuda", precision).dtype_of(part) == dtype


class Mover(torch.nn.Module):
    """Notes where it was sent, since no second device is needed to see the order."""

    def __init__(self) -> None:
        super().__init__()
        self.moves: list[str] = []

    def to(self, device: str) -> "Mover":  # type: ignore[override]
        self.moves.append(device)
        return self


def test_a_staged_part_goes_home_even_after_an_error() -> None:
    policy, part = RuntimePolicy("meta", "fp32", staged=True), Mover()
    with pytest.raises(KeyError), policy.on_device(part):
        assert part.moves == ["meta"]
        raise KeyError
    assert part.moves == ["meta", "cpu"]
    assert policy.home == "cpu"


def test_a_kept_part_is_not_moved() -> None:
    part = Mover()
    with RuntimePolicy("cpu", "fp32").on_device(part):
        pass
    assert part.moves == []


class Parcel:
    """Stands in for a tensor: there need be no GPU."""

    def __init__(self) -> None:
        self.way: list[str] = []

    def pin_memory(self) -> "Parcel":
        self.way.append("pinned")
        return self

    def to(self, device: str, *, non_blocking: bool = False) -> "Parcel":
        self.way.append(f"to {device}{', not waited for' if non_blocking else ''}")
        return self


@pytest.mark.parametrize(
    ("device", "way"),
    [("cuda:1", ["pinned", "to cuda:1, not waited for"]), ("mps", ["to mps"]), ("cpu", ["to cpu"])],
)
def test_a_tensor_is_pinned_on_its_way_to_a_gpu_alone(device: str, way: list[str]) -> None:
    assert send(Parcel(), device).way == way


def test_devices_are_described_with_the_cpu_first() -> None:
    assert describe_devices()[0].startswith("cpu: ")


def test_the_thread_count_is_set_and_read() -> None:
    before = num_threads()
    set_num_threads(before + 1)
    assert num_threads() == before + 1
    set_num_threads(before)


def test_trimming_is_skipped_where_the_c_library_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def absent(name: str) -> None:
        asked.append(name)
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("selva_audio.runtime.ctypes.CDLL", absent)
    trim_memory()
    assert asked == ["libc.so.6"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can let go of mapped memory")
def test_mapped_parameters_can_be_put_aside_and_come_back(tmp_path):
    path = tmp_path / "mapped.safetensors"
    save_file({"weight": torch.arange(4.0 * 2**20).view(1024, 4096)}, path)
    module = nn.Linear(4096, 1024, bias=False, device="meta")
    module.load_state_dict(load_file(path), assign=True)
    mark_mapped(module)
    total = float(module.weight.detach().sum())
    before = resident_bytes()
    put_aside(module.weight)
    assert resident_bytes() < before - 12 * 2**20
    assert float(module.weight.detach().sum()) == total


def test_parameters_that_are_not_mapped_stay_where_they_are():
    parameter = nn.Parameter(torch.ones(2**20))
    put_aside(parameter)
    assert float(parameter.detach().sum()) == 2**20


def resident_bytes():
    """Memory of this process that is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE
