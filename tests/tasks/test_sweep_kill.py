"""A sweep that is killed while it runs, in processes of its own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from trainable_clips import write_clips

from selva_audio.options.training import LoraOptions
from selva_audio.tasks.sweep import skip_experiment, sweep_status
from selva_audio.tasks.sweep_job import weights_digest
from selva_audio.tasks.train import train_lora
from selva_audio.training.sweep import SUMMARY

FAST = {
    "steps": 12,
    "save_every": 3,
    "rank": 2,
    "target": "qkv",
    "batch_size": 1,
    "warmup_steps": 0,
    "val_fraction": 0.0,
    "sample_steps": 0,
}
PLAN = {
    "name": "six",
    "kind": "lora",
    "data_dir": "clips",
    "output_root": "root",
    "base": FAST,
    "grid": {"lr": [1e-3, 1e-4, 1e-5]},
    "seeds": [1, 2],
}
COMMAND = ["-c", "from selva_audio.cli import main; main()", "sweep", "run", "plan.json"]
MODEL = ["--variant", "demo_16k", "--device", "cpu", "--precision", "fp32"]
PATIENCE = 600


def begin(folder):
    return subprocess.Popen(
        [sys.executable, *COMMAND, *MODEL], cwd=folder, stderr=subprocess.PIPE, env={**os.environ}
    )


def wait_for(root, condition, process):
    """Poll the summary until the condition holds of it; it is whole each time."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if (root / SUMMARY).is_file():
            summary = json.loads((root / SUMMARY).read_text())
            if condition(summary):
                return summary
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.01)
    pytest.fail("the sweep did not get there")


def running(summary):
    return [record["id"] for record in summary["experiments"] if record["status"] == "running"]


@pytest.mark.slow
def test_six_runs_survive_a_skip_and_a_kill(tmp_path, demo_model):
    root = tmp_path / "root"
    write_clips(tmp_path / "clips")
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    process = begin(tmp_path)
    try:
        names = ["lr0.001_seed1", "lr0.001_seed2", "lr0.0001_seed1"]
        wait_for(root, lambda summary: running(summary) == names[:1], process)
        skip_experiment(root)
        wait_for(root, lambda summary: running(summary) == names[2:], process)
        wait_for(root, lambda _: (root / names[2] / "adapter_step00006.pt").is_file(), process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    killed = sweep_status(root)
    assert not killed["running"]
    assert [record["status"] for record in killed["experiments"]] == ["skipped", "done", "cancelled"]
    again = begin(tmp_path)
    _, told = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, told.decode()
    summary = json.loads((root / SUMMARY).read_text())
    statuses = [record["status"] for record in summary["experiments"]]
    assert statuses == ["skipped", *["done"] * 5] and summary["pending"] == []
    assert list(summary["encodings"].values()) == [1] and summary["encoded_clips"] == 3
    assert summary["run_id"] != killed["run_id"] and summary["started_at"] == killed["started_at"]
    assert {record["base_sha256"] for record in summary["experiments"]} == {weights_digest(demo_model)}
    resumed = {record["id"]: record["resumed_from"] for record in summary["experiments"]}
    assert resumed[names[2]].endswith("adapter_step00006.pt") or resumed[names[2]].endswith("00009.pt")
    assert summary["experiments"][1] == killed["experiments"][1], "done is left alone"

    options = LoraOptions.parse(**FAST, lr=1e-4, seed=1)
    train_lora(demo_model, tmp_path / "clips", tmp_path / "whole", options)
    one, other = (
        torch.load(folder / "adapter_final.pt", weights_only=True)["state_dict"]
        for folder in (root / names[2], tmp_path / "whole")
    )
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
