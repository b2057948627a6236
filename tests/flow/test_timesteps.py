import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from selva_audio.flow.timesteps import (
    TimestepLaw,
    draw_timesteps,
    min_snr_knee,
    min_snr_weight,
    shifted,
)

LAWS = (
    TimestepLaw("uniform"),
    TimestepLaw("logit_normal"),
    TimestepLaw("logit_normal", mean=0.5, sigma=0.4),
    TimestepLaw("uniform", shift=3.0),
    TimestepLaw("logit_normal", sigma=1.7, shift=0.4),
)


def drawn(law: TimestepLaw, count: int, seed: int = 0, stratified: bool = False) -> torch.Tensor:
    return draw_timesteps(law, count, torch.Generator().manual_seed(seed), stratified=stratified)


def analytic(law: TimestepLaw, t: np.ndarray) -> np.ndarray:
    noise = 1 - t
    back = 1 - noise / (law.shift - (law.shift - 1) * noise)
    if law.mode == "uniform":
        return back
    return stats.norm.cdf((np.log(back / (1 - back)) - law.mean) / law.sigma)


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("stratified", [False, True])
def test_draws_follow_the_analytic_distribution(law, stratified):
    if stratified:  # single items of many small batches, each of which has the law by itself
        t = torch.stack([drawn(law, 4, seed, stratified=True)[seed % 4] for seed in range(20_000)])
    else:
        t = drawn(law, 100_000)
    assert float(t.min()) > 0 and float(t.max()) < 1
    distance = stats.kstest(t.numpy().astype(np.float64), lambda x: analytic(law, x)).statistic
    assert distance < (0.015 if stratified else 0.01)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_distribution_function_undoes_the_quantiles(law):
    share = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    assert torch.allclose(law.cdf(law.quantile(share)), share, atol=1e-5)


def test_stratified_times_have_one_in_each_stretch():
    law = TimestepLaw("logit_normal")
    for seed in range(20):
        places = (law.cdf(drawn(law, 16, seed, stratified=True)) * 16).floor().long()
        assert sorted(places.tolist()) == list(range(16))


@given(st.floats(0.1, 10), st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_a_shift_is_monotone_and_over_one_goes_towards_noise(shift, a, b):
    low, high = shifted(torch.tensor(sorted((a, b)), dtype=torch.float64), shift)
    assert low <= high
    t = torch.tensor(a, dtype=torch.float64)
    assert float(shifted(t, 1.0)) == pytest.approx(a, abs=1e-15)
    assert (shifted(t, shift) <= t + 1e-12) == (shift >= 1) or shift == pytest.approx(1, abs=1e-6)


def test_the_same_generator_gives_the_same_times_and_another_others():
    law = TimestepLaw()
    assert torch.equal(drawn(law, 8, 5), drawn(law, 8, 5))
    assert not torch.equal(drawn(law, 8, 5), drawn(law, 8, 6))


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_min_snr_has_mean_one_and_its_knee_where_it_should(law):
    weights = min_snr_weight(drawn(law, 100_000), 5.0, law)
    assert float(weights.mean()) == pytest.approx(1, abs=0.02)
    grid = torch.linspace(0.01, 0.99, 981)
    knee = grid[min_snr_weight(grid, 5.0, law).argmax()]
    assert float(knee) == pytest.approx(min_snr_knee(5.0), abs=2e-3) == pytest.approx(0.691, abs=2e-3)
    t = torch.tensor([0.2, 0.4])
    low, high = min_snr_weight(t, 5.0, law)
    assert float(high / low) == pytest.approx(4, rel=1e-4)
