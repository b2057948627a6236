"""The form of the vocoder's activation that is compiled for GPUs, on a CPU and without a compiler."""

import importlib.util

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_activation import activation_of, plain

from selva_audio.models import compiled_activation as compiled
from selva_audio.models.compiled_activation import can_compile, polyphase_activation


def values_of(module):
    return module.act.alpha, module.act.magnitude, module.upsample.filter, module.downsample.lowpass.filter


@settings(max_examples=60)
@given(
    st.integers(1, 2),
    st.integers(1, 5),
    st.integers(1, 90),
    st.sampled_from(["snake", "snakebeta"]),
    st.integers(0, 99),
)
def test_sums_of_shifted_samples_equal_the_products_of_matrices(batch, channels, length, kind, seed):
    module = activation_of(channels, kind, seed, filters=True)
    x = 3 * torch.randn(batch, channels, length, generator=torch.Generator().manual_seed(seed))
    found, expected = polyphase_activation(x, *values_of(module)), plain(module, x)
    assert found.shape == expected.shape
    assert (found - expected).norm() <= 1e-5 * expected.norm()


@torch.no_grad()
def test_it_is_compiled_whole_and_for_every_length():
    """Without the compiler's last stage, which needs one for C++ or a GPU."""
    module, ran = activation_of(3), []

    def backend(graph, inputs):
        ran.append(graph)
        return graph.forward

    step = torch.compile(polyphase_activation, dynamic=True, fullgraph=True, backend=backend)
    for length in (40, 41, 97):
        x = torch.randn(1, 3, length, generator=torch.Generator().manual_seed(length))
        assert torch.allclose(step(x, *values_of(module)), plain(module, x), rtol=1e-4, atol=1e-5)
    assert len(ran) == 1


@torch.no_grad()
def test_it_stands_in_where_it_was_asked_for_on_a_gpu_with_triton(monkeypatch):
    x = torch.zeros(1, 3, 20, device="meta")
    assert not can_compile(x)
    monkeypatch.setenv("SELVA_COMPILE", "on")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "triton" or None)
    assert can_compile(x) and not can_compile(torch.zeros(1, 3, 20))
    with torch.enable_grad():
        assert not can_compile(x)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not can_compile(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_the_layer_gives_the_same_with_it(monkeypatch, dtype):
    module = activation_of(3, "snake").to(dtype)
    x = torch.randn(1, 3, 50, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = module.float()(x.float())
    module.to(dtype)
    monkeypatch.setattr("selva_audio.models.antialias.can_compile", lambda x: True)
    monkeypatch.setattr(compiled, "_compiled", lambda: polyphase_activation)
    found = module(x)
    assert found.dtype == dtype
    assert (found - expected).norm() <= {torch.float32: 1e-6, torch.bfloat16: 4e-3}[dtype] * expected.norm()
