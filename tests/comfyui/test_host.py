"""Devices, memory, progress and errors inside ComfyUI."""

import copy
import gc
import weakref

import pytest
import torch
from comfyui.stand_in import ComfyNode, Interrupted
from torch import nn

from selva_audio.adapters.inject import share
from selva_audio.errors import OutputError, SelVAError
from selva_audio.progress import Progress

GIB = 2**30


@pytest.fixture
def host(comfy):
    from selva_audio.comfyui import host

    return host


@pytest.fixture
def gpu(comfy, host, monkeypatch):
    """A GPU as far as choices go."""
    comfy.device = torch.device("cuda:0")
    return host


@pytest.mark.parametrize(
    ("offload", "free", "staged"),
    [
        ("auto", 24, False),
        ("auto", 8, True),
        ("keep_in_vram", 8, False),
        ("offload_to_cpu", 24, True),
    ],
)
def test_the_placement_follows_strategy_and_free_memory(gpu, comfy, offload, free, staged):
    comfy.free_memory = free * GIB
    policy, text = gpu.choose_policy("bf16", offload)
    assert (policy.device, policy.home, policy.staged, policy.precision) == ("cuda:0", "cpu", staged, "bf16")
    assert f"{free:.1f} GB free" in text


def test_comfyuis_flags_for_precision_win(gpu, comfy, monkeypatch):
    comfy.args.force_fp32 = True
    assert gpu.choose_policy("bf16", "auto")[0].precision == "fp32"
    comfy.args.force_fp32, comfy.args.force_fp16 = False, True
    policy, text = gpu.choose_policy("bf16", "auto")
    assert policy.precision == "fp16"
    assert "fp16 in place of bf16" in text


def test_a_gpu_without_bf16_gets_fp16(gpu, comfy, monkeypatch):
    monkeypatch.setattr(gpu.management, "should_use_bf16", lambda device: False)
    assert gpu.choose_policy("bf16", "auto")[0].precision == "fp16"
    assert gpu.choose_policy("fp32", "auto")[0].precision == "fp32"


def test_no_vram_stages_whatever_the_strategy(gpu, comfy, monkeypatch):
    monkeypatch.setattr(gpu.management, "vram_state", gpu.management.VRAMState.NO_VRAM)
    assert gpu.choose_policy("bf16", "keep_in_vram")[0].staged


def test_gpu_only_never_stages(gpu, comfy, monkeypatch):
    monkeypatch.setattr(gpu.management, "unet_offload_device", lambda: torch.device("cuda:0"))
    policy, _ = gpu.choose_policy("bf16", "offload_to_cpu")
    assert (policy.home, policy.staged) == ("cuda:0", False)


def test_without_a_gpu_fp16_becomes_fp32(host):
    policy, text = host.choose_policy("fp16", "auto")
    assert (policy.device, policy.precision, policy.staged) == ("cpu", "fp32", False)
    assert "fp32 in place of fp16" in text


def test_comfyui_counts_every_part_and_keeps_those_in_use_together(host, comfy):
    policy, (first, second) = host.ComfyPolicy(), (nn.Linear(2, 2), nn.Linear(2, 2))
    with policy.on_device(first), policy.on_device(second), policy.on_device(first):
        assert len(policy.active) == 2
    assert comfy.loaded == [[first], [first, second], [first, second]]
    assert policy.active == []


def test_a_staged_part_rests_on_the_cpu_also_after_an_error(host, comfy):
    policy, part = host.ComfyPolicy("meta", "fp32", staged=True), nn.Linear(2, 2)
    with pytest.raises(Interrupted), policy.on_device(part):
        assert part.weight.device.type == "meta"
        part.to_empty(device="cpu")
        raise Interrupted
    assert part.weight.device.type == "cpu"
    assert policy.active == []


def test_nothing_keeps_a_part_that_its_model_has_dropped(host, comfy):
    policy, part = host.ComfyPolicy(), nn.Linear(2, 2)
    with policy.on_device(part):
        pass
    gone = weakref.ref(part)
    del part
    comfy.loaded.clear()
    gc.collect()
    assert gone() is None


def test_a_copy_of_a_part_has_a_patcher_of_its_own(host):
    policy, part = host.ComfyPolicy(), nn.Linear(2, 2)
    with policy.on_device(part):
        pass
    other = copy.deepcopy(part)
    with policy.on_device(other):
        pass
    assert policy._patcher(part) is not policy._patcher(other)
    assert part.state_dict().keys() == nn.Linear(2, 2).state_dict().keys()


def test_a_part_with_an_adapter_has_a_patcher_of_its_own(host):
    """It shares the tensors of its base, and starts with all that hangs on it."""
    policy, part = host.ComfyPolicy(), nn.Linear(2, 2)
    base = policy._patcher(part)
    adapted = share(part)
    assert policy._patcher(adapted).model[0] is adapted
    assert policy._patcher(part) is base


def test_a_job_reports_stage_bar_and_text(host, comfy):
    with host.job(ComfyNode) as run:
        run.progress(Progress("reading", 1, 4))
        run.progress(Progress("reading", 4, 4))
        run.say("done")
    assert comfy.texts == ["reading", "done"]
    assert comfy.progress == [(250, 1000), (1000, 1000)]


def test_a_stage_is_left_out_when_another_has_only_just_been_shown(host, comfy, monkeypatch):
    monkeypatch.setattr(host, "_SAY_EVERY", 3600.0)
    with host.job(ComfyNode) as run:
        run.progress(Progress("reading", 1, 4))
        run.progress(Progress("decoding", 2, 4))
    assert comfy.texts == ["reading"]


def test_what_a_model_reads_later_is_told_by_the_node_that_runs(host, comfy):
    """The loader's own text stays: it said its last word when it was done."""
    with host.job(ComfyNode) as loader:
        loader.say("loaded")
    loader.progress(Progress("checking a file", 1, 2))
    assert comfy.texts == ["loaded"]
    with host.job(ComfyNode):
        loader.progress(Progress("checking a file", 1, 2))
        assert comfy.texts == ["loaded", "checking a file"]
        comfy.cancel_at = 0
        with pytest.raises(Interrupted):
            loader.progress(Progress("checking a file", 2, 2))
    assert comfy.progress == []


def test_cancel_is_heard_at_every_report_even_between_updates_of_the_bar(host, comfy):
    with pytest.raises(Interrupted), host.job(ComfyNode) as run:
        run.progress(Progress("sampling", 1, 1000))
        comfy.cancel_at = 0
        run.progress(Progress("sampling", 2, 1000))


def test_errors_of_the_system_become_sentences_and_others_keep_their_type(host):
    with pytest.raises(OutputError, match="No space left"), host.job(ComfyNode):
        raise OSError(28, "No space left on device")
    with pytest.raises(SelVAError, match=r"requirements\.txt"), host.job(ComfyNode):
        raise ModuleNotFoundError("No module named 'soxr'")
    with pytest.raises(torch.cuda.OutOfMemoryError), host.job(ComfyNode):
        raise torch.cuda.OutOfMemoryError("out of memory")
