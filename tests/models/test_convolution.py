import pytest
import torch

from selva_audio.models import convolution
from selva_audio.models.convolution import Convolution, TransposedConvolution
from selva_audio.models.fast_path import has_channels_together

LAYERS = {
    "plain": lambda: Convolution(6, 10, 7, padding=3),
    "dilated": lambda: Convolution(6, 6, 3, padding=5, dilation=5, bias=False),
    "strided": lambda: Convolution(6, 4, 4, stride=2, padding=1),
    "per channel": lambda: Convolution(6, 6, 9, padding=4, groups=6, bias=False),
    "to one": lambda: Convolution(6, 1, 7, padding=3),
    "transposed": lambda: TransposedConvolution(6, 3, 8, 4, padding=2),
    "transposed, long kernel": lambda: TransposedConvolution(6, 4, 12, 2, padding=5, bias=False),
    "transposed, rate 3": lambda: TransposedConvolution(6, 4, 3, 3),
    "transposed, other length": lambda: TransposedConvolution(6, 4, 7, 2, padding=1),
    "transposed, rate 1": lambda: TransposedConvolution(6, 6, 3, 1, padding=1),
}


def together(x):
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("length", [7, 64, 101])
@pytest.mark.parametrize("piece", [7, 40, 8192])
def test_both_layouts_give_the_same(monkeypatch, name, length, piece):
    monkeypatch.setattr(convolution, "_PIECE", piece)
    monkeypatch.setattr(convolution, "_LONG", 2 * piece)
    torch.manual_seed(0)
    layer, x = LAYERS[name]().requires_grad_(False), torch.randn(2, 6, length)
    expected = layer(x)
    made = layer(together(x))
    assert torch.allclose(made, expected, atol=2e-6)
    assert has_channels_together(made) or made.shape[1] == 1
    assert expected.is_contiguous()


@pytest.mark.parametrize("name", LAYERS)
def test_both_layouts_have_the_same_gradients(monkeypatch, name):
    monkeypatch.setattr(convolution, "_LONG", 0)
    torch.manual_seed(0)
    layer, x = LAYERS[name](), torch.randn(2, 6, 20)
    gradients = []
    for given in (x, together(x)):
        leaf = given.detach().requires_grad_()
        gradients.append(torch.autograd.grad(layer(leaf).square().sum(), [leaf, *layer.parameters()]))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("has_arithmetic", [True, False])
@pytest.mark.parametrize("name", ["plain", "transposed"])
def test_bfloat16_weights_take_float32_and_give_bfloat16(monkeypatch, name, has_arithmetic):
    monkeypatch.setattr(convolution, "has_bf16_arithmetic", lambda: has_arithmetic)
    torch.manual_seed(0)
    layer, x = LAYERS[name]().bfloat16().requires_grad_(False), torch.randn(2, 6, 30)
    exact = LAYERS[name]()
    exact.load_state_dict({key: value.float() for key, value in layer.state_dict().items()})
    for given in (x, together(x)):
        made = layer(given)
        assert made.dtype == torch.bfloat16
        assert (made - exact(x)).abs().max() < 0.05
    if not has_arithmetic:
        assert torch.equal(layer(together(x)), exact(together(x)).bfloat16())


def test_layouts_are_told_apart():
    assert has_channels_together(together(torch.zeros(2, 3, 5)))
    assert not has_channels_together(torch.zeros(2, 3, 5))
    assert not has_channels_together(torch.zeros(2, 1, 5))
