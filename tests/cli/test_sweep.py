import json

import pytest
from trainable_clips import write_clips

from selva_audio.errors import InputError
from selva_audio.tasks.sweep_job import TRAININGS

TOY = ("--variant", "demo_16k", "--precision", "fp32", "--device", "cpu")
FAST = {"steps": 1, "rank": 1, "target": "qkv", "batch_size": 1, "val_fraction": 0.0, "sample_steps": 0}


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """``plan(**values)`` writes plan.json into the current folder."""
    monkeypatch.chdir(tmp_path)
    write_clips(tmp_path / "clips", ("bell",))

    def write(**values):
        listed = {"kind": "lora", "data_dir": "clips", "base": FAST, "experiments": [{"id": "a"}]} | values
        (tmp_path / "plan.json").write_text(json.dumps(listed))
        return tmp_path / "plan.json"

    return write


def test_a_sweep_is_run_and_told(selva, plan, tmp_path):
    result = selva("sweep", "run", plan(), *TOY, "--json")
    assert result.code == 0, result.err
    assert result.json["experiments"][0]["status"] == "done" and result.json["sweep_name"] == "plan"
    assert result.json["sweep_file"] == str(tmp_path / "plan.json")
    told = selva("sweep", "status", tmp_path / "lora_sweeps" / "plan")
    assert told.code == 0 and told.out.startswith("a: done, 1 steps, loss ")
    assert "does not run now" in told.err
    skipped = selva("sweep", "skip", tmp_path / "lora_sweeps" / "plan")
    assert skipped.code == 2 and "nothing to skip" in skipped.err


def test_a_failure_is_told_and_gives_exit_code_1(selva, plan, monkeypatch):
    def fail(*arguments, **named):
        raise InputError("The clips are too quiet.")

    monkeypatch.setitem(TRAININGS, "lora", TRAININGS["lora"].__class__(fail, *_rest(TRAININGS["lora"])))
    result = selva("sweep", "run", plan(), *TOY)
    assert result.code == 1
    assert "a: failed" in result.out and "The clips are too quiet." in result.err


def test_a_dry_run_shows_what_differs_and_writes_nothing(selva, plan, tmp_path):
    path = plan(experiments=[], grid={"rank": [2, 3]})
    result = selva("sweep", "run", path, "--dry-run")
    assert result.code == 0
    assert result.out.splitlines()[1:] == ["rank2: rank 2", "rank3: rank 3"]
    listed = selva("sweep", "run", path, "--dry-run", "--json").json
    assert [each["config"]["rank"] for each in listed["experiments"]] == [2, 3]
    assert not (tmp_path / "lora_sweeps").exists()


def test_a_file_of_the_pack_is_named_as_such(selva, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "old.json").write_text(json.dumps({"data_dir": "clips", "experiments": [{"id": "a"}]}))
    result = selva("sweep", "run", "old.json", "--dry-run")
    assert "defaults of the public pack" in result.err and "use_rslora True" in result.out


def test_a_wrong_key_is_one_sentence_and_exit_code_2(selva, plan):
    result = selva("sweep", "run", plan(base={"stepz": 4}), *TOY)
    assert result.code == 2 and "Did you mean 'steps'?" in result.err


def test_the_schema_is_printed(selva):
    schema = selva("sweep", "schema").json
    assert "rank" in schema["properties"]["base"]["properties"]
    tokens = selva("sweep", "schema", "--kind", "ti").json
    assert "n_tokens" in tokens["properties"]["base"]["properties"]


def _rest(training):
    return training.load, training.clip_settings, training.result, training.name
