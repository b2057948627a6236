import json
import math

import pytest

from selva_audio.errors import InputError, MissingFileError
from selva_audio.options import VocoderOptions
from selva_audio.options.sweep import OPTIONS, PATHS, Experiment
from selva_audio.options.training import LoraOptions
from selva_audio.training.checkpoints import write_checkpoint
from selva_audio.training.sweep import (
    CURVES,
    SUMMARY,
    Ledger,
    Outcome,
    config_hash,
    curve,
    read_summary,
    resumable,
)
from selva_audio.training.sweep_figure import comparison_figure

PLANNED = ("a", "b")


def open_ledger(root, planned=PLANNED):
    root.mkdir(exist_ok=True)
    return Ledger(root, {"sweep_name": "s"}, planned, result_key="adapter_path")


def experiment(name="a", **settings):
    return Experiment(name, LoraOptions.parse(**settings))


def run(ledger, name="a", digest="1", status="done", **details):
    """What the ledger hears of one experiment, which leaves its file."""
    ledger.start(experiment(name), digest, resumed_from=None)
    folder = ledger.root / name
    folder.mkdir(exist_ok=True)
    result = folder / ("adapter_final.pt" if status == "done" else "adapter_last.pt")
    result.touch()
    ledger.finish(name, Outcome(status, 4, [4.0, 3.0, 2.0, 1.0], result, details), seconds=2.0)


def statuses(root):
    return {record["id"]: record["status"] for record in read_summary(root)["experiments"]}


def test_the_summary_is_true_at_every_change(tmp_path):
    ledger = open_ledger(tmp_path)
    assert read_summary(tmp_path)["pending"] == ["a", "b"] and statuses(tmp_path) == {}
    ledger.start(experiment("a"), "1", resumed_from=None)
    assert read_summary(tmp_path)["pending"] == ["b"] and statuses(tmp_path) == {"a": "running"}
    ledger.finish("a", Outcome("failed", error="No."), seconds=1.0)
    assert statuses(tmp_path) == {"a": "failed"}
    assert read_summary(tmp_path) == json.loads(json.dumps(ledger.summary))


def test_a_record_tells_what_users_of_the_pack_look_for(tmp_path):
    ledger = open_ledger(tmp_path)
    ledger.start(experiment("a", rank=3, save_every=2), "1", resumed_from=None)
    told = {"final_loss": 1.5, "min_loss": 1.2, "loss_history": [1.5], "log_interval": 50, "layers": 7}
    file = tmp_path / "a" / "adapter_final.pt"
    ledger.finish("a", Outcome("done", 4, [2.0, 1.0], file, told), seconds=2.0, base_sha256="b")
    (record,) = read_summary(tmp_path)["experiments"]
    assert record["config"]["rank"] == 3 and record["adapter_path"] == str(file)
    assert record["results"] == {
        "status": "completed",
        "final_loss": 1.5,
        "min_loss": 1.2,
        "loss_history": [1.5],
        "log_interval": 50,
        "duration_seconds": 2.0,
    }
    assert (record["status"], record["final_loss"], record["min_loss"]) == ("done", 1.5, 1.2)
    assert (record["steps"], record["seconds"], record["layers"]) == (4, 2.0, 7)
    assert record["base_sha256"] == "b" and record["curve"]["steps"] == [1, 2]


def test_skipped_and_failed_runs_tell_why_as_the_pack_does(tmp_path):
    ledger = open_ledger(tmp_path)
    run(ledger, "a", status="skipped")
    ledger.start(experiment("b"), "1", resumed_from=None)
    ledger.finish("b", Outcome("failed", error="It broke."), seconds=1.0)
    first, second = read_summary(tmp_path)["experiments"]
    assert first["results"]["status"] == "skipped" and first["results"]["stopped_at_step"] == 4
    assert second["results"] == {"status": "failed", "error": "It broke.", "duration_seconds": 1.0}
    assert second["error"] == "It broke."


def test_numbers_that_json_lacks_leave_a_summary_that_can_be_read(tmp_path):
    ledger = open_ledger(tmp_path)
    run(ledger, "a", best={"loss": math.inf}, series=[math.nan, 1.0])
    text = (tmp_path / SUMMARY).read_text()
    (record,) = json.loads(text, parse_constant=pytest.fail)["experiments"]
    assert record["best"] == {"loss": None} and record["series"] == [None, 1.0]


