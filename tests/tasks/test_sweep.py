"""Sweeps: what is encoded, kept, resumed, skipped and told.

Most of it does not depend on what is trained, and is told with a training that takes no time: a vector that
walks at random, with checkpoints as those of ``train_lora``. The last tests are with the real one.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from trainable_clips import write_clips

from selva_audio.errors import CheckpointError, InputError, MissingFileError
from selva_audio.options.sweep import parse_plan
from selva_audio.options.training import LoraOptions
from selva_audio.progress import Progress
from selva_audio.tasks.sweep import run_sweep, skip_experiment, sweep_status
from selva_audio.tasks.sweep_job import TRAININGS, Training, weights_digest
from selva_audio.tasks.train import train_lora
from selva_audio.training.checkpoints import read_checkpoint, write_checkpoint
from selva_audio.training.sweep import SUMMARY, read_summary
from selva_audio.training.sweep_skip import PACK_FLAG, REQUEST
from selva_audio.weights.io import write_object

FAST = {
    "steps": 4,
    "save_every": 2,
    "rank": 2,
    "target": "qkv",
    "batch_size": 1,
    "warmup_steps": 0,
    "val_fraction": 0.0,
    "sample_steps": 0,
}


class HostCancelled(Exception):
    """As a host makes its own to stop its nodes."""


def walk(model, data_dir, output_dir, options, *, clips, resume=None, should_stop=lambda: None, on_progress):
    """A training that takes no time."""
    if "nothing" in options.target:
        raise InputError("The target 'nothing' matches no layer.")
    before = read_checkpoint(resume) if resume else {"step": 0, "walk": torch.zeros(3), "losses": []}
    step, values, losses = before["step"], before["walk"], list(before["losses"])
    output_dir.mkdir(parents=True, exist_ok=True)

    def save(name):
        return write_checkpoint(output_dir / name, {"walk": values, "losses": losses}, step, {}, {})

    def result(path, status):
        return SimpleNamespace(
            adapter_path=path, status=status, steps=step, losses=losses, summary={"clips": len(clips)}
        )

    while step < options.steps:
        draw = torch.Generator().manual_seed(1000 * options.seed + step)
        values = values + options.lr * torch.randn(3, generator=draw)
        losses, step = [*losses, float(values.norm())], step + 1
        word = should_stop()
        try:
            on_progress(Progress("training", step, options.steps, {"loss": losses[-1]}))
        except BaseException:
            save(f"adapter_cancelled_step{step:05d}.pt")
            raise
        if word:
            return result(save("adapter_last.pt"), word)
        if step % options.save_every == 0:
            save(f"adapter_step{step:05d}.pt")
    path = output_dir / "adapter_final.pt"
    write_object(path, {"state_dict": {"walk": values}, "meta": {}})
    return result(path, "done")


class Sounds(SimpleNamespace):
    def __len__(self):
        return self.count


def listen(model, data_dir, *, pad, val_fraction, prepared, on_progress):
    """Encoding that takes no time; what was encoded once is known."""
    names = sorted(path.name for path in data_dir.glob("*.npz"))
    known = Path(os.environ["XDG_CACHE_HOME"]) / "known"
    known.mkdir(parents=True, exist_ok=True)
    encoded = 0
    for place, name in enumerate(names):
        on_progress(Progress(f"encoding {name}", place, len(names)))
        encoded += not (known / f"{name}.{pad}").exists()
        (known / f"{name}.{pad}").touch()
    if not names:
        raise MissingFileError(f"There is no clip in {data_dir}.")
    account = json.dumps([names, pad, val_fraction])
    return Sounds(count=len(names), fingerprint=hashlib.sha256(account.encode()).hexdigest(), encoded=encoded)


WALK = Training(walk, listen, ("pad", "val_fraction"), "adapter_path", "adapter")


@pytest.fixture
def walking(monkeypatch):
    monkeypatch.setitem(TRAININGS, "lora", WALK)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def plan(data, tmp_path):
    """``plan(experiments=...)`` in a folder of this test."""

    def make(*, base=None, **values):
        values = {"experiments": [{"id": "a"}, {"id": "b"}]} | values
        return parse_plan(
            {"kind": "lora", "data_dir": str(data), "output_root": str(tmp_path / "root")}
            | {"base": FAST | (base or {})}
            | values
        )

    return make


def tensors(folder):
    return torch.load(folder / "adapter_final.pt", weights_only=True)["state_dict"]


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def statuses(root):
    return {record["id"]: record["status"] for record in read_summary(root)["experiments"]}


class Watcher:
    """A progress callback that counts the steps of each experiment, and does something at one of them."""

    def __init__(self, at=None, action=None):
        self.steps = Counter()
        self._at, self._action = at, action

    def __call__(self, progress):
        name, _, stage = progress.stage.partition(": ")
        if stage == "training":
            self.steps[name] += 1
            if (name, self.steps[name]) == self._at:
                self._action()


def stop():
    raise HostCancelled


def test_what_is_done_is_not_done_again(walking, demo_model, plan):
    run_sweep(demo_model, plan())
    before = read_summary(plan().root)
    watcher = Watcher()
    result = run_sweep(demo_model, plan(), on_progress=watcher)
    assert not watcher.steps
    assert result.summary["experiments"] == before["experiments"]
    assert list(result.summary["encodings"].values()) == [1]


def test_a_changed_experiment_is_run_again_beside_its_earlier_files(walking, demo_model, plan):
    run_sweep(demo_model, plan())
    watcher = Watcher()
    result = run_sweep(
        demo_model, plan(experiments=[{"id": "a"}, {"id": "b", "lr": 1e-4}]), on_progress=watcher
    )
    assert set(watcher.steps) == {"b"} and result.ids("done") == ["a", "b"]
    assert (plan().root / "replaced" / "b_001" / "adapter_final.pt").is_file()
    assert any("b_001" in note for note in result.notes)


def test_changed_data_is_another_sweep(walking, demo_model, plan, data, tmp_path):
    shutil.copytree(data, tmp_path / "clips")
    sweep = plan(data_dir=str(tmp_path / "clips"), experiments=[{"id": "a"}])
    run_sweep(demo_model, sweep)
    (tmp_path / "clips" / "bell.npz").unlink()
    watcher = Watcher()
    result = run_sweep(demo_model, sweep, on_progress=watcher)
    assert watcher.steps["a"] == 4 and result.summary["n_clips"] == 2
    assert list(result.summary["encodings"].values()) == [1, 0]  # the two sounds were known


def test_clips_are_shared_by_experiments_that_prepare_them_alike(walking, demo_model, plan):
    listed = [{"id": "a"}, {"id": "b", "pad": "loop"}, {"id": "c"}, {"id": "d", "val_fraction": 0.4}]
    result = run_sweep(demo_model, plan(experiments=listed, base={"steps": 1, "save_every": 1}))
    assert list(result.summary["encodings"].values()) == [1, 1, 0]
    assert result.summary["encoded_clips"] == 6


@pytest.mark.parametrize("cancel", [HostCancelled, KeyboardInterrupt])
def test_cancelling_ends_the_sweep_within_a_step_and_the_next_run_goes_on(
    walking, demo_model, plan, cancel, tmp_path
):
    def raise_it():
        raise cancel

    watcher = Watcher(("b", 3), raise_it)
    with pytest.raises(cancel):
        run_sweep(demo_model, plan(), on_progress=watcher)
    root = plan().root
    assert watcher.steps == {"a": 4, "b": 3}
    assert statuses(root) == {"a": "done", "b": "cancelled"}
    assert read_summary(root)["completed_at"] is None
    watcher = Watcher()
    result = run_sweep(demo_model, plan(), on_progress=watcher)
    assert watcher.steps == {"b": 1}, "only the step that was missing"
    assert result.ids("done") == ["a", "b"]
    whole = plan(output_root=str(tmp_path / "whole"))
    run_sweep(demo_model, whole)
    assert_equal(tensors(root / "b"), tensors(whole.root / "b"))


def test_one_request_skips_exactly_one_experiment(walking, demo_model, plan):
    sweep = plan(experiments=[{"id": "a"}, {"id": "b"}, {"id": "c"}])
    watcher = Watcher(("b", 1), lambda: skip_experiment(sweep.root))
    result = run_sweep(demo_model, sweep, on_progress=watcher)
    assert statuses(sweep.root) == {"a": "done", "b": "skipped", "c": "done"}
    assert watcher.steps == {"a": 4, "b": 2, "c": 4}
    record = result.summary["experiments"][1]
    assert record["results"]["stopped_at_step"] == 2 and record["adapter_path"].endswith("adapter_last.pt")
    assert not (sweep.root / REQUEST).exists() and (sweep.root / f"{REQUEST}.handled").is_file()


def test_what_was_skipped_is_taken_up_only_when_it_is_asked_for(walking, demo_model, plan):
    sweep = plan()
    run_sweep(demo_model, sweep, on_progress=Watcher(("a", 1), lambda: skip_experiment(sweep.root)))
    watcher = Watcher()
    assert run_sweep(demo_model, sweep, on_progress=watcher).ids("skipped") == ["a"]
    assert not watcher.steps
    assert run_sweep(demo_model, sweep, again=True, on_progress=watcher).ids("done") == ["a", "b"]
    assert watcher.steps == {"a": 2}


def test_the_flag_of_the_pack_skips_the_one_that_runs(walking, demo_model, plan):
    sweep = plan()
    (sweep.root).mkdir()
    (sweep.root / PACK_FLAG).touch()  # left by an earlier run
    os.utime(sweep.root / PACK_FLAG, (1e9, 1e9))
    run_sweep(demo_model, sweep, on_progress=Watcher(("b", 1), (sweep.root / PACK_FLAG).touch))
    assert statuses(sweep.root) == {"a": "done", "b": "skipped"}
    assert not (sweep.root / PACK_FLAG).exists()


def test_a_request_during_encoding_is_kept_for_the_first_experiment(walking, demo_model, plan):
    sweep = plan(base={"steps": 2})
    asked = []

    def watch(progress):
        if progress.stage.startswith("encoding") and not asked:
            asked.append(skip_experiment(sweep.root))

    run_sweep(demo_model, sweep, on_progress=watch)
    assert statuses(sweep.root) == {"a": "skipped", "b": "done"}


def test_a_request_for_an_experiment_that_has_ended_skips_none(walking, demo_model, plan):
    sweep = plan(experiments=[{"id": "a", "steps": 2}, {"id": "b"}])
    # The last step of a: it ends before it looks again.
    run_sweep(demo_model, sweep, on_progress=Watcher(("a", 2), lambda: skip_experiment(sweep.root)))
    assert statuses(sweep.root) == {"a": "done", "b": "done"}


def test_a_failure_is_told_and_the_next_runs(walking, demo_model, plan):
    sweep = plan(experiments=[{"id": "bad", "target": "nothing"}, {"id": "good"}])
    result = run_sweep(demo_model, sweep)
    bad, good = result.summary["experiments"]
    assert (bad["status"], bad["results"]["status"], good["status"]) == ("failed", "failed", "done")
    assert "nothing" in bad["error"] and bad["error"] == bad["results"]["error"]
    assert result.summary["completed_at"]


def test_a_failure_ends_the_sweep_where_that_is_asked_for(walking, demo_model, plan):
    sweep = plan(experiments=[{"id": "bad", "target": "nothing"}, {"id": "good"}], on_error="stop")
    result = run_sweep(demo_model, sweep)
    assert statuses(sweep.root) == {"bad": "failed"}
    assert result.summary["pending"] == ["good"] and result.summary["completed_at"] is None


def test_what_failed_is_tried_again(walking, demo_model, plan, monkeypatch):
    monkeypatch.setitem(TRAININGS, "lora", replace(WALK, run=lambda *arguments, **named: 1 / 0))
    sweep = plan(experiments=[{"id": "a"}])
    assert "ZeroDivisionError" in run_sweep(demo_model, sweep).summary["experiments"][0]["error"]
    monkeypatch.setitem(TRAININGS, "lora", WALK)
    assert run_sweep(demo_model, sweep).ids("done") == ["a"]
    assert len(read_summary(sweep.root)["experiments"]) == 1


def test_a_training_that_changes_the_base_ends_the_sweep(plan, monkeypatch):
    from selva_audio.bundle import load_model

    model = load_model("demo_16k", device="cpu", precision="fp32")  # a copy of its own to be damaged

    def careless(model, *arguments, **named):
        with torch.no_grad():
            next(model.generator.parameters()).add_(1)
        raise InputError("It did not work.")

    monkeypatch.setitem(TRAININGS, "lora", replace(WALK, run=careless))
    with pytest.raises(CheckpointError, match="After a the weights of the base"):
        run_sweep(model, plan())
    assert statuses(plan().root) == {"a": "failed"}


def test_two_processes_cannot_run_one_sweep(walking, demo_model, plan):
    refused = []

    def again():
        with pytest.raises(InputError, match="Another process runs the sweep"):
            run_sweep(demo_model, plan())
        refused.append(True)

    run_sweep(demo_model, plan(), on_progress=Watcher(("a", 1), again))
    assert refused and statuses(plan().root) == {"a": "done", "b": "done"}


def test_skipping_needs_a_sweep_that_runs(walking, demo_model, plan, tmp_path):
    with pytest.raises(MissingFileError, match=SUMMARY):
        skip_experiment(tmp_path / "nowhere")
    sweep = plan(experiments=[{"id": "a", "steps": 1, "save_every": 1}])
    told = []

    def ask():
        with pytest.raises(InputError, match="'c' does not run now; a does"):
            skip_experiment(sweep.root, "c")
        told.append(sweep_status(sweep.root)["running"])

    run_sweep(demo_model, sweep, on_progress=Watcher(("a", 1), ask))
    with pytest.raises(InputError, match="No sweep runs"):
        skip_experiment(sweep.root)
    assert told == [True] and not sweep_status(sweep.root)["running"]


def test_a_killed_sweep_is_not_told_as_running(walking, demo_model, plan):
    with pytest.raises(HostCancelled):
        run_sweep(demo_model, plan(), on_progress=Watcher(("a", 1), stop))
    root = plan().root
    summary = read_summary(root)
    summary["experiments"][0]["status"] = "running"  # as kill -9 leaves it
    (root / SUMMARY).write_text(json.dumps(summary))
    assert sweep_status(root)["experiments"][0]["status"] == "cancelled"


def test_a_run_that_was_killed_before_its_result_was_written_is_finished(walking, demo_model, plan):
    sweep = plan(experiments=[{"id": "a"}])
    run_sweep(demo_model, sweep)
    whole = tensors(sweep.root / "a")
    (sweep.root / "a" / "adapter_final.pt").unlink()
    watcher = Watcher()
    run_sweep(demo_model, sweep, on_progress=watcher)
    assert watcher.steps == {"a": 2}
    assert_equal(tensors(sweep.root / "a"), whole)


def test_six_runs_encode_once_and_leave_the_base_as_it_was(demo_model, plan):
    before = weights_digest(demo_model)
    seen = []

    def watch(progress):
        summary = json.loads((six.root / SUMMARY).read_text())  # whole at any moment
        seen.append([record["status"] for record in summary["experiments"]])

    six = plan(experiments=(), base={"steps": 2}, grid={"lr": [1e-3, 1e-4, 1e-5]}, seeds=[1, 2])
    result = run_sweep(demo_model, six, on_progress=watch)
    summary = result.summary
    assert summary == json.loads(result.summary_path.read_text())
    assert len(result.ids("done")) == 6 and summary["pending"] == [] and summary["completed_at"]
    assert list(summary["encodings"].values()) == [1] and summary["encoded_clips"] == summary["n_clips"] == 3
    assert (
        {record["base_sha256"] for record in summary["experiments"]}
        == {before}
        == {
            summary["base_sha256"],
            weights_digest(demo_model),
        }
    )
    assert max(each.count("running") for each in seen) == 1 and seen[-1] == ["done"] * 6
    assert result.curves == six.root / "comparison_curves.png" and result.curves.stat().st_size > 5000
    assert all(0 < record["delta_norm"] < 1 for record in summary["experiments"])
    assert all(record["intruders"]["layers"] == 8 for record in summary["experiments"])
    assert all(record["peak_memory_gb"] > 0.1 for record in summary["experiments"])
    made = [tensors(six.root / name) for name in result.ids("done")]
    assert len({tuple(next(iter(each.values())).flatten().tolist()) for each in made}) == 6


def test_a_run_in_a_sweep_is_the_run_alone(demo_model, plan, data, tmp_path):
    sweep = plan(experiments=[{"id": "other", "seed": 3}, {"id": "same", "seed": 7}])
    run_sweep(demo_model, sweep)
    train_lora(demo_model, data, tmp_path / "alone", LoraOptions.parse(**FAST, seed=7))
    assert_equal(tensors(sweep.root / "same"), tensors(tmp_path / "alone"))


def test_mixup_and_noise_reach_the_training(demo_model, plan):
    changed = [
        {"id": "plain"},
        {"id": "mixup", "latent_mixup_alpha": 0.5},
        {"id": "noise", "latent_noise_sigma": 0.1},
    ]
    sweep = plan(experiments=changed, base={"steps": 2, "batch_size": 2})
    run_sweep(demo_model, sweep)
    plain, mixup, noise = (tensors(sweep.root / each["id"]) for each in changed)
    for other in (mixup, noise):
        assert any(not torch.equal(plain[key], other[key]) for key in plain)


@pytest.mark.slow
def test_an_evaluation_compares_the_base_and_what_is_done_once(demo_model, plan, monkeypatch):
    sweep = plan(
        experiments=[{"id": "bad", "target": "nothing"}, {"id": "good"}],
        base={"steps": 1},
        eval={"steps": 1, "max_clips": 1},
    )
    result = run_sweep(demo_model, sweep)
    told = json.loads(Path(result.summary["evaluation"]["summary_path"]).read_text())
    assert [row["id"] for row in told["adapters"]] == ["base", "good"]
    assert told["steps"] == 1 and told["n_clips"] == 1 and result.summary["completed_at"]
    assert (sweep.root / "evaluation" / "good").is_dir()
    again = run_sweep(demo_model, sweep)
    made = json.loads(Path(again.summary["evaluation"]["summary_path"]).read_text())
    assert made["started_at"] == told["started_at"], "the same comparison is not made again"
