"""The grid rule, as laws over arbitrary frame times."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selva_audio.media.grid import GridSampler, Shown

frame_times = st.lists(st.floats(0.001, 0.7), min_size=1, max_size=60).map(
    lambda gaps: [sum(gaps[: n + 1]) - gaps[0] for n in range(len(gaps))]
)
rates = st.sampled_from([5.0, 8.0, 12.5, 25.0, 29.97, 60.0])


def _sampled(times, rates, seconds=0.0, **kwargs):
    sampler = GridSampler((Shown(t, seconds, n) for n, t in enumerate(times)), rates, **kwargs)
    return list(sampler), sampler


@given(frame_times, rates, st.floats(0, 3))
def test_each_grid_time_takes_the_first_frame_at_or_after_it(times, rate, offset) -> None:
    times = [time + offset for time in times]
    samples, _ = _sampled(times, [rate])
    grid = 0.0
    for number, sample in enumerate(samples):
        assert sample.index == number
        assert sample.source == next(n for n, time in enumerate(times) if time >= grid)
        assert sample.frame == sample.source
        grid += 1 / rate
    assert grid > times[-1]


@given(frame_times, rates, st.floats(0.01, 5))
def test_frames_after_the_end_are_not_looked_at(times, rate, end) -> None:
    samples, _ = _sampled(times, [rate], end=end)
    kept, _ = _sampled([time for time in times if time <= end], [rate])
    assert [sample.source for sample in samples] == [sample.source for sample in kept]


@given(frame_times, rates, st.floats(0.01, 0.5))
def test_the_last_frame_fills_the_grid_to_the_end_of_the_picture_and_no_further(times, rate, last) -> None:
    samples, sampler = _sampled(times, [rate], seconds=last, repeat_last=True, frame_seconds=last)
    assert sampler.end_time == pytest.approx(times[-1] + last)
    assert sampler.num_frames == len(times)
    count = len(samples)
    assert (count - 1) / rate <= max(times[-1], sampler.end_time) + 1e-6
    assert count / rate >= sampler.end_time - 1e-5
    assert [sample.index for sample in samples] == list(range(count))


@given(frame_times, st.floats(0, 2), st.floats(0.05, 3))
def test_a_later_start_gives_no_flood_of_first_frames(times, start, duration) -> None:
    samples, sampler = _sampled(times, [25.0], start=start, end=start + duration, repeat_last=True)
    assert len(samples) <= duration * 25 + 1
    for sample in samples:
        assert sample.time >= start or sample.source == sampler.num_frames - 1


@given(st.integers(5, 120), st.integers(1, 200))
def test_a_constant_rate_source_keeps_its_times_to_one_frame(fps, count) -> None:
    times = [float(Fraction(n, fps)) for n in range(count)]
    samples, sampler = _sampled(times, [25.0, 8.0], seconds=1 / fps, repeat_last=True)
    for sample in samples:
        grid = sample.index / sample.rate
        assert sample.source == count - 1 or 0 <= sample.time - grid + 1e-9 <= 1 / fps + 2e-9
    assert sampler.end_time == pytest.approx(count / fps)


def test_samples_of_one_frame_come_in_the_order_of_the_rates() -> None:
    samples, _ = _sampled([0.0, 1.0], [8, 25])
    assert [sample.rate for sample in samples[:3]] == [8, 25, 8]


def test_a_single_frame_without_length_lasts_the_default() -> None:
    samples, sampler = _sampled([0.0], [25.0], repeat_last=True, frame_seconds=0.5)
    assert sampler.end_time == 0.5
    assert len(samples) == 13
