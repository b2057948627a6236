import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_activation import activation_of, plain

from selva_audio.models import antialias, fused_activation
from selva_audio.models.antialias import AntialiasedActivation, antialias_filter
from selva_audio.models.fast_path import steps_of
from selva_audio.models.fused_activation import can_fuse

pytest.importorskip("numba")


def together(x):
    """The same values with the channels side by side in memory."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 3),
    st.integers(2, 40),
    st.integers(2, 90),
    st.sampled_from(["snake", "snakebeta"]),
    st.sampled_from([1, 3, 32768]),
    st.integers(0, 99),
)
def test_one_step_equals_three(batch, channels, length, kind, values_per_thread, seed):
    module = activation_of(channels, kind, seed)
    x = 3 * torch.randn(batch, channels, length, generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused_activation, "_VALUES_PER_THREAD", values_per_thread)
        patch.setattr(torch, "get_num_threads", lambda: 3)
        assert can_fuse(together(x), module)
        fused = module(together(x))
    assert torch.allclose(fused, plain(module, x), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("channels", "length"), [(3, 30_000), (700, 100), (40_000, 11)])
def test_blocks_join(channels, length):
    module = activation_of(channels)
    x = torch.randn(1, channels, length, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(module(together(x)), plain(module, x), rtol=1e-5, atol=2e-6)


def test_filters_that_are_not_the_standard_one_are_used():
    module = activation_of(4)
    module.upsample.filter = torch.rand(1, 1, 12)
    module.downsample.lowpass.filter = torch.rand(1, 1, 12)
    x = torch.randn(1, 4, 50)
    assert torch.allclose(module(together(x)), plain(module, x), rtol=1e-4, atol=1e-5)


def test_bfloat16_is_rounded_at_the_ends_alone():
    module = activation_of(5)
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    exact = module(together(x.bfloat16().float()))
    parameters = {name: value.bfloat16().float() for name, value in module.state_dict().items()}
    module.load_state_dict(parameters)
    module.upsample.filter = module.downsample.lowpass.filter = antialias_filter()
    expected = module(together(x.bfloat16().float()))
    module.bfloat16()
    for given_type in (torch.float32, torch.bfloat16):
        made = module(together(x.bfloat16().to(given_type)))
        assert made.dtype == torch.bfloat16
        assert torch.equal(made, expected.bfloat16())
    assert (made - exact).abs().max() < 0.05


def test_sine_is_good_to_rounding_and_never_leaves_its_bounds():
    module = AntialiasedActivation(2, "snake").requires_grad_(False)
    levels = torch.cat([torch.linspace(-40, 40, 4001), torch.tensor([1e3, -5e3, 1e4, 3e5])])
    for level in levels.tolist():  # a level passes both filters as it is
        x = torch.full((1, 2, 3), level)
        exact = level + np.sin(np.float64(np.float32(level))) ** 2
        assert abs(float(module(together(x))[0, 0, 1]) - exact) < 1.5e-6 + 4e-7 * abs(level)
    huge = torch.full((1, 2, 3), 1e30)
    assert torch.allclose(module(together(huge)), huge, rtol=1e-5)


def test_what_is_not_finite_stays_so():
    module = activation_of(2).bfloat16()
    for bad in (float("nan"), float("inf")):
        x = torch.zeros(1, 2, 40)
        x[0, 1, 20] = bad
        made = module(together(x))
        assert not made[0, 1, 20].isfinite() and made[0, 0].isfinite().all()


def test_only_channels_side_by_side_without_gradients_on_a_cpu_are_fused():
    module = activation_of(3)
    x = torch.randn(1, 3, 20)
    assert can_fuse(together(x), module)
    assert not can_fuse(x, module)
    assert not can_fuse(together(x).double(), module)
    assert not can_fuse(together(x).to("meta"), module)
    assert not can_fuse(together(x).requires_grad_(), module)
    module.act.alpha.requires_grad_(True)
    assert not can_fuse(together(x), module)
    with torch.no_grad():
        assert can_fuse(together(x), module)


def test_gradients_flow_for_channels_side_by_side():
    module = activation_of(3).requires_grad_(True)
    x = torch.randn(1, 3, 20)
    gradients = []
    for given_x in (x, together(x)):
        leaf = given_x.detach().requires_grad_()
        gradients.append(torch.autograd.grad(module(leaf).square().sum(), [leaf, *module.parameters()]))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-5) and one.abs().max() > 0


def test_without_numba_the_plain_form_runs(without_numba):
    module, x = activation_of(3), torch.randn(1, 3, 20)
    assert not can_fuse(together(x), module)
    assert torch.allclose(module(together(x)), plain(module, x), atol=1e-6)


def test_nothing_is_fused_where_compiling_is_off(asked_anew, monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert steps_of("snake") is None


def test_rounded_standard_filters_are_taken_unrounded():
    standard = antialias_filter()
    assert torch.equal(antialias._unrounded(standard.bfloat16()), standard)
    other = torch.rand(1, 1, 12)
    assert antialias._unrounded(other) is other


def test_nothing_outside_of_the_arrays_is_touched(tmp_path):
    code = (
        "import torch\n"
        "from selva_audio.models.antialias import AntialiasedActivation\n"
        "for channels, length in ((3, 30_000), (700, 100), (40_000, 11), (2, 2), (5, 1), (9, 33)):\n"
        "    module = AntialiasedActivation(channels, 'snakebeta').requires_grad_(False)\n"
        "    x = torch.randn(1, length, channels).transpose(1, 2)\n"
        "    assert module(x).isfinite().all()\n"
    )
    env = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
