"""The training nodes over the stand-in: what comes out, progress, cancel, paths; every input counts."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from comfyui.stand_in import Interrupted

from selva_audio.errors import InputError, MissingFileError, SelVAError

FAST = {
    "output_dir": "trained",
    "steps": 2,
    "rank": 2,
    "lr": 1e-3,
    "batch_size": 2,
    "warmup_steps": 0,
    "save_every": 2,
    "val_fraction": 0.0,
    "sample_steps": 0,
}


def make_data(nodes, model, images, folder, *, count=3, prompt="rubber ball"):
    """Features and sounds of short clips, as SelVA Feature Extractor and a sound editor leave them."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for index in range(count):
        nodes["SelvaFeatureExtractor"].execute(
            model, images(24 + index), prompt, fps=24.0, cache_dir=str(folder), name=f"clip{index}"
        )
        soundfile.write(folder / f"clip{index}_001.wav", 0.1 * random.standard_normal(16000), 16000)
    return folder


@pytest.fixture(scope="module")
def data(model, images, tmp_path_factory, comfy_once):
    with pytest.MonkeyPatch.context() as patch:
        for name, module in comfy_once.modules.items():
            patch.setitem(sys.modules, name, module)
        from selva_audio.comfyui import nodes

        extractor = {"SelvaFeatureExtractor": nodes.SelvaFeatureExtractor}
        return make_data(extractor, model, images, tmp_path_factory.mktemp("data") / "clips")


@pytest.fixture
def train(nodes, model, data):
    def run(**settings):
        return nodes["SelvaLoraTrainer"].execute(model, **{"data_dir": str(data), **FAST, **settings}).args

    return run


