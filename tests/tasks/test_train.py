import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.adapters import read_adapter
from selva_audio.adapters.inspect import change_norm
from selva_audio.errors import InputError, MissingFileError
from selva_audio.features import VideoFeatures, save_features
from selva_audio.media.audio import read_audio, write_audio
from selva_audio.options import LoraOptions
from selva_audio.progress import Cancelled
from selva_audio.records import Audio
from selva_audio.tasks.adapter import with_adapters
from selva_audio.tasks.clips import load_clips
from selva_audio.tasks.train import last_checkpoint, train_lora

ROOT = Path(__file__).parents[2]
QUICK = {"steps": 2, "save_every": 2, "batch_size": 1, "rank": 2, "target": "qkv", "sample_steps": 1}


def make_pair(
    folder: Path, name: str, *, seed: int = 0, suffix: str = ".wav", prompt: str = "glass prism"
) -> None:
    random = np.random.default_rng(seed)
    wave = torch.from_numpy(random.standard_normal(8 * 16000)).float()
    steps = torch.arange(8 * 16000) % 16000 < 2000
    write_audio(folder / f"{name}{suffix}", Audio((0.3 * wave * steps)[None, None], 16000))
    clip, sync = (
        torch.from_numpy(random.standard_normal(shape)).float() for shape in ((1, 64, 64), (1, 192, 96))
    )
    save_features(folder / f"{name}.npz", VideoFeatures(clip, sync, prompt=prompt, duration=8.0))


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs") / "glass"
    folder.mkdir()
    for seed, name in enumerate(("first", "second", "third")):
        make_pair(folder, name, seed=seed)
    return folder


@pytest.fixture(scope="session")
def trained(demo_model, pairs, tmp_path_factory):
    """A short training, and its folder."""
    folder = tmp_path_factory.mktemp("trained")
    return train_lora(demo_model, pairs, folder, LoraOptions(**QUICK)), folder


def test_an_adapter_and_its_account_come_out_of_a_folder_of_pairs(trained, demo_model):
    result, folder = trained
    assert result.status == "done" and result.steps == 2 and len(result.losses) == 2
    assert result.adapter_path == folder / "adapter_final.pt"
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_step00002.pt", "adapter_final.safetensors", "meta.json", "summary.json"} <= names
    assert {"sample_step00000.wav", "sample_step00002.wav", "sample_step00002.png"} <= names
    meta = json.loads((folder / "meta.json").read_text())
    assert {"variant", "rank", "alpha", "target", "steps"} <= meta.keys()
    assert (meta["variant"], meta["steps"], meta["clip_conditioning"]) == ("demo_16k", 2, "on")
    pt, safe = read_adapter(result.adapter_path), read_adapter(result.safetensors_path)
    assert all(torch.equal(pt.deltas[path].a, safe.deltas[path].a) for path in pt.deltas)
    assert with_adapters(demo_model, [result.adapter_path]).adapters[0]["strength"] == 1
    sound = read_audio(folder / "sample_step00002.wav")
    assert sound.duration == pytest.approx(8.0) and sound.sample_rate == 16000


def test_the_summary_tells_what_was_trained_and_what_it_did(trained):
    result, _ = trained
    assert json.loads(result.summary_path.read_text()) == result.summary
    summary = result.summary
    assert summary["layers"] == 8 and summary["clips"] == {"train": 2, "val": 1}
    assert summary["parameters"] == sum(
        delta.a.numel() + delta.b.numel() for delta in read_adapter(result.adapter_path).deltas.values()
    )
    found = summary["validation"]
    assert (
        found["before"] > 0 and found["after"] > 0 and found["difference_90"][0] <= found["difference_90"][1]
    )
    assert found["difference"] == pytest.approx(found["after"] - found["before"], abs=1e-6)
    assert result.report[0].startswith("8 layers (qkv: 8)") and result.report[-1].startswith("scale 2")


def test_the_log_tells_memory_of_each_step_and_the_size_of_the_change_at_each_validation(trained):
    result, folder = trained
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 0 and lines[0]["delta_norm"] == 0
    assert lines[-1]["delta_norm"] == pytest.approx(change_norm(read_adapter(result.adapter_path)), rel=1e-5)
    assert all(line["val_uniform"] > 0 for line in lines if "val_loss" in line)
    assert all(line["peak_memory_gb"] > 0 for line in lines if "loss" in line)


