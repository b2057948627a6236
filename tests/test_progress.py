import pytest
from hypothesis import given
from hypothesis import strategies as st

from selva_audio.progress import Cancelled, Progress, ignore_progress, subtask


@given(
    start=st.floats(0, 1),
    end=st.floats(0, 1),
    step=st.integers(-5, 50),
    total=st.integers(0, 40),
)
def test_a_subtask_stays_in_its_share_of_the_bar(start: float, end: float, step: int, total: int) -> None:
    low, high = sorted((start, end))
    seen: list[Progress] = []
    subtask(seen.append, low, high)(Progress("sampling", step, total, {"loss": 1.0}))
    (report,) = seen
    assert report.total == 1000
    assert round(low * 1000) <= report.step <= round(high * 1000)
    assert (report.stage, report.metrics) == ("sampling", {"loss": 1.0})


def test_subtasks_follow_each_other_in_one_rising_bar() -> None:
    seen: list[Progress] = []
    for share in (subtask(seen.append, 0, 0.3), subtask(seen.append, 0.3, 1)):
        for step in range(5):
            share(Progress("work", step, 4))
    steps = [report.step for report in seen]
    assert steps == sorted(steps)
    assert (steps[0], steps[4], steps[5], steps[-1]) == (0, 300, 300, 1000)


def test_a_raising_callback_goes_through() -> None:
    def cancel(progress: Progress) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        subtask(subtask(cancel, 0, 1), 0.5, 1)(Progress("work", 1, 2))


def test_the_default_callback_does_nothing() -> None:
    assert ignore_progress(Progress("work", 1, 2)) is None