def test_details_cannot_overwrite_the_account(tmp_path):
    ledger = open_ledger(tmp_path)
    run(ledger, "a", status="done", config={"rank": 99}, id="z", norm=2.5)
    (record,) = read_summary(tmp_path)["experiments"]
    assert record["id"] == "a" and record["config"]["rank"] == 16 and record["norm"] == 2.5


def test_what_is_done_with_the_same_settings_is_kept(tmp_path):
    run(open_ledger(tmp_path), "a", "1")
    ledger = open_ledger(tmp_path)
    assert ledger.decide("a", "1", again=False) == "keep"
    assert ledger.decide("b", "1", again=False) == "begin"


def test_what_is_done_is_run_again_when_its_file_is_gone(tmp_path):
    run(open_ledger(tmp_path), "a", "1")
    (tmp_path / "a" / "adapter_final.pt").unlink()
    assert open_ledger(tmp_path).decide("a", "1", again=False) == "resume"


@pytest.mark.parametrize("status", ["failed", "cancelled", "running"])
def test_what_is_half_done_is_resumed(tmp_path, status):
    ledger = open_ledger(tmp_path)
    if status == "running":  # as kill -9 leaves it
        ledger.start(experiment("a"), "1", resumed_from=None)
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "adapter_step00002.pt").touch()
    else:
        run(ledger, "a", "1", status)
    ledger = open_ledger(tmp_path)
    assert ledger.decide("a", "1", again=False) == "resume"
    assert "running" not in statuses(tmp_path).values()


def test_what_was_skipped_stays_so_until_it_is_asked_for(tmp_path):
    run(open_ledger(tmp_path), "a", "1", "skipped")
    ledger = open_ledger(tmp_path)
    assert ledger.decide("a", "1", again=False) == "keep"
    assert ledger.decide("a", "1", again=True) == "resume"


def test_what_other_settings_left_is_moved_aside_and_nothing_is_lost(tmp_path):
    for digest in "12":
        ledger = open_ledger(tmp_path)
        if digest == "2":
            assert ledger.decide("a", digest, again=False) == "replace"
            ledger.set_aside("a")
        run(ledger, "a", digest)
    ledger = open_ledger(tmp_path)
    assert ledger.decide("a", "3", again=False) == "replace"
    assert ledger.set_aside("a") == tmp_path / "replaced" / "a_002"
    kept = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("adapter_final.pt"))
    assert kept == ["replaced/a_001/adapter_final.pt", "replaced/a_002/adapter_final.pt"]
    assert statuses(tmp_path) == {"a": "done"}  # until the next change is written
    assert ledger.summary["experiments"] == []


def test_a_folder_that_nobody_accounts_for_is_moved_aside(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "precious.txt").touch()
    ledger = open_ledger(tmp_path)
    assert ledger.decide("a", "1", again=False) == "replace"


def test_a_restart_keeps_one_record_for_each_experiment(tmp_path):
    for _ in range(3):
        run(open_ledger(tmp_path), "a", "1", "failed")
    assert [record["id"] for record in read_summary(tmp_path)["experiments"]] == ["a"]


def test_seconds_add_up_over_restarts_and_the_first_start_is_kept(tmp_path):
    run(open_ledger(tmp_path), "a", "1", "cancelled")
    started = read_summary(tmp_path)["started_at"]
    run(open_ledger(tmp_path), "a", "1")
    summary = read_summary(tmp_path)
    assert summary["experiments"][0]["seconds"] == 4.0 and summary["started_at"] == started


def test_each_process_has_a_run_id_of_its_own(tmp_path):
    assert open_ledger(tmp_path).run_id != open_ledger(tmp_path).run_id


def test_records_of_experiments_that_left_the_plan_stay_behind_the_others(tmp_path):
    run(open_ledger(tmp_path, ("old", "b")), "old")
    ledger = open_ledger(tmp_path, ("a", "b"))
    run(ledger, "b")
    assert list(statuses(tmp_path)) == ["b", "old"]


def test_encodings_are_counted_over_restarts(tmp_path):
    open_ledger(tmp_path).count_encoding("f", clips=12, encoded=12)
    open_ledger(tmp_path).count_encoding("f", clips=12, encoded=0)
    summary = read_summary(tmp_path)
    assert (summary["encodings"], summary["encoded_clips"], summary["n_clips"]) == ({"f": 1}, 12, 12)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"experiments": 3}', '{"experiments": ["a"]}'])
