import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_generator import moved

from selva_audio.adapters import Adapter, write_adapter
from selva_audio.bundle import load_model
from selva_audio.errors import InputError, MissingFileError
from selva_audio.features import VideoFeatures, load_features, save_features
from selva_audio.media.audio import read_audio, write_audio
from selva_audio.options import ComparisonOptions, GenerateOptions
from selva_audio.progress import Cancelled, Progress
from selva_audio.records import Audio
from selva_audio.scenes import draw_scene, stem
from selva_audio.tasks.adapter import load_generator
from selva_audio.tasks.evaluate_adapters import FIGURE, SUMMARY, evaluate_adapters, read_plan
from selva_audio.tasks.generate import generate

STEPS, SECONDS = 2, 2.0
PACK = (
    "hf_energy_ratio",
    "spectral_centroid_hz",
    "spectral_rolloff_hz",
    "spectral_flatness",
    "temporal_variance",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips a, b and c; b has no recording, c one at another rate."""
    folder = tmp_path_factory.mktemp("data")
    for number, name in enumerate("abc"):
        noise = torch.Generator().manual_seed(number)
        clip, sync = (torch.randn(1, *shape, generator=noise) for shape in ((16, 64), (40, 96)))
        save_features(folder / f"{name}.npz", VideoFeatures(clip, sync, prompt="metal", duration=SECONDS))
        wave = torch.from_numpy(stem(draw_scene(number, split="val", materials=("metal",), num_objects=1), 0))
        rate = 32000 if name == "c" else 16000
        if name != "b":
            write_audio(folder / f"{name}.wav", Audio(wave[None, None, : 3 * rate], rate))
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = moved(load_generator("demo_16k"), target="qkv", amount=0.1)
    told = {**made.meta, "variant": "demo_16k", "clip_conditioning": "on"}
    return write_adapter(tmp_path_factory.mktemp("adapter") / "adapter.pt", Adapter(made.deltas, told))


def plan_of(data: Path, output: Path, *adapters: dict, **settings) -> ComparisonOptions:
    listed = [{"id": "base"}, *adapters]
    values = {"data_dir": str(data), "output_dir": str(output), "steps": STEPS, "adapters": listed}
    return ComparisonOptions.read(values | settings)


@pytest.fixture(scope="module")
def done(demo_model, data, adapter, tmp_path_factory):
    """One comparison of the base, an adapter, the same at strength 0, and one that is not there."""
    output = tmp_path_factory.mktemp("done") / "eval"
    listed = (
        {"id": "mine", "path": str(adapter), "description": "moved by noise"},
        {"id": "none of it", "path": str(adapter), "strength": 0},
        {"id": "lost", "path": "nowhere.pt"},
    )
    return output, evaluate_adapters(demo_model, plan_of(data, output, *listed, takes=2, name="first try"))


def rows(summary: dict) -> dict[str, dict]:
    return {row["id"]: row for row in summary["adapters"]}


def test_everything_lies_where_the_pack_has_it(done):
    output, result = done
    summary = json.loads((output / SUMMARY).read_text())
    assert summary == result.summary and result.summary_path == output / SUMMARY
    assert result.figure_path == output / FIGURE and (output / FIGURE).stat().st_size > 10_000
    top = {"name", "started_at", "completed_at", "data_dir", "output_dir", "n_clips", "steps", "seed"}
    assert top | {"reference_avg", "reference_clips", "adapters"} <= set(summary)
    assert (summary["n_clips"], summary["steps"], summary["seed"]) == (3, STEPS, 42)
    assert summary["completed_at"] >= summary["started_at"]
    for row in summary["adapters"]:
        assert {"id", "path", "meta", "clips", "avg_metrics", "status"} <= set(row)
    mine = rows(summary)["mine"]
    assert mine["meta"]["rank"] == 3 and mine["meta"]["target"] and rows(summary)["base"]["meta"] is None
    for clip in mine["clips"]:
        assert Path(clip["wav_path"]) == output / "mine" / f"{clip['clip']}.wav"
        assert set(PACK) <= set(clip["spectral_metrics"]) and set(PACK) <= set(summary["reference_avg"])
    files = {path.relative_to(output).as_posix() for path in output.rglob("*.wav")}
    assert {"reference/a.wav", "reference/c.wav", "base/b.wav", "none of it/c_take2.wav"} <= files


def test_names_match_content_when_a_recording_is_missing(done, data):
    output, result = done
    assert not (output / "reference" / "b.wav").exists()
    listed = {row["clip"]: row for row in result.summary["reference_clips"]}
    assert list(listed) == ["a", "b", "c"] and "no recording of b" in listed["b"]["error"].lower()
    for name in "ac":
        wave = read_audio(output / "reference" / f"{name}.wav")
        assert wave.sample_rate == 16000 and wave.waveform.shape[-1] == SECONDS * 16000
        real = read_audio(data / f"{name}.wav")
        step = real.sample_rate // 16000
        same = real.waveform[0, 0, : wave.waveform.shape[-1] * step].numpy()
        assert np.corrcoef(np.abs(wave.waveform[0, 0].numpy()), np.abs(same[::step]))[0, 1] > 0.99 / step
    made = {clip["clip"]: clip["spectral_metrics"] for clip in rows(result.summary)["base"]["clips"]}
    assert "lsd" not in made["b"] and made["b"]["loudness_lufs"] is not None and made["c"]["lsd"] > 0


def test_sounds_are_those_of_the_ordinary_job(done, data, demo_model):
    output, _ = done
    for number, name in enumerate("abc"):
        options = GenerateOptions(prompt="metal", steps=STEPS, seed=42 + 2 * number)
        made = generate(demo_model, load_features(data / f"{name}.npz"), options)
        written = read_audio(output / "base" / f"{name}.wav")
        assert torch.allclose(written.waveform, made.waveform, atol=1e-4)


def test_all_adapters_get_the_same_noise(done):
    output, result = done
    for name in "abc":
        base, none = (read_audio(output / kind / f"{name}.wav").waveform for kind in ("base", "none of it"))
        assert torch.equal(base, none)
        assert not torch.equal(base, read_audio(output / "mine" / f"{name}.wav").waveform)
    by = rows(result.summary)
    assert all(each["value"] == 0 for each in by["none of it"]["versus_base"].values())
    assert by["mine"]["versus_base"]["lsd"]["value"] != 0 and "versus_base" not in by["base"]


def test_an_adapter_that_fails_is_listed_and_stops_nobody(done):
    _, result = done
    lost = rows(result.summary)["lost"]
    assert lost["status"] == "failed" and "nowhere.pt" in lost["error"] and lost["clips"] == []
    assert [row["status"] for row in result.summary["adapters"]] == ["completed"] * 3 + ["failed"]
    assert any(each.startswith("lost: ") for each in result.failures)


def test_numbers_of_sets_and_bounds_are_there(done):
    _, result = done
    base = rows(result.summary)["base"]
    for name in ("ltas_distance", "mel_gram_distance", "kad_mel", "centroid_distance"):
        found = base["set_metrics"][name]
        assert found["low"] <= found["high"] and found["value"] > -1
    low, high = base["intervals"]["mel_l1"]
    assert low <= base["avg_metrics"]["mel_l1"] <= high
    assert base["avg_metrics"]["diversity"] > 0 and base["set_metrics"]["clip_diversity"] > 0
    mean = np.mean([clip["spectral_metrics"]["lsd"] for clip in base["clips"] if clip["clip"] != "b"])
    assert base["avg_metrics"]["lsd"] == pytest.approx(mean, rel=1e-4)


def test_a_clip_that_fails_stays_visible(demo_model, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    features = load_features(folder / "a.npz")
    save_features(folder / "a.npz", replace(features, sync=features.sync[..., :48]))
    (folder / "c.npz").write_bytes(b"broken")
    result = evaluate_adapters(demo_model, plan_of(folder, tmp_path / "out"))
    base = rows(result.summary)["base"]
    clips = {clip["clip"]: clip for clip in base["clips"]}
    assert clips["a"]["spectral_metrics"] is None and "48" in clips["a"]["error"]
    assert base["failed_clips"] == ["a"] and base["status"] == "completed"
    assert clips["b"]["spectral_metrics"] and base["avg_metrics"]["loudness_lufs"] is not None
    listed = {row["clip"]: row.get("error", "") for row in result.summary["reference_clips"]}
    assert "not a readable feature file" in listed["c"] and len(result.failures) == 3


def test_copies_of_trained_clips_are_found(demo_model, data, done, tmp_path):
    output, _ = done
    trained = tmp_path / "trained"
    trained.mkdir()
    for name in "bc":
        shutil.copy(data / f"{name}.npz", trained / f"{name}.npz")
        shutil.copy(output / "base" / f"{name}.wav", trained / f"{name}.wav")
    # With one take from seed 43 on, the second clip has the seed that it had with two takes from 42 on.
    plan = plan_of(data, tmp_path / "out", seed=43, max_clips=2, train_dir=str(trained))
    base = rows(evaluate_adapters(demo_model, plan).summary)["base"]
    assert base["copies"] == ["b"] and base["clips"][0]["spectral_metrics"]["memorisation"] < 0.98


def test_forgetting_is_the_rise_of_the_loss_on_other_sounds(demo_model, data, adapter, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    for name in "ac":
        shutil.copy(data / f"{name}.npz", others)
        shutil.copy(data / f"{name}.wav", others)
    listed = (
        {"id": "mine", "path": str(adapter)},
        {"id": "nothing", "path": str(adapter), "strength": 0},
    )
    plan = plan_of(data, tmp_path / "out", *listed, max_clips=1, forgetting_dir=str(others), steps=1)
    by = rows(evaluate_adapters(demo_model, plan).summary)
    assert "forgetting" not in by["base"] and by["nothing"]["forgetting"]["rise"] == 0
    told = by["mine"]["forgetting"]
    assert told["after"] - told["before"] == pytest.approx(told["rise"], abs=1e-4)
    assert told["rise"] != 0 and told["clips"] == 2 and told["low"] <= told["rise"] <= told["high"]


@pytest.mark.parametrize("change", [{"steps": 3}, {"cfg_strength": 1.0}, {"seed": 7}])
def test_each_setting_of_the_sampler_changes_the_sound(demo_model, data, done, tmp_path, change):
    output, _ = done
    evaluate_adapters(demo_model, plan_of(data, tmp_path / "out", **{"max_clips": 1, **change}))
    assert [path.name for path in (tmp_path / "out" / "base").iterdir()] == ["a.wav"]
    first, second = (read_audio(folder / "base" / "a.wav").waveform for folder in (output, tmp_path / "out"))
    assert not torch.equal(first, second)


@pytest.mark.slow
def test_a_model_in_16_bits_is_compared_too(data, adapter, tmp_path):
    """COMPAT 5.8: the public pack's evaluator could not encode at 16 kHz."""
    model = load_model("demo_16k", device="cpu", precision="bf16")
    listed = {"id": "mine", "path": str(adapter)}
    plan = plan_of(data, tmp_path, listed, max_clips=1, steps=1, forgetting_dir=str(data))
    result = evaluate_adapters(model, plan)
    mine = rows(result.summary)["mine"]
    assert result.failures == () and result.summary["precision"] == "bf16"
    assert mine["avg_metrics"]["mel_l1"] > 0 and mine["forgetting"]["clips"] == 2


def test_a_cancel_leaves_a_whole_summary(demo_model, data, adapter, tmp_path):
    def stop(progress: Progress) -> None:
        if progress.step > 0.7 * progress.total:
            raise Cancelled

    plan = plan_of(data, tmp_path, {"id": "mine", "path": str(adapter)}, max_clips=1)
    with pytest.raises(Cancelled):
        evaluate_adapters(demo_model, plan, on_progress=stop)
    summary = json.loads((tmp_path / SUMMARY).read_text())
    assert summary["completed_at"] is None
    assert [row["status"] for row in summary["adapters"]] == ["completed", "running"]


def test_a_plan_is_read_as_the_pack_wrote_it(data, adapter, tmp_path):
    shutil.copy(adapter, tmp_path / "beside.pt")
    content = {
        "name": "mine",
        "description": "a comparison",
        "_note": "passed over",
        "data_dir": str(data),
        "output_dir": "out",
        "steps": 25,
        "seed": 42,
        "adapters": [
            {"id": "baseline", "path": None},
            {"id": "late", "path": "beside.pt", "group": "x", "description": "last step"},
        ],
    }
    path = tmp_path / "eval_batch.json"
    path.write_text(json.dumps(content))
    plan = read_plan(path)
    assert [each.path for each in plan.adapters] == ["", str(tmp_path / "beside.pt")]
    assert (plan.name, plan.output_dir, plan.steps, plan.takes) == ("mine", "out", 25, 1)
    del content["name"]
    path.write_text(json.dumps(content))
    assert read_plan(path).name == "eval_batch"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_dri": "x"}, "Did you mean 'data_dir'"),
        ({"adapters": [{"id": "a", "pth": "x"}]}, "Did you mean 'path'"),
        ({"adapters": [{"id": "a"}, {"id": "A"}]}, "give each one of its own"),
        ({"adapters": [{"id": "Reference"}]}, "folder of recordings"),
        ({"adapters": []}, "at least 1"),
        ({"adapters": ["base"]}, "must be a JSON object"),
        ({"steps": 0}, "steps = 0"),
        ({"takes": 99}, "takes = 99"),
    ],
)
def test_a_wrong_plan_is_refused_with_what_is_wrong(data, tmp_path, change, message):
    path = tmp_path / "plan.json"
    content = {"data_dir": str(data), "output_dir": "out", "adapters": [{"id": "base"}]}
    path.write_text(json.dumps(content | change))
    with pytest.raises(InputError, match=message):
        read_plan(path)


def test_what_is_not_there_is_said(demo_model, data, tmp_path):
    with pytest.raises(MissingFileError, match="no file"):
        read_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(InputError, match="no JSON"):
        read_plan(tmp_path / "plan.json")
    with pytest.raises(MissingFileError, match="marked 'val'"):
        evaluate_adapters(demo_model, plan_of(data, tmp_path / "out", split="val"))
