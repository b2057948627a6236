import json
import os
import time
from datetime import UTC, datetime

import pytest

from selva_audio.training.sweep_skip import HANDLED, PACK_FLAG, REQUEST, Moment, SkipWatch, write_request


def watch(root, *, since=None, run_id="run", experiment_id="a"):
    return SkipWatch(root, run_id, experiment_id, since or Moment(time.time() - 1, None))


def test_one_request_is_seen_once_and_set_aside(tmp_path):
    looks = watch(tmp_path)
    assert looks() is None
    write_request(tmp_path, "run", "a")
    assert looks() == "skipped"
    assert looks() is None
    assert not (tmp_path / REQUEST).exists() and (tmp_path / HANDLED).is_file()
    assert watch(tmp_path, experiment_id="b")() is None


def test_of_two_that_look_at_the_same_moment_only_one_gets_the_request(tmp_path):
    looks = [watch(tmp_path, experiment_id=name) for name in "ab"]
    write_request(tmp_path, "run", None)
    assert [each() for each in looks] == ["skipped", None]


@pytest.mark.parametrize(
    "request_of",
    [
        {"run_id": "earlier"},
        {"experiment_id": "b"},
        {"time": time.time() - 5},
        {"time": None},
        {"run_id": None},
    ],
)
def test_a_request_to_another_run_experiment_or_time_is_left_alone(tmp_path, request_of):
    asked = {"run_id": "run", "experiment_id": "a", "time": time.time()} | request_of
    (tmp_path / REQUEST).write_text(json.dumps(asked))
    assert watch(tmp_path)() is None
    assert (tmp_path / REQUEST).is_file()


def test_a_stale_request_does_not_hide_a_later_one(tmp_path):
    looks = watch(tmp_path)
    write_request(tmp_path, "earlier", None)
    assert looks() is None
    write_request(tmp_path, "run", None)
    assert looks() == "skipped"


def test_times_as_text_are_understood(tmp_path):
    asked = {"run_id": "run", "experiment_id": None, "time": datetime.now(UTC).isoformat()}
    (tmp_path / REQUEST).write_text(json.dumps(asked))
    assert watch(tmp_path)() == "skipped"


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"time": "soon"}'])
def test_a_damaged_request_is_left_alone(tmp_path, text):
    (tmp_path / REQUEST).write_text(text)
    assert watch(tmp_path)() is None


def test_the_flag_of_the_pack_is_honoured_once_and_deleted(tmp_path):
    looks = watch(tmp_path, since=Moment.now(tmp_path))
    (tmp_path / PACK_FLAG).touch()
    assert [looks(), looks()] == ["skipped", None]
    assert not (tmp_path / PACK_FLAG).exists()


def test_a_flag_from_before_counts_only_when_it_is_touched_again(tmp_path):
    (tmp_path / PACK_FLAG).touch()
    looks = watch(tmp_path, since=Moment.now(tmp_path))
    assert looks() is None and (tmp_path / PACK_FLAG).is_file()
    os.utime(tmp_path / PACK_FLAG, (time.time() + 1, time.time() + 1))
    assert looks() == "skipped"


def test_a_flag_that_is_older_than_the_run_is_left_alone(tmp_path):
    looks = watch(tmp_path, since=Moment.now(tmp_path))
    (tmp_path / PACK_FLAG).touch()
    os.utime(tmp_path / PACK_FLAG, (1e9, 1e9))
    assert looks() is None