def test_a_summary_that_is_none_is_refused_not_overwritten(tmp_path, text):
    (tmp_path / SUMMARY).write_text(text)
    with pytest.raises(InputError, match="is no summary"):
        open_ledger(tmp_path)
    assert (tmp_path / SUMMARY).read_text() == text


def test_a_folder_without_a_sweep_is_told(tmp_path):
    with pytest.raises(MissingFileError, match=r"experiment_summary\.json"):
        read_summary(tmp_path)


def test_the_hash_follows_everything_that_the_result_depends_on():
    def digest(kind="lora", name="a", base="b", data="d", **settings):
        return config_hash(kind, experiment(name, **settings), base=base, data=data)

    same = digest()
    assert digest(name="other") == same
    assert len({same, digest(rank=3), digest(base="c"), digest(data="e"), digest(seed=1)}) == 5


def test_the_hash_follows_the_content_of_files_that_a_plan_names(tmp_path):
    def digest(**settings):
        each = experiment(**settings)
        return config_hash("lora", each, base="b", data="d")

    folder = tmp_path / "other"
    prior = {"prior_dir": str(folder), "prior_preservation": 1.0}
    found = [digest(**prior)]  # before there is one: the training itself tells of it
    (folder / "val").mkdir(parents=True)
    for path, content in (("a.wav", b"1"), ("a.wav", b"2"), ("val/a.npz", b"1"), ("val/b.npz", b"1")):
        (folder / path).write_bytes(content)
        found += [digest(**prior)]
    (folder / "val" / "b.npz").rename(folder / "val" / "c.npz")
    found += [digest(**prior)]
    assert len(set(found)) == len(found)
    (folder / "val" / "c.npz").touch()
    assert digest(**prior) == found[-1]
    (tmp_path / "adapter.pt").write_bytes(b"1")
    vocoder = Experiment("v", VocoderOptions(lora_adapter=str(tmp_path / "adapter.pt")))
    before = config_hash("vocoder", vocoder, base="b", data="d")
    (tmp_path / "adapter.pt").write_bytes(b"2")
    assert config_hash("vocoder", vocoder, base="b", data="d") != before


def test_every_setting_that_is_a_path_is_known_as_one():
    names = {name for options in OPTIONS.values() for name in options.model_fields}
    assert {name for name in names if name.endswith(("_dir", "_path", "_adapter"))} == set(PATHS)


def test_a_curve_is_smoothed_and_thinned_to_what_a_picture_shows():
    assert curve([2.0] * 7) == {"steps": [1, 2, 3, 4, 5, 6, 7], "loss": [pytest.approx(2.0)] * 7}
    long = curve([1.0] * 5000 + [0.5] * 5000)
    assert len(long["steps"]) == len(long["loss"]) <= 200
    assert (long["steps"][0], long["steps"][-1]) == (1, 10_000)
    assert long["loss"][0] == pytest.approx(1.0) and long["loss"][-1] == pytest.approx(0.5)
    assert curve([]) == {"steps": [], "loss": []}


@pytest.mark.parametrize("last", ["adapter_last.pt", "adapter_step00020.pt"])
def test_a_run_that_lacks_only_its_result_goes_on_from_the_checkpoint_before(tmp_path, last):
    for name, step in (("adapter_step00010.pt", 10), ("adapter_step00015.pt", 15), (last, 20)):
        write_checkpoint(tmp_path / name, {}, step, {}, {})
    assert resumable(tmp_path, 30) == tmp_path / last
    assert resumable(tmp_path, 20) == tmp_path / "adapter_step00015.pt"
    assert resumable(tmp_path, 10) is None


def test_the_figure_has_a_line_for_each_experiment_with_losses(tmp_path):
    ledger = open_ledger(tmp_path)
    assert comparison_figure(ledger.summary) is None
    run(ledger, "a")
    run(ledger, "b", status="skipped")
    (axis,) = comparison_figure(ledger.summary).axes
    assert [line.get_label() for line in axis.lines] == ["a", "b (skipped)"]
    assert list(axis.lines[0].get_xdata()) == [1, 2, 3, 4]
    assert CURVES == "comparison_curves.png"