def test_the_model_is_as_it_was(demo_model, trained):
    from selva_audio.bundle import load_model

    fresh = load_model("demo_16k", device="cpu", precision="fp32")
    for key, tensor in fresh.generator.state_dict().items():
        assert torch.equal(tensor, demo_model.generator.state_dict()[key])
    assert not any(each.requires_grad for each in demo_model.generator.parameters())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_precision_trains(pairs, tmp_path, precision):
    from dataclasses import replace

    from selva_audio.bundle import load_model

    model = load_model("demo_16k", device="cpu", precision="bf16")
    if precision == "fp16":  # the policy never chooses it on a CPU
        model = model.replace(generator=model.generator.to(torch.float16))
        model.policy = replace(model.policy, precision="fp16")
    options = LoraOptions(**{**QUICK, "sample_steps": 0})
    result = train_lora(model, pairs, tmp_path, options)
    assert np.isfinite(result.losses).all()
    adapter = read_adapter(result.adapter_path)
    assert any(float(delta.b.abs().max()) > 0 for delta in adapter.deltas.values())


def test_a_stopped_training_goes_on_from_its_last_checkpoint(demo_model, pairs, tmp_path):
    options = LoraOptions(**{**QUICK, "steps": 3, "sample_steps": 0})
    whole = train_lora(demo_model, pairs, tmp_path / "whole", options)
    words = iter([None, "skipped"])
    part = train_lora(demo_model, pairs, tmp_path / "part", options, should_stop=lambda: next(words))
    assert (part.status, part.steps, part.safetensors_path) == ("skipped", 2, None)
    assert part.adapter_path == last_checkpoint(tmp_path / "part") == tmp_path / "part" / "adapter_last.pt"
    clips = load_clips(demo_model, pairs)
    again = train_lora(demo_model, pairs, tmp_path / "part", options, clips=clips, resume=part.adapter_path)
    assert again.losses == whole.losses
    a, b = read_adapter(whole.adapter_path).deltas, read_adapter(again.adapter_path).deltas
    assert all(torch.equal(a[path].b, b[path].b) for path in a)
    assert again.summary["validation"]["before"] == pytest.approx(
        whole.summary["validation"]["before"], rel=1e-6
    )


def test_a_cancel_passes_through_and_the_state_is_kept(demo_model, pairs, tmp_path):
    def cancel(progress):
        if progress.stage == "training":
            raise Cancelled

    options = LoraOptions(**{**QUICK, "sample_steps": 0})
    with pytest.raises(Cancelled):
        train_lora(demo_model, pairs, tmp_path, options, on_progress=cancel)
    assert last_checkpoint(tmp_path).name == "adapter_cancelled_step00001.pt"


def test_it_trains_inside_inference_mode_too(demo_model, pairs, tmp_path):
    with torch.inference_mode():
        result = train_lora(demo_model, pairs, tmp_path, LoraOptions(**{**QUICK, "sample_steps": 0}))
    assert result.status == "done"


def test_a_folder_of_videos_is_prepared_first(demo_model, make_clip, tmp_path):
    (tmp_path / "glass").mkdir()
    for name in ("a", "b"):
        make_clip(
            tmp_path / "glass" / f"{name}.mp4", np.arange(30) / 25, tone=440.0 if name == "a" else 880.0
        )
    options = LoraOptions(**{**QUICK, "sample_steps": 0})
    result = train_lora(demo_model, tmp_path / "glass", tmp_path / "out", options)
    assert result.status == "done" and (tmp_path / "out" / "prepared" / "dataset.json").is_file()
    assert result.summary["clips"] == {"train": 1, "val": 1}
    assert list((tmp_path / "glass").iterdir()) != [] and not list((tmp_path / "glass").glob("*.npz"))


def test_prompts_txt_is_before_the_features_and_these_are_before_the_folder(demo_model, tmp_path):
    folder = tmp_path / "dog_bark"
    folder.mkdir()
    for seed, (name, prompt) in enumerate((("a", "from npz"), ("b", "from npz"), ("c", ""))):
        make_pair(folder, name, seed=seed, prompt=prompt)
    (folder / "prompts.txt").write_text("# words\na.npz: from the list: yes\nnobody: x\n")
    clips = load_clips(demo_model, folder)
    assert dict(zip(clips.names, clips.prompts, strict=True)) == {
        "a": "from the list: yes",
        "b": "from npz",
        "c": "dog bark",
    }
    assert any("nobody" in note for note in clips.notes)


