import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from selva_audio.models import fast_product
from selva_audio.models.fast_product import can_multiply, compiler, exact_float32, product
from selva_audio.models.layers import ChannelLastConv1d, Linear

needs_unit = pytest.mark.skipif(
    compiler() is None, reason="this CPU has no matrix unit (AMX), or numba is absent"
)
ERROR = {torch.float32: 1e-5, torch.bfloat16: 4e-3}  # of the result, relative to its size


@pytest.fixture(autouse=True)
def weights_of_any_size(monkeypatch):
    """Small weights take the fast form too, so that tests are quick; nothing is differentiated."""
    monkeypatch.setattr(fast_product, "_SMALLEST_WEIGHTS", dict.fromkeys(ERROR, 0))
    with torch.no_grad():
        yield


def values(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def layer_of(inputs, outputs, dtype=torch.float32, bias=True):
    layer = Linear(inputs, outputs, bias=bias).requires_grad_(False)
    for number, parameter in enumerate(layer.parameters()):
        parameter.copy_(values(*parameter.shape, seed=number + 1) / inputs**0.5)
    return layer.to(dtype)


def error(found, exact):
    return float((found.double() - exact).norm() / exact.norm())


@needs_unit
@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(64, 700),
    st.integers(1, 60),
    st.integers(1, 20),
    st.booleans(),
    st.sampled_from([1, 3]),
)
def test_a_linear_layer_equals_its_sum(dtype, rows, depth, columns, bias, threads):
    layer, x = layer_of(32 * depth, 32 * columns, dtype, bias), values(rows, 32 * depth, dtype=dtype)
    assert can_multiply(x, layer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: threads)
        found = product(x, layer.weight, layer.bias)
    exact = functional.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)
    assert found.dtype == dtype and error(found, exact) < ERROR[dtype]


@needs_unit
@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(1, 3),
    st.integers(2, 400),
    st.integers(1, 8),
    st.integers(1, 8),
    st.sampled_from([3, 5, 7]),
)
def test_a_convolution_equals_its_sum(dtype, batch, tokens, depth, columns, taps):
    x, bias = values(batch, tokens, 32 * depth, dtype=dtype), values(32 * columns, dtype=dtype)
    weight = (values(32 * columns, 32 * depth, taps, seed=2) / (32 * depth * taps) ** 0.5).to(dtype)
    exact = functional.conv1d(
        x.double().transpose(1, 2), weight.double(), bias.double(), padding=taps // 2
    ).transpose(1, 2)
    assert error(product(x, weight, bias), exact) < ERROR[dtype]


@needs_unit
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_does_not_depend_on_the_others(dtype):
    layer, x = layer_of(1600, 96, dtype), values(1000, 1600, dtype=dtype)
    whole = product(x, layer.weight, layer.bias)
    assert torch.equal(product(x[130:300], layer.weight, layer.bias), whole[130:300])


@needs_unit
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gelu_is_the_exact_one(dtype):
    layer, x = layer_of(64, 64, dtype), 5 * values(500, 64, dtype=dtype)
    exact = functional.gelu(functional.linear(x.double(), layer.weight.double(), layer.bias.double()))
    assert error(layer.with_gelu(x), exact) < ERROR[dtype]
    steep = torch.linspace(-40, 40, 64 * 64).view(64, 64)
    identity = torch.eye(64)
    assert torch.allclose(product(steep, identity, None, with_gelu=True), functional.gelu(steep), atol=2e-4)


@needs_unit
def test_layers_take_the_fast_form_and_other_shapes_of_input():
    layer, x = layer_of(64, 96), values(2, 3, 40, 64)
    assert torch.equal(layer(x), product(x, layer.weight, layer.bias))
    turned = values(64, 200).T
    assert torch.equal(layer(turned), layer(turned.contiguous()))
    convolution = ChannelLastConv1d(64, 96, 3).requires_grad_(False)
    tokens = values(2, 90, 64)
    assert torch.equal(convolution(tokens), product(tokens, convolution.weight, convolution.bias))


@needs_unit
def test_what_is_not_a_number_stays_so():
    x = values(64, 64)
    x[3, 5] = torch.nan
    found = product(x, layer_of(64, 64).weight, None)
    assert found[3].isnan().all() and found[torch.arange(64) != 3].isfinite().all()


