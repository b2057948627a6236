import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from selva_audio.errors import InputError
from selva_audio.flow import latent_noise


@given(
    seed=st.integers(0, 2**64 - 1),
    start=st.integers(0, 500),
    length=st.integers(0, 40),
    before=st.integers(0, 30),
    after=st.integers(0, 30),
    dim=st.integers(1, 41),
)
def test_any_window_is_a_slice_of_a_longer_draw(seed, start, length, before, after, dim):
    first = max(0, start - before)
    whole = latent_noise(seed, 0, first, start + length + after, dim)
    window = latent_noise(seed, 0, start, start + length, dim)
    assert window.shape == (length, dim)
    assert torch.equal(window, whole[start - first : start - first + length])


@given(seed=st.integers(-(2**70), 2**70), take=st.integers(0, 1000))
def test_take_k_is_the_first_take_of_seed_plus_k(seed, take):
    noise = latent_noise(seed, take, 2, 5, 20)
    assert torch.equal(noise, latent_noise(seed + take, 0, 2, 5, 20))
    assert torch.equal(noise, latent_noise(seed, take + 2**64, 2, 5, 20))


def test_numbers_of_a_seed_never_change():
    noise = latent_noise(7, 0, 100, 102, 3)
    expected = torch.tensor([[0.12389936, -2.3576572, -1.0930518], [-0.7259718, 0.58371586, 0.4827728]])
    torch.testing.assert_close(noise, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dim", [20, 40])
def test_noise_is_standard_normal_and_uncorrelated(dim):
    noise = latent_noise(123, 0, 0, 5000, dim).double().numpy()
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    correlation = np.corrcoef(noise, rowvar=False) - np.eye(dim)
    assert np.abs(correlation).max() < 5 / np.sqrt(5000)
    assert abs((noise[1:] * noise[:-1]).mean()) < 5 / np.sqrt(noise.size)


def test_seeds_give_different_noise_and_it_is_float32_on_the_cpu():
    noise = latent_noise(1, 0, 0, 250, 20)
    assert noise.dtype is torch.float32
    assert noise.device.type == "cpu"
    assert abs(float((noise * latent_noise(2, 0, 0, 250, 20)).mean())) < 5 / np.sqrt(5000)


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4)])
def test_ranges_that_run_backward_or_start_below_zero_are_refused(start, stop):
    with pytest.raises(InputError, match=f"{start} to {stop}"):
        latent_noise(1, 0, start, stop, 20)