def test_of_several_sounds_wav_is_taken_and_the_others_are_told(demo_model, tmp_path):
    for seed, suffix in ((1, ".flac"), (0, ".wav")):
        make_pair(tmp_path, "a", seed=seed, suffix=suffix)
    only = tmp_path / "only"
    only.mkdir()
    make_pair(only, "a", seed=0)
    clips = load_clips(demo_model, tmp_path)
    assert torch.equal(clips.mean, load_clips(demo_model, only).mean)
    assert any("a.wav is taken, and a.flac left out" in note for note in clips.notes)


def test_a_folder_val_is_for_validation_alone(demo_model, pairs, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(pairs, folder)
    (folder / "val").mkdir()
    for suffix in (".npz", ".wav"):
        shutil.move(folder / f"third{suffix}", folder / "val")
    clips = load_clips(demo_model, folder)
    assert clips.of("train").names == ("first", "second") and clips.of("val").names == ("third",)


def test_clips_of_one_recording_are_on_one_side(demo_model, pairs, tmp_path):
    for source, name in (("first", "dog_001"), ("second", "dog_002"), ("third", "cat_001")):
        for suffix in (".npz", ".wav"):
            shutil.copy(pairs / f"{source}{suffix}", tmp_path / f"{name}{suffix}")
    clips = load_clips(demo_model, tmp_path)
    sides = dict(zip(clips.names, clips.splits, strict=True))
    assert sides["dog_001"] == sides["dog_002"] != sides["cat_001"]
    for suffix in (".npz", ".wav"):
        (tmp_path / f"cat_001{suffix}").unlink()
    alone = load_clips(demo_model, tmp_path)
    assert set(alone.splits) == {"train"} and any("No clip is for validation" in note for note in alone.notes)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda folder: None, MissingFileError, "no feature files"),
        (
            lambda folder: (make_pair(folder, "a"), (folder / "a.wav").unlink()),
            InputError,
            "no sound file beside",
        ),
        (lambda folder: shutil.rmtree(folder), MissingFileError, "There is no folder"),
    ],
    ids=["no npz", "no sound", "no folder"],
)
def test_a_folder_that_holds_no_clips_is_told_in_a_sentence(demo_model, tmp_path, make, error, sentence):
    folder = tmp_path / "set"
    folder.mkdir()
    make(folder)
    with pytest.raises(error, match=sentence):
        load_clips(demo_model, folder)


def test_a_target_that_matches_nothing_is_refused_with_the_nearest(demo_model, pairs, tmp_path):
    with pytest.raises(InputError, match=r"Did you mean 'attn\.qkv'"):
        train_lora(demo_model, pairs, tmp_path, LoraOptions(**{**QUICK, "target": "conv attn.qvk"}))


def test_clip_conditioning_follows_the_variant_and_is_kept_in_the_meta(demo_model, pairs, tmp_path):
    options = LoraOptions(**{**QUICK, "sample_steps": 0, "clip_conditioning": "off"})
    off = train_lora(demo_model, pairs, tmp_path, options)
    assert read_adapter(off.adapter_path).meta["clip_conditioning"] == "off"
    assert not with_adapters(demo_model, [off.adapter_path]).config.clip_conditioning
    features = VideoFeatures(torch.zeros(1, 0, 64), torch.ones(1, 192, 96), duration=8.0)
    folder = tmp_path / "bare"
    folder.mkdir()
    make_pair(folder, "a")
    save_features(folder / "a.npz", features)
    with pytest.raises(InputError, match="clip_conditioning is on, but the features of a hold no CLIP"):
        train_lora(demo_model, folder, tmp_path, options.model_copy(update={"clip_conditioning": "on"}))


