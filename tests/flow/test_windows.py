import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selva_audio.configs import VARIANTS, ModelConfig
from selva_audio.flow.windows import OVERLAP, STEP, Window, join_windows, plan_windows

CONFIGS = (VARIANTS["small_16k"], VARIANTS["large_44k"])
configs = st.sampled_from(CONFIGS)
durations = st.floats(0.64, 400.0)
long_durations = st.floats(8.33, 400.0)


def contents(windows: list[Window], whole: torch.Tensor, per_latent: int = 1) -> list:
    """Each window with its slice of ``whole``."""
    return [(each, whole[..., each.first * per_latent : each.stop * per_latent]) for each in windows]


@given(duration=durations, config=configs)
def test_windows_cover_the_clip_and_end_where_it_does(duration: float, config: ModelConfig) -> None:
    windows = plan_windows(duration, config)
    assert windows[0].start == windows[0].first == 0
    assert windows[-1].stop == config.lengths(duration).latent
    assert windows[-1].start + windows[-1].duration == pytest.approx(duration)
    for before, after in itertools.pairwise(windows):
        assert before.first < after.first < before.stop < after.stop


@given(duration=durations, config=configs)
def test_a_window_starts_on_a_sync_segment_and_is_no_longer_than_trained(
    duration: float, config: ModelConfig
) -> None:
    for window in plan_windows(duration, config):
        steps = window.start / STEP
        assert abs(steps - round(steps)) < 1e-9
        assert 0.64 <= window.duration <= 8 + STEP + 1e-9
        assert abs(window.first - window.start * config.latent_rate) <= 0.5
        assert window.num_latents <= config.lengths(8 + STEP).latent + 1


@given(duration=long_durations, config=configs)
def test_neighbours_overlap_by_a_fade(duration: float, config: ModelConfig) -> None:
    windows = plan_windows(duration, config)
    assert len(windows) > 1
    for before, after in itertools.pairwise(windows):
        assert before.start + 8.0 - after.start >= OVERLAP - 1e-9
        assert before.stop - after.first >= math.floor(OVERLAP * config.latent_rate) - 1


@given(duration=long_durations, config=configs)
def test_no_more_windows_than_needed(duration: float, config: ModelConfig) -> None:
    least = math.ceil((duration - 8.0) / (8.0 - OVERLAP) - 1e-6) + 1
    assert len(plan_windows(duration, config)) <= least + 1


@given(duration=st.floats(0.64, 8.32), config=configs)
def test_up_to_the_trained_length_there_is_one_window(duration: float, config: ModelConfig) -> None:
    assert plan_windows(duration, config) == [Window(0.0, duration, 0, config.lengths(duration).latent)]


@given(duration=durations, config=configs, per_latent=st.sampled_from((1, 2)))
def test_joining_equal_content_is_the_identity(duration: float, config: ModelConfig, per_latent: int) -> None:
    total = config.lengths(duration).latent
    whole = torch.randn(1, 2, total * per_latent, generator=torch.Generator().manual_seed(0))
    pieces = contents(plan_windows(duration, config), whole, per_latent)
    joined = join_windows(iter(pieces), total, per_latent=per_latent)
    torch.testing.assert_close(joined, whole, rtol=0, atol=1e-6)


@given(duration=long_durations, config=configs)
def test_a_join_has_no_step(duration: float, config: ModelConfig) -> None:
    windows = plan_windows(duration, config)
    pieces = [(each, torch.full((1, 1, each.num_latents), float(i))) for i, each in enumerate(windows)]
    joined = join_windows(pieces, config.lengths(duration).latent)[0, 0]
    slope = joined.diff()
    assert joined[0] == 0 and joined[-1] == len(windows) - 1
    assert slope.min() >= 0  # each moment belongs to one window or fades into the next
    assert slope.max() <= 1.01 / math.floor(OVERLAP * config.latent_rate)


def test_a_single_window_is_returned_as_it_is() -> None:
    content = torch.randn(1, 3, 63)
    (window,) = plan_windows(2.0, CONFIGS[0])
    assert join_windows([(window, content)], 63) is content


def test_joining_changes_no_argument_and_lets_gradients_through() -> None:
    config = CONFIGS[0]
    windows = plan_windows(12.0, config)
    contents = [torch.randn(1, 1, each.num_latents, requires_grad=True) for each in windows]
    before = [each.detach().clone() for each in contents]
    joined = join_windows(zip(windows, contents, strict=True), config.lengths(12.0).latent)
    joined.sum().backward()
    assert all(torch.equal(each, old) for each, old in zip(contents, before, strict=True))
    assert sum(each.grad.sum() for each in contents) == pytest.approx(joined.shape[-1])


def test_another_rate_moves_the_latents_not_the_seconds() -> None:
    slow = CONFIGS[0]
    fast = replace(slow, mel=replace(slow.mel, hop_length=128))
    assert [each.start for each in plan_windows(30, slow)] == [each.start for each in plan_windows(30, fast)]
