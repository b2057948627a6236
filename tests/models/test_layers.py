import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selva_audio.models.layers import (
    ChannelLastConv1d,
    ConvGatedMLP,
    GatedMLP,
    head_norm,
    hidden_width,
    modulate,
)

TOLERANCE = 5e-5


@pytest.mark.parametrize(("scale_name", "scale"), [("unit", 1.0), ("tiny", 1e-3)])
@pytest.mark.parametrize(("prefix", "dtype"), [("rms", torch.float32), ("rms_bf16", torch.bfloat16)])
def test_head_norm_gives_the_published_numbers_in_either_dtype(
    units, load, unit_input, prefix, dtype, scale_name, scale
):
    norm = load(head_norm(64), "q_norm.").to(dtype)
    x = unit_input(f"rms.{scale_name}", (4, 64), scale=scale).to(dtype)
    error = units.error(f"{prefix}_{scale_name}", norm(x).float())
    assert error <= (TOLERANCE if dtype is torch.float32 else 2**-8)


@pytest.mark.parametrize(("scale_name", "scale"), [("unit", 10.0), ("tiny", 1e-2)])
def test_layer_norm_of_the_blocks_has_epsilon_1e_5(units, unit_input, scale_name, scale):
    norm = torch.nn.LayerNorm(64, elementwise_affine=False)
    x = unit_input(f"ln.{scale_name}", (4, 64), scale=scale)
    assert units.error(f"ln_eps1e-5_{scale_name}", norm(x)) <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("mlp", lambda: GatedMLP(448, hidden_width(448))),
        ("convmlp3", lambda: ConvGatedMLP(448, hidden_width(448), 3)),
        ("convmlp7", lambda: ConvGatedMLP(448, hidden_width(448), 7)),
    ],
)
def test_gated_mlps_give_the_published_numbers(units, load, unit_input, name, build):
    module = load(build(), f"{name}.")
    assert units.error(name, module(unit_input("seq", (2, 19, 448)))) <= TOLERANCE


def test_hidden_width_of_the_published_models():
    assert [hidden_width(dim) for dim in (96, 448, 768, 896)] == [256, 1280, 2048, 2560]


@given(dim=st.integers(1, 4096), multiple_of=st.integers(1, 512))
def test_hidden_width_is_the_next_multiple_above_two_thirds(dim, multiple_of):
    width = hidden_width(dim, multiple_of)
    assert width % multiple_of == 0
    assert 0 <= width - int(8 * dim / 3) < multiple_of


@given(length=st.integers(1, 20), kernel_size=st.sampled_from([1, 3, 7]))
def test_channel_last_convolution_keeps_the_length_and_sees_zeros_outside(length, kernel_size):
    conv = ChannelLastConv1d(2, 3, kernel_size).requires_grad_(False)
    x = torch.randn(1, length, 2)
    padded = torch.nn.functional.pad(x, (0, 0, 7, 7))
    assert conv(x).shape == (1, length, 3)
    torch.testing.assert_close(conv(x), conv(padded)[:, 7:-7])


def test_kernel_one_convolution_equals_a_linear():
    conv = ChannelLastConv1d(5, 4, 1).requires_grad_(False)
    x = torch.randn(2, 6, 5)
    torch.testing.assert_close(conv(x), torch.nn.functional.linear(x, conv.weight[..., 0], conv.bias))


def test_modulate_with_zeros_changes_nothing_and_broadcasts_over_tokens():
    x, shift, scale = torch.randn(2, 5, 3), torch.randn(2, 1, 3), torch.randn(2, 1, 3)
    assert torch.equal(modulate(x, torch.zeros(2, 1, 3), torch.zeros(2, 5, 3)), x)
    torch.testing.assert_close(modulate(x, shift, scale)[:, 4], x[:, 4] * (1 + scale[:, 0]) + shift[:, 0])
