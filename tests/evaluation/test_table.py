import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selva_audio.evaluation.intervals import interval, mean_interval
from selva_audio.evaluation.table import as_json, columns, differences, means


def test_a_gap_is_left_out_of_a_mean_and_a_number_that_is_nowhere_is_none():
    rows = [{"a": 1.0, "b": None}, {"a": None, "b": None}, {"a": 3.0, "b": None, "c": 5.0}]
    assert means(rows) == {"a": 2.0, "b": None, "c": 5.0}
    assert {name: list(values) for name, values in columns(rows).items()} == {"a": [1, 3], "c": [5]}


def test_differences_are_of_the_clips_that_both_have():
    base = {"x": {"a": 1.0}, "y": {"a": 2.0}, "z": {"a": 3.0}}
    rows = {"x": {"a": 2.0}, "y": {"a": None}, "w": {"a": 90.0}, "z": {"a": 4.0, "b": 1.0}}
    assert differences(rows, base) == {"a": {"value": 1.0, "low": 1.0, "high": 1.0}}


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12))
def test_bounds_lie_within_the_values_and_around_most_of_the_mean(values):
    found = mean_interval(values)
    assert found.value == pytest.approx(np.mean(values), abs=1e-9)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_more_clips_give_narrower_bounds_that_cover_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(1)
    hits, widths = 0, {10: [], 40: []}
    for _ in range(200):
        for count, seen in widths.items():
            found = mean_interval(random.standard_normal(count))
            seen.append(found.high - found.low)
            hits += count == 40 and found.low <= 0 <= found.high
    assert 165 <= hits <= 195
    assert np.mean(widths[40]) == pytest.approx(np.mean(widths[10]) / 2, rel=0.15)


def test_a_number_of_a_set_has_bounds_that_ignore_what_is_no_number():
    found = interval(3, lambda chosen: math.nan if len(set(chosen)) == 1 else float(chosen.mean()))
    assert found.value == 1 and 0 < found.low <= found.high < 2


def test_json_has_no_number_that_is_not_finite():
    plain = as_json({"a": math.nan, "b": (1 / 3, math.inf), "c": 7, "d": None, "e": 1e-9 / 3})
    assert plain == {"a": None, "b": [0.333333, None], "c": 7, "d": None, "e": 3.33333e-10}
