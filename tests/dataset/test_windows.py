from hypothesis import given
from hypothesis import strategies as st

from selva_audio.dataset.windows import Window, plan_windows

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
