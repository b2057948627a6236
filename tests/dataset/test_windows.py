from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selva_audio.dataset.windows import Window, find_cuts, plan_windows

TIMES = st.lists(st.floats(0, 60), max_size=8)


def test_a_video_up_to_a_window_is_one_clip_cuts_and_all() -> None:
    for seconds in (0.3, 5.0, 8.0):
        assert plan_windows(seconds, window=8, shortest=1, cuts=[2.0]) == [Window(0.0, seconds)]


def test_a_long_video_is_cut_one_after_another_and_a_short_rest_dropped() -> None:
    assert plan_windows(20.0, window=8, shortest=1) == [Window(0, 8), Window(8, 8), Window(16, 4)]
    assert plan_windows(16.5, window=8, shortest=1) == [Window(0, 8), Window(8, 8)]


def test_windows_begin_anew_at_a_cut() -> None:
    assert plan_windows(20.0, window=8, shortest=1, cuts=[5.0]) == [Window(0, 5), Window(5, 8), Window(13, 7)]
    assert plan_windows(9.0, window=8, shortest=1, cuts=[0.5]) == [Window(0.5, 8)]


def test_onsets_are_centred_as_far_as_the_video_allows() -> None:
    found = plan_windows(60.0, window=8, shortest=1, onsets=[1.0, 30.0, 31.0, 59.0])
    assert found == [Window(0, 8), Window(26, 8), Window(52, 8)]


def test_without_an_onset_there_is_nothing_to_centre_on() -> None:
    assert plan_windows(60.0, window=8, shortest=1, onsets=[]) == []


@given(st.floats(1, 60), st.floats(1, 10), st.floats(0.1, 2), TIMES, st.none() | TIMES)
def test_windows_lie_inside_do_not_overlap_and_reach_over_no_cut(duration, window, shortest, cuts, onsets):
    onsets = None if onsets is None else sorted(onsets)
    found = plan_windows(duration, window=window, shortest=shortest, cuts=cuts, onsets=onsets)
    ends = [each.start + each.duration for each in found]
    assert all(each.start >= end - 1e-5 for each, end in zip(found[1:], ends, strict=False))
    assert all(each.start >= 0 and end <= duration + 1e-5 for each, end in zip(found, ends, strict=True))
    if duration > window + 1e-2:
        assert all(shortest - 1e-2 <= each.duration <= window + 1e-5 for each in found)
        for cut in cuts:
            assert not any(
                each.start + 1e-4 < cut < end - 1e-4 for each, end in zip(found, ends, strict=True)
            )
        if onsets is not None:
            assert all(
                any(each.start - 1e-4 <= onset <= each.start + each.duration + 1e-4 for onset in onsets)
                for each in found
            )


def scenes(number: int) -> np.ndarray:
    """Three pictures, each of 20 frames, in which a small square moves."""
    level = (40, 200, 90)[number // 20 % 3]
    pixels = np.full((48, 64, 3), level, np.uint8)
    pixels[10:20, number % 20 : number % 20 + 10] = 255 - level
    return pixels


def test_hard_cuts_are_found_at_their_time_and_motion_is_none(make_clip, tmp_path: Path) -> None:
    cuts, duration = find_cuts(make_clip(tmp_path / "x.mp4", np.arange(60) / 25, pictures=scenes))
    assert cuts == pytest.approx([0.8, 1.6], abs=0.041)
    assert duration == pytest.approx(2.4, abs=0.01)
    still = make_clip(tmp_path / "y.mp4", np.arange(19) / 25, pictures=scenes)
    assert find_cuts(still)[0] == ()


def test_a_picture_that_always_changes_has_no_cuts(make_clip, tmp_path: Path) -> None:
    flicker = lambda number: np.full((48, 64, 3), 220 if number % 2 else 30, np.uint8)
    assert find_cuts(make_clip(tmp_path / "x.mp4", np.arange(40) / 25, pictures=flicker))[0] == ()