@needs_unit
def test_changed_weights_are_laid_out_anew_and_lost_ones_forgotten():
    layer, x = layer_of(64, 64), values(100, 64)
    before = layer(x)
    layer.weight.mul_(2)
    assert torch.allclose(layer(x) - layer.bias, 2 * (before - layer.bias), atol=1e-5)
    layer.weight.data = layer.weight.data.clone() * 2
    assert torch.allclose(layer(x) - layer.bias, 4 * (before - layer.bias), atol=1e-5)
    known = len(fast_product._made_of)
    del layer
    gc.collect()
    assert len(fast_product._made_of) == known - 2  # weight and bias


@needs_unit
def test_weights_made_under_inference_mode_can_be_used():
    with torch.inference_mode():
        layer = layer_of(64, 64)
        x = values(100, 64)
        assert (
            error(layer(x), functional.linear(x.double(), layer.weight.double(), layer.bias.double())) < 1e-5
        )


@needs_unit
@pytest.mark.parametrize("taps", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_transposed_product_is_the_gradient_of_the_input(dtype, taps):
    shape = (96, 64) if taps == 1 else (96, 64, taps)
    weight, grad = values(*shape, dtype=dtype, seed=1), values(2, 90, 96, dtype=dtype)
    x = values(2, 90, 64).double().requires_grad_()
    with torch.enable_grad():
        if taps == 1:
            y = functional.linear(x, weight.double())
        else:
            y = functional.conv1d(x.transpose(1, 2), weight.double(), padding=taps // 2).transpose(1, 2)
        (exact,) = torch.autograd.grad(y, x, grad.double())
    assert error(product(grad, weight, None, transposed=True), exact) < ERROR[dtype]


@needs_unit
def test_float32_is_not_split_where_anything_is_differentiated():
    layer, x = layer_of(64, 64), values(100, 64)
    assert can_multiply(x, layer)
    with torch.enable_grad():
        assert not can_multiply(x, layer)
    with exact_float32():
        assert not can_multiply(x, layer)
    assert can_multiply(x, layer)
    with torch.enable_grad():
        assert can_multiply(x.bfloat16(), layer.bfloat16())


@torch.enable_grad()
def test_gradients_are_those_of_the_plain_form():
    layer, plain = Linear(64, 64), nn.Linear(64, 64)
    plain.load_state_dict(layer.state_dict())
    x = values(100, 64).requires_grad_()
    assert not can_multiply(x, layer)
    for one, other in zip(
        torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()]),
        torch.autograd.grad(plain(x).square().sum(), [x, *plain.parameters()]),
        strict=True,
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("x", "layer"),
    [
        (torch.zeros(63, 64), nn.Linear(64, 64)),
        (torch.zeros(100, 48), nn.Linear(48, 64)),
        (torch.zeros(100, 64), nn.Linear(64, 48)),
        (torch.zeros(100, 64, dtype=torch.float64), nn.Linear(64, 64).double()),
        (torch.zeros(100, 64), nn.Linear(64, 64).bfloat16()),
        (torch.zeros(100, 64, device="meta"), nn.Linear(64, 64, device="meta")),
    ],
)
def test_where_it_would_not_pay_or_fit_the_plain_form_stays(x, layer):
    assert not can_multiply(x, layer.requires_grad_(False))


def test_small_weights_stay_with_the_plain_form(monkeypatch):
    monkeypatch.undo()
    x = values(1000, 128)
    assert not can_multiply(x, layer_of(128, 256)) and not can_multiply(
        x.bfloat16(), layer_of(128, 256).bfloat16()
    )


@pytest.mark.parametrize("how", ["switch", "numba"])
def test_without_numba_or_with_the_switch_off_the_plain_form_runs(asked_anew, monkeypatch, request, how):
    if how == "switch":
        monkeypatch.setenv("SELVA_MATRIX_UNIT", "off")
    else:
        request.getfixturevalue("without_numba")
    layer, x = layer_of(64, 64), values(100, 64)
    assert not can_multiply(x, layer)
    assert torch.equal(layer(x), functional.linear(x, layer.weight, layer.bias))
