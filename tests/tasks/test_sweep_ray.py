"""Sweeps on a Ray cluster of two machines that are processes of this one."""

import sys
from functools import partial

import pytest
import torch
from trainable_clips import write_clips

from selva_audio.bundle import load_model
from selva_audio.errors import CheckpointError, InputError, MissingFileError
from selva_audio.options.sweep import parse_plan
from selva_audio.tasks.sweep import run_sweep, skip_experiment
from selva_audio.tasks.sweep_job import weights_digest
from selva_audio.training.sweep import read_summary

LOAD = partial(load_model, "demo_16k", device="cpu", precision="fp32")
FAST = {
    "steps": 3,
    "save_every": 2,
    "rank": 2,
    "target": "qkv",
    "batch_size": 1,
    "warmup_steps": 0,
    "val_fraction": 0.0,
    "sample_steps": 0,
}


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason="Ray is not installed; `pip install selva-audio[scale]`")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # by default workers yield to whatever else runs
        made = Cluster(initialize_head=True, head_node_args=node)
        made.add_node(num_cpus=1, object_store_memory=10**8)
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def plan(tmp_path):
    write_clips(tmp_path / "clips")

    def make(root, **values):
        listed = [{"id": name, "seed": seed} for seed, name in enumerate("abc")]
        return parse_plan(
            {"kind": "lora", "data_dir": str(tmp_path / "clips"), "output_root": str(tmp_path / root)}
            | {"base": FAST, "experiments": listed}
            | values
        )

    return make


def tensors(folder):
    return torch.load(folder / "adapter_final.pt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_the_cluster_gives_the_adapters_that_this_machine_gives(cluster, demo_model, plan):
    here = run_sweep(demo_model, plan("here"))
    there = run_sweep(demo_model, plan("there"), engine="ray", load=LOAD)
    assert here.ids("done") == there.ids("done") == ["a", "b", "c"]
    assert list(here.summary["encodings"].values()) == [1]
    assert list(there.summary["encodings"].values()) == [0], "known from the first sweep"
    for name in "abc":
        one, other = tensors(here.root / name), tensors(there.root / name)
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    told = [record["config_hash"] for record in here.summary["experiments"]]
    assert told == [record["config_hash"] for record in there.summary["experiments"]]
    digests = {record["base_sha256"] for record in there.summary["experiments"]}
    assert digests == {weights_digest(demo_model)}


@pytest.mark.slow
def test_one_request_skips_one_of_those_that_run_on_the_cluster(cluster, demo_model, plan):
    sweep = plan("root", base=FAST | {"steps": 40})
    asked = []

    def watch(progress):
        running = [r for r in read_summary(sweep.root)["experiments"] if r["status"] == "running"]
        if len(running) == 2 and "training" in progress.stage and not asked:
            asked.append(skip_experiment(sweep.root))

    result = run_sweep(demo_model, sweep, engine="ray", load=LOAD, on_progress=watch)
    assert asked and len(result.ids("skipped")) == 1 and len(result.ids("done")) == 2


@pytest.mark.slow
def test_cancelling_saves_what_the_cluster_has_and_the_next_run_goes_on(cluster, demo_model, plan):
    sweep = plan("root", base=FAST | {"steps": 40, "save_every": 40})

    def watch(progress):
        if "training" in progress.stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(demo_model, sweep, engine="ray", load=LOAD, on_progress=watch)
    statuses = [record["status"] for record in read_summary(sweep.root)["experiments"]]
    assert statuses == ["cancelled", "cancelled"] and read_summary(sweep.root)["pending"] == ["c"]
    saved = [path.parent.name for path in sweep.root.rglob("adapter_cancelled_step*.pt")]
    assert saved
    result = run_sweep(demo_model, sweep, engine="ray", load=LOAD)
    assert result.ids("done") == ["a", "b", "c"]
    resumed = {record["id"]: record["resumed_from"] for record in result.summary["experiments"]}
    assert all(resumed[name] for name in saved)


@pytest.mark.slow
def test_a_machine_with_other_weights_is_refused(cluster, demo_model, plan):
    other = partial(load_model, "demo_16k", device="cpu", precision="bf16")
    with pytest.raises(CheckpointError, match="other weights"):
        run_sweep(demo_model, plan("root"), engine="ray", load=other)


def test_without_ray_a_sentence_says_what_to_install(demo_model, plan, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingFileError, match=r"pip install selva-audio\[scale\]"):
        run_sweep(demo_model, plan("root"), engine="ray", load=LOAD)


def test_a_cluster_needs_to_know_how_the_model_is_loaded(demo_model, plan):
    with pytest.raises(InputError, match="give load"):
        run_sweep(demo_model, plan("root"), engine="ray")
