"""SelvaTiScheduler and SelvaBigvganScheduler over the stand-in: series of files, the pack's and ours."""

# ruff: noqa: F401, F811 - fixtures are imported by name

import json
from pathlib import Path

import pytest
from comfyui.test_style_nodes import data, during, sounds, style  # fixtures

from selva_audio.errors import InputError, SelVAError

TOKENS = {"steps": 2, "n_tokens": 2, "batch_size": 2, "warmup_steps": 0, "save_every": 2, "val_fraction": 0.0,
          "sample_steps": 0}  # fmt: skip
VOCODER = {"steps": 2, "batch_size": 2, "segment_seconds": 0.25, "save_every": 2, "val_fraction": 0.0,
           "grad_checkpoint": False}  # fmt: skip


@pytest.fixture
def series(nodes, model, comfy):
    """Write a plan and run its node."""

    def run(node, again=False, **values):
        (comfy.base / "models" / "plan.json").write_text(json.dumps(values))
        return nodes[node].execute(model, "plan.json", again).args

    return run


def configs(summary):
    return {each["id"]: each["config"] for each in json.loads(Path(summary).read_text())["experiments"]}


def test_a_series_of_tokens_is_trained_once_and_told(series, data, comfy):
    """A file that does not tell its kind is of the node's, with the public pack's defaults."""
    listed = [{"id": "a", "group": "x"}, {"id": "b", "inject_mode": "prefix"}]
    path, curves, report = series("SelvaTiScheduler", data_dir=str(data), base=TOKENS, experiments=listed)
    root = comfy.base / "output" / "ti_sweeps" / "plan"
    assert Path(path) == root / "experiment_summary.json"
    assert report.splitlines()[:2] == ["a: done", "b: done"]
    assert curves.max() > 0 and comfy.previews
    found = configs(path)
    assert [found["b"][name] for name in ("space", "timestep_mode", "inject_mode", "lr")] == [
        "feature", "uniform", "prefix", 2e-4]  # fmt: skip
    before = (root / "a" / "embeddings_final.pt").stat().st_mtime_ns
    series("SelvaTiScheduler", data_dir=str(data), base=TOKENS, experiments=listed)
    assert (root / "a" / "embeddings_final.pt").stat().st_mtime_ns == before


def test_a_series_of_vocoders_finds_its_files_where_the_pack_meant_them(series, sounds, comfy, style):
    """COMPAT 2.10: lora_adapter in ComfyUI's own folder, discriminator_path in output."""
    (comfy.base / "a.pt").write_bytes(style["adapter"].read_bytes())
    listed = [
        {"id": "plain"},
        {"id": "odd", "lora_adapter": "a.pt"},
        {"id": "none", "discriminator_path": "d.pt"},
    ]
    path, _, report = series("SelvaBigvganScheduler", data_dir=str(sounds), base=VOCODER, experiments=listed)
    assert Path(path).parent == comfy.base / "output" / "bigvgan_sweeps" / "plan"
    assert report.splitlines()[:3] == ["plain: done", "odd: failed", "none: failed"]
    found = configs(path)
    assert found["odd"]["lora_adapter"] == str(comfy.base / "a.pt")
    assert [found["plain"][name] for name in ("use_gafilter", "lambda_phase", "seed")] == [True, 1.0, 42]
    assert (Path(path).parent / "plain" / "vocoder_final.pt").is_file()


def test_a_grid_of_ours_keeps_our_defaults(series, sounds, comfy):
    plan = {"kind": "vocoder", "data_dir": str(sounds), "base": VOCODER, "grid": {"lr": [1e-3, 1e-2]}}
    found = configs(series("SelvaBigvganScheduler", **plan)[0])
    assert sorted(found) == ["lr0.001", "lr0.01"]
    assert found["lr0.01"]["use_gafilter"] is False


@pytest.mark.parametrize(
    ("node", "kind", "other"),
    [
        ("SelvaTiScheduler", "vocoder", "SelVA BigVGAN Scheduler"),
        ("SelvaBigvganScheduler", "lora", "SelVA LoRA Scheduler"),
        ("SelvaLoraScheduler", "ti", "SelVA TI Scheduler"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_the_node_for_it(series, data, node, kind, other, comfy):
    with pytest.raises(InputError, match=f"trains '{kind}'.*{other}"):
        series(node, kind=kind, data_dir=str(data), experiments=[{"id": "a"}])
    assert not any((comfy.base / "output").iterdir())


@pytest.mark.parametrize(
    "values",
    [
        {"output_root": "../../up"},
        {"base": {"discriminator_path": "../../etc/passwd"}},
        {"experiments": [{"id": "a", "lora_adapter": "a\0b"}]},
        {"grid": {"discriminator_path": ["CON"]}, "kind": "vocoder"},
        {"experiments": [{"id": "a", "train_mode": "some"}]},
        {"experiments": [{"id": "a", "n_tokens": 2}]},
    ],
    ids=str,
)
def test_a_hostile_value_in_the_file_is_a_sentence_and_touches_nothing(series, sounds, comfy, values):
    with pytest.raises(SelVAError) as caught:
        series("SelvaBigvganScheduler", **{"data_dir": str(sounds), "experiments": [{"id": "a"}], **values})
    assert len(str(caught.value)) < 1200
    assert [each.name for each in comfy.base.rglob("*") if each.is_file()] == ["plan.json"]


def test_the_button_asks_for_the_kind_of_its_node(comfy, sounds):
    from comfyui.test_sweep_nodes import ask

    plan = {"data_dir": str(sounds), "experiments": [{"id": "a"}]}
    (comfy.base / "models" / "plan.json").write_text(json.dumps(plan))
    status, body = ask(comfy, {"experiments_file": "plan.json", "kind": "vocoder"})
    assert status == 400 and "bigvgan_sweeps" in body["error"]
    for kind in ("other", ["ti"], None):
        status, body = ask(comfy, {"experiments_file": "plan.json", "kind": kind})
        assert status == 400 and "kind" in body["error"]