def script():
    spec = importlib.util.spec_from_file_location("train_lora_script", ROOT / "train_lora.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_keeps_the_flags_and_defaults_that_users_have():
    found = script().arguments(["--data_dir", "clips", "--selva_dir", "weights", "--rank", "8"])
    assert found[:2] == ["train", "lora"]
    flags = dict(zip(found[2::2], found[3::2], strict=True))
    assert flags == {
        "--data-dir": "clips",
        "--output-dir": "lora_output",
        "--variant": "large_44k",
        "--models-dir": "weights",
        "--rank": "8",
        "--alpha": "8",
        "--target": "attn.qkv",
        "--lr": "0.0001",
        "--steps": "2000",
        "--warmup-steps": "100",
        "--batch-size": "4",
        "--grad-accum": "1",
        "--save-every": "500",
        "--precision": "bf16",
        "--seed": "42",
        "--timestep-mode": "uniform",
        "--logit-normal-sigma": "1.0",
        "--curriculum-switch": "0.6",
        "--lora-dropout": "0.0",
        "--lora-plus-ratio": "1.0",
        "--lr-schedule": "constant",
    }


def test_the_command_takes_what_the_script_gives(demo_model, pairs, tmp_path, capsys):
    from selva_audio.cli.app import run

    given = ["--data_dir", str(pairs), "--output_dir", str(tmp_path), "--variant", "demo_16k", "--rank", "2"]
    given += ["--steps", "1", "--target", "attn.qkv", "linear1", "--batch_size", "1"]
    assert run([*script().arguments(given), "--sample-steps", "0", "--json"]) == 0
    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert summary["target"] == {"attn.qkv": 8, "linear1": 6} or summary["target"]["attn.qkv"] == 8
    assert summary["config"]["alpha"] == 2 and "adapter_final.pt" in said.err
    assert "scale 1" in said.err


@pytest.fixture(scope="session")
def judged(demo_model, tmp_path_factory):
    """A short training with enough clips for validation to judge an edit."""
    folder = tmp_path_factory.mktemp("judged")
    for seed, name in enumerate(("first", "second", "third", "fourth", "fifth")):
        make_pair(folder, name, seed=seed)
    options = LoraOptions(**QUICK | {"sample_steps": 0}, val_fraction=0.8)
    return train_lora(demo_model, folder, folder / "out", options)


def test_surgery_is_tried_beside_random_edits_and_the_file_is_what_the_summary_says(judged):
    surgery = judged.summary["surgery"]
    assert surgery["status"] in ("adopted", "kept")
    policies = [trial["policy"] for trial in surgery["trials"]]
    assert policies == ["none", "abs_select", "signed", "random 1", "random 2", "random 3"]
    is_edited = "surgery" in read_adapter(judged.adapter_path).meta
    assert is_edited == (surgery["status"] == "adopted") == ("unedited_path" in surgery)
    pt, safe = read_adapter(judged.adapter_path), read_adapter(judged.safetensors_path)
    assert all(torch.equal(pt.deltas[path].b, safe.deltas[path].b) for path in pt.deltas)


def test_an_edit_that_wins_takes_the_place_of_the_adapter_which_is_kept_beside_it(
    demo_model, pairs, tmp_path, monkeypatch
):
    from dataclasses import replace

    from selva_audio.tasks import train
    from selva_audio.training.surgery import SurgeryResult

    def wins(generator, adapter, losses, validate, **settings):
        deltas = {path: replace(delta, b=delta.b + 1) for path, delta in adapter.deltas.items()}
        return SurgeryResult("adopted", "It wins.", adapter, replace(adapter, deltas=deltas))

    monkeypatch.setattr(train, "operate", wins)
    monkeypatch.setattr(train, "LEAST_CLIPS", 1)
    result = train_lora(demo_model, pairs, tmp_path, LoraOptions(**QUICK | {"sample_steps": 0}))
    used = read_adapter(result.adapter_path)
    before = read_adapter(result.summary["surgery"]["unedited_path"])
    assert all(torch.allclose(used.deltas[path].b, before.deltas[path].b + 1) for path in used.deltas)


def test_surgery_and_samples_can_be_left_out(demo_model, pairs, tmp_path):
    options = LoraOptions(**QUICK | {"steps": 1, "sample_steps": 0, "surgery": False})
    summary = train_lora(demo_model, pairs, tmp_path, options).summary
    assert summary["surgery"] == {"status": "not tried", "reason": "It was turned off."}
    assert not list(tmp_path.glob("sample_*"))


def test_intruders_are_told_beside_those_of_random_changes(trained):
    found = trained[0].summary["intruders"]
    assert found["layers"] == found["of"] == trained[0].summary["layers"]
    assert found["counts"].keys() == found["control"].keys() == {"0.3", "0.5", "0.6", "0.8"}
    assert found["directions"] == 10 * found["layers"]


def test_surgery_is_not_tried_where_too_few_clips_could_judge_it(trained):
    surgery = trained[0].summary["surgery"]
    assert surgery["status"] == "not tried" and "1 clips" in surgery["reason"]