def tensors(path):
    return torch.load(path, weights_only=True)["state_dict"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_trainer_gives_the_model_with_the_adapter_its_files_and_the_curve(
    train, comfy, model, nodes, features
):
    adapted, path, curve, summary, report = train(steps=3)
    assert Path(path) == comfy.base / "output" / "trained" / "adapter_final.pt"
    assert tensors(path)
    assert adapted.adapters[-1]["path"] == path
    assert model.adapters == ()
    assert curve.shape[0] == 1
    assert curve.shape[-1] == 3
    assert 0 <= curve.min() < curve.max() <= 1
    assert json.loads(Path(summary).read_text())["steps"] == 3
    assert report == comfy.texts[-1]
    assert report.startswith("3 steps, loss ")


def test_losses_are_shown_while_it_trains(train, comfy):
    comfy.previews.clear()
    train()
    kind, picture, _ = comfy.previews[0]
    assert kind == "JPEG"
    assert picture.size == (900, 420)
    assert any(re.search(r"training: step \d+, loss \d", text) for text in comfy.texts)


def test_cancel_raises_comfyuis_own_exception_keeps_the_state_and_resumes_to_the_bit(
    train, comfy, press_cancel
):
    whole = tensors(train(steps=4, output_dir="whole")[1])
    comfy.texts.clear()
    press_cancel("training: step 2")
    with pytest.raises(Interrupted):
        train(steps=4)
    (kept,) = (comfy.base / "output" / "trained").glob("adapter_cancelled_step*.pt")
    resumed = train(steps=4, resume_path=str(kept.relative_to(comfy.base / "output")))
    assert same(tensors(resumed[1]), whole)


def test_an_alpha_of_0_is_twice_the_rank_as_in_saved_workflows(train):
    said = json.loads(Path(train(rank=3, alpha=0.0)[3]).read_text())
    assert said["config"]["alpha"] == 6


def test_the_trainer_runs_under_inference_mode_and_leaves_the_model_as_it_was(train, model):
    before = {key: value.clone() for key, value in model.generator.state_dict().items()}
    with torch.inference_mode():
        adapted = train()[0]
    assert same(before, model.generator.state_dict())
    assert not any(parameter.is_inference() for parameter in adapted.generator.parameters())


CHANGES = [
    ({"lr": 1e-2}, {}),
    ({"rank": 3}, {}),
    ({"alpha": 1.0}, {}),
    ({"target": "linear1"}, {}),
    ({"batch_size": 1}, {}),
    ({"warmup_steps": 2}, {}),
    ({"grad_accum": 2}, {}),
    ({"seed": 7}, {}),
    ({"steps": 3}, {}),
    ({"timestep_mode": "logit_normal"}, {}),
    ({"logit_normal_sigma": 0.2}, {"timestep_mode": "logit_normal"}),
    ({"curriculum_switch": 0.9}, {"timestep_mode": "curriculum", "steps": 4, "curriculum_switch": 0.3}),
    ({"lora_dropout": 0.3}, {}),
    ({"lora_plus_ratio": 16.0}, {}),
    ({"init_mode": "standard"}, {}),
    ({"use_rslora": False}, {}),
    ({"lr_schedule": "cosine"}, {}),
    ({"latent_mixup_alpha": 1.0}, {}),
    ({"latent_noise_sigma": 0.1}, {}),
    ({"use_dora": True}, {}),
    ({"video_dropout": 0.9}, {}),
    ({"text_dropout": 0.9}, {}),
    ({"uncond": "none"}, {"text_dropout": 0.9, "video_dropout": 0.9}),
    ({"clip_conditioning": "off"}, {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("changed", "base"), CHANGES, ids=lambda value: "+".join(value) or "-")
def test_each_input_of_the_trainer_changes_the_adapter(train, kept, changed, base):
    usual = kept(f"trained {base}", lambda: tensors(train(output_dir="usual", **base)[1]))
    assert not same(usual, tensors(train(**{**base, **changed})[1]))


def test_a_running_average_is_an_adapter_beside_the_other(train):
    assert not Path(train(output_dir="plain")[1]).with_name("adapter_ema.pt").exists()
    path = train(ema_decay=0.9)[1]
    assert not same(tensors(path), tensors(Path(path).with_name("adapter_ema.pt")))


def test_widgets_left_out_of_a_prompt_have_the_nodes_own_defaults(train):
    config = json.loads(Path(train()[3]).read_text())["config"]
    assert config["target"] == "attn.qkv"
    named = ("timestep_mode", "init_mode", "use_rslora", "lr_schedule", "alpha", "seed")
    assert [config[name] for name in named] == ["uniform", "pissa", True, "constant", 4.0, 42]


def test_save_every_resume_path_and_directories_count(train, comfy, nodes, model, images, tmp_path):
    _, path, _, _, _ = train(steps=2, save_every=1)
    folder = Path(path).parent
    assert {file.name for file in folder.glob("adapter_step*.pt")} >= {"adapter_step00001.pt"}
    again = train(steps=2, resume_path="trained/adapter_step00001.pt", output_dir="elsewhere/again")
    assert Path(again[1]) == comfy.base / "output" / "elsewhere" / "again" / "adapter_final.pt"
    assert same(tensors(path), tensors(again[1]))
    other = make_data(nodes, model, images, tmp_path / "other", count=2, prompt="metal ball")
    assert not same(tensors(path), tensors(train(data_dir=str(other))[1]))


def test_validation_and_its_patience_and_samples_are_told(train):
    told = json.loads(Path(train(val_fraction=0.4, sample_steps=1, patience=1, steps=2)[3]).read_text())
    assert told["validation"]["after"] > 0
    assert told["config"]["patience"] == 1
    assert (Path(told["output_dir"]) / "sample_step00002.wav").is_file()


def test_patience_ends_the_training_and_memory_is_saved_where_that_is_asked(train, monkeypatch):
    from selva_audio.training import lora

    calls = []
    recompute = lora.recompute_blocks
    monkeypatch.setattr(lora, "recompute_blocks", lambda generator: (calls.append(1), recompute(generator)))
    # A validation that gets no better, whatever is trained.
    monkeypatch.setattr(lora.LoraTraining, "validate", lambda training, on_progress: {"val_loss": 1.0})
    common = {"steps": 2, "save_every": 1}
    usual = json.loads(Path(train(**common)[3]).read_text())
    assert usual["steps"] == 2 and not usual["stopped_early"] and not calls
    found = json.loads(Path(train(**common, patience=1, grad_checkpoint=True)[3]).read_text())
    assert found["steps"] == 1 and found["stopped_early"] and calls == [1]


def test_each_input_of_the_trainer_is_changed_in_a_test_above(nodes):
    changed = {name for settings, _ in CHANGES for name in settings}
    elsewhere = {
        "model": "test_the_trainer_gives_the_model_with_the_adapter_its_files_and_the_curve",
        "data_dir": "test_save_every_resume_path_and_directories_count",
        "output_dir": "test_save_every_resume_path_and_directories_count",
        "save_every": "test_save_every_resume_path_and_directories_count",
        "resume_path": "test_save_every_resume_path_and_directories_count",
        "ema_decay": "test_a_running_average_is_an_adapter_beside_the_other",
        "val_fraction": "test_validation_and_its_patience_and_samples_are_told",
        "sample_steps": "test_validation_and_its_patience_and_samples_are_told",
        "patience": "test_patience_ends_the_training_and_memory_is_saved_where_that_is_asked",
        "grad_checkpoint": "test_patience_ends_the_training_and_memory_is_saved_where_that_is_asked",
    }
    inputs = {each.id for each in nodes["SelvaLoraTrainer"].define_schema().inputs}
    assert changed | elsewhere.keys() == inputs
    assert all(test in globals() for test in elsewhere.values())


def test_a_relative_data_set_is_looked_for_where_comfyui_was_started_first(train, data, comfy, monkeypatch):
    monkeypatch.chdir(data.parent)
    assert train(data_dir="clips")
    monkeypatch.chdir(comfy.base)
    with pytest.raises(MissingFileError, match="data_dir = clips is not there"):
        train(data_dir="clips")


@pytest.mark.parametrize(
    "settings",
    [
        {"data_dir": ""},
        {"data_dir": "../clips"},
        {"data_dir": "a\0b"},
        {"output_dir": "../up"},
        {"output_dir": "CON"},
        {"output_dir": "x" * 300},
        {"output_dir": ""},
        {"resume_path": "../../etc/passwd"},
        {"resume_path": "nowhere.pt"},
        {"lr": float("nan")},
        {"steps": 10**12},
        {"rank": -1},
        {"seed": 2**70},
        {"target": "nothing_like_it"},
        {"target": "\0"},
        {"timestep_mode": "perhaps"},
    ],
    ids=str,
)
def test_a_hostile_value_of_the_trainer_is_a_sentence(train, comfy, settings):
    before = sorted(path for path in comfy.base.rglob("*"))
    with pytest.raises(SelVAError) as caught:
        train(**settings)
    assert len(str(caught.value)) < 800
    assert sorted(path for path in comfy.base.rglob("*")) == before


def test_other_settings_than_the_nodes_are_refused(train):
    with pytest.raises(InputError, match="Unknown option 'gamma'"):
        train(gamma=1)
