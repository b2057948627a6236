import pytest
import torch
from torch import nn
from torch.nn import functional

from selva_audio.adapters.fused import adapted_output
from selva_audio.models.layers import ChannelLastConv1d, lay_out_convolutions

BASES = {
    "linear": lambda: nn.Linear(6, 5),
    "linear without bias": lambda: nn.Linear(6, 5, bias=False),
    "kernel 3": lambda: ChannelLastConv1d(6, 5, 3),
    "kernel 7": lambda: ChannelLastConv1d(6, 5, 7, bias=False),
    "kernel 1": lambda: ChannelLastConv1d(6, 5, 1),
}


def make(name, dtype=torch.float64, tokens=9):
    torch.manual_seed(0)
    base = BASES[name]().to(dtype).requires_grad_(False)
    a = torch.randn(2, *base.weight.shape[1:], dtype=dtype, requires_grad=True)
    b = torch.randn(5, 2, dtype=dtype, requires_grad=True)
    return base, a, b, torch.randn(3, tokens, 6, dtype=dtype, requires_grad=True)


def written_out(x, base, a, b, factor):
    """The change as separate layers."""
    if a.ndim == 2:
        return base(x) + factor * functional.linear(functional.linear(x, a), b)
    low = functional.conv1d(x.transpose(1, 2), a, padding=a.shape[2] // 2).transpose(1, 2)
    return base(x) + factor * functional.linear(low, b)


@pytest.mark.parametrize("tokens", [1, 2, 9])
@pytest.mark.parametrize("name", BASES)
def test_output_and_gradients_are_those_of_separate_layers(name, tokens):
    base, a, b, x = make(name, tokens=tokens)
    lay_out_convolutions(base)
    weight = torch.randn(3, tokens, 5, dtype=x.dtype)
    found = []
    for form in (adapted_output, written_out):
        y = form(x, base, a, b, -1.7)
        found.append((y.detach(), *torch.autograd.grad((y * weight).sum(), (x, a, b))))
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("name", BASES)
def test_gradients_are_those_of_finite_differences(name):
    base, a, b, x = make(name, tokens=4)
    assert torch.autograd.gradcheck(lambda *given: adapted_output(given[0], base, *given[1:], 0.5), (x, a, b))


@pytest.mark.parametrize("name", BASES)
def test_a_change_of_zero_is_the_base_layer_bit_for_bit_and_leaves_its_input(name):
    base, a, b, x = make(name, torch.bfloat16)
    before = x.detach().clone()
    assert torch.equal(adapted_output(x, base, a, torch.zeros_like(b), 2.0), base(x))
    assert torch.equal(x, before)


def test_factors_stay_float32_under_16_bit_activations():
    base, a, b, x = make("kernel 3", torch.bfloat16)
    a, b = (each.detach().float().requires_grad_() for each in (a, b))
    y = adapted_output(x, base, a, b, 2.0)
    y.float().square().sum().backward()
    assert y.dtype == x.grad.dtype == torch.bfloat16
    assert a.grad.dtype == b.grad.dtype == torch.float32


def test_an_input_without_gradient_gets_none():
    base, a, b, x = make("linear")
    adapted_output(x.detach(), base, a, b, 1.0).sum().backward()
    assert a.grad is not None and x.grad is None
