"""Every input of the style nodes counts, and a hostile value is a sentence that touches nothing."""

# ruff: noqa: F401, F811 - fixtures are imported by name

import math
from pathlib import Path

import pytest
import torch
from comfyui.style_files import write_style
from comfyui.test_style_nodes import (  # fixtures
    data,
    during,
    learn,
    search,
    sounds,
    tune,
)
from comfyui.test_training_nodes import make_data
from small_style import write_discriminators, write_tones

from selva_audio.errors import SelVAError


def rows(path):
    return torch.load(path, weights_only=True)["embeddings"]


def tensors(path):
    return torch.load(path, weights_only=True)["state_dict"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


_TOKEN = {"space": "token", "lr": 0.1}
TOKENS = [
    ({"n_tokens": 3}, {}),
    ({"steps": 3}, {}),
    ({"lr": 0.1}, {}),
    ({"batch_size": 1}, {}),
    ({"seed": 2}, {}),
    ({"inject_mode": "prefix"}, {}),
    ({"init_text": "glass chime"}, {}),
    ({"warmup_steps": 2}, {}),
    ({"space": "token"}, {}),
    ({"template": "<prompt> {}"}, _TOKEN),
    ({"lr_schedule": "cosine"}, {"steps": 3}),
    ({"timestep_mode": "logit_normal"}, {}),
    ({"clip_conditioning": "off"}, {}),
    ({"pad": "loop"}, {}),
    ({"val_fraction": 0.4}, {}),
]
VOCODERS = [
    ({"train_mode": "snake_alpha_beta"}, {}),
    ({"train_mode": "all_params"}, {}),
    ({"steps": 3}, {}),
    ({"lr": 1e-3}, {}),
    ({"batch_size": 1}, {}),
    ({"segment_seconds": 0.3}, {}),
    ({"lambda_l2sp": 0.1}, {}),
    ({"use_gafilter": True}, {}),
    ({"gafilter_kernel_size": 5}, {"use_gafilter": True}),
    ({"lambda_phase": 1.0}, {}),
    ({"seed": 2}, {}),
    ({"loss": "multi_mel"}, {}),
    ({"lambda_stft": 0.0}, {}),
    ({"lr_schedule": "cosine"}, {"steps": 3}),
    ({"warmup_steps": 2}, {}),
    ({"val_fraction": 0.4}, {}),
]
SEARCHES = [
    ({"prompt": "metal ball"}, {}),
    ({"negative_prompt": "metal ball"}, {}),
    ({"n_opt_steps": 4}, {}),
    ({"opt_lr": 0.5}, {}),
    ({"n_ode_steps": 3}, {}),
    ({"n_grad_steps": 1}, {"gradient": "truncated"}),
    ({"style_weight": 0.1}, {}),
    ({"gram_weight": 1.0}, {}),
    ({"timing_weight": 50.0}, {}),
    ({"anchor_weight": 10.0}, {}),
    ({"steps": 3}, {}),
    ({"cfg_strength": 2.0}, {}),
    ({"seed": 4}, {}),
    ({"normalize": False}, {}),
    ({"target_lufs": -35.0}, {}),
    ({"gradient": "surrogate", "surrogate_steps": 1}, {}),
    ({"surrogate_steps": 1}, {"gradient": "surrogate"}),
    ({"loss": "latent"}, {}),
    ({"shell_weight": 10.0}, {"renormalize": False}),
    ({"renormalize": False}, {}),
    ({"check_every": 1}, {"n_opt_steps": 3, "opt_lr": 2.0}),
    ({"patience": 1}, {"n_opt_steps": 4, "opt_lr": 2.0, "check_every": 1}),
    ({"duration": 0.8}, {}),
    ({"solver": "heun"}, {}),
    ({"loudness": "peak"}, {}),
    ({"true_peak_ceiling": -20.0}, {}),
    ({"clip_conditioning": "off"}, {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("changed", "base"), TOKENS, ids=lambda value: "+".join(value) or "-")
def test_each_input_of_the_token_trainer_changes_the_tokens(learn, kept, changed, base):
    base = {**base} if "val_fraction" not in changed else {**base, "batch_size": 3}
    usual = kept(f"tokens {base}", lambda: rows(learn(output_path="usual.pt", **base)[0]))
    other = rows(learn(**{**base, **changed})[0])
    assert usual.shape != other.shape or not torch.equal(usual, other)


@pytest.mark.slow
@pytest.mark.parametrize(("changed", "base"), VOCODERS, ids=lambda value: "+".join(value) or "-")
def test_each_input_of_the_vocoder_trainer_changes_the_vocoder(tune, kept, changed, base, tmp_path):
    base = {**base, "data_dir": str(write_tones(tmp_path / "many", 5))}
    usual = kept(f"vocoder {sorted(base)}", lambda: tensors(tune(output_path="usual.pt", **base)[0]))
    assert not same(usual, tensors(tune(**{**base, **changed})[0]))


@pytest.mark.slow
@pytest.mark.parametrize(("changed", "base"), SEARCHES, ids=lambda value: "+".join(value) or "-")
def test_each_input_of_ditto_changes_the_sound_or_the_report(search, kept, changed, base):
    usual = kept(f"ditto {base}", lambda: search(**base))
    other = search(**{**base, **changed})
    one, two = usual[0]["waveform"], other[0]["waveform"]
    assert one.shape != two.shape or not torch.equal(one, two) or usual[2] != other[2]


@pytest.mark.slow
def test_data_files_and_resuming_count(learn, tune, search, nodes, model, images, tmp_path, comfy):
    sounds_two = write_tones(tmp_path / "two", 3, seconds=0.6)
    other = make_data(nodes, model, images, tmp_path / "other", count=2, prompt="metal ball")
    assert not torch.equal(rows(learn()[0]), rows(learn(data_dir=str(other))[0]))
    assert not same(tensors(tune()[0]), tensors(tune(data_dir=str(sounds_two))[0]))
    one, two = search()[0]["waveform"], search(reference_dir=str(sounds_two))[0]["waveform"]
    assert not torch.equal(one, two)
    for run, name in ((learn, "embeddings"), (tune, "vocoder")):
        whole = run(steps=2, save_every=1, output_path="whole.pt")[0]
        resumed = run(steps=2, resume_path=f"whole/{name}_step00001.pt", output_path=f"resumed/{name}.pt")[0]
        one, two = (torch.load(path, weights_only=True) for path in (whole, resumed))
        key = "embeddings" if name == "embeddings" else "state_dict"
        assert torch.equal(one[key], two[key]) if key == "embeddings" else same(one[key], two[key])
        assert Path(resumed) == comfy.base / "output" / "resumed" / f"{name}.pt"


@pytest.mark.slow
def test_patience_samples_checkpoints_and_memory_settings_are_told(learn, tune, tmp_path):
    folder = Path(learn(val_fraction=0.4, sample_steps=1, patience=1, steps=3, save_every=1, lr=0.1)[0])
    assert (folder.with_suffix("") / "sample_step00001.wav").is_file()
    assert (folder.with_suffix("") / "embeddings_step00001.pt").is_file()
    data_dir = str(write_tones(tmp_path / "many", 5))
    early = tune(data_dir=data_dir, val_fraction=0.25, patience=1, steps=9, save_every=1, lr=1.0)
    assert not early[2].startswith("9 steps")
    one, two = tune(output_path="a.pt")[0], tune(output_path="b.pt", grad_checkpoint=True)[0]
    assert same(tensors(one), tensors(two))  # the same numbers, with less memory


@pytest.mark.slow
def test_a_discriminator_and_an_adapter_of_the_vocoder_trainer_are_found_and_count(
    tune, nodes, model, images, tmp_path, comfy, monkeypatch
):
    import selva_audio.tasks.vocoder as task

    monkeypatch.setattr(task, "_MEL_STEPS", 1)
    data_dir = str(make_data(nodes, model, images, tmp_path / "clips", count=2))
    for path in Path(data_dir).glob("*.npz"):
        assert path.with_suffix(".wav").is_file()
    usual = tensors(tune(data_dir=data_dir)[0])
    write_discriminators(comfy.base / "output" / "d.pt")
    path, _, report = tune(data_dir=data_dir, discriminator_path="d.pt")
    assert "not trained at 16000 Hz" in report and not same(tensors(path), usual)
    write_style(model, tmp_path)["adapter"].rename(comfy.base / "a.pt")
    assert not same(tensors(tune(data_dir=data_dir, lora_adapter="a.pt")[0]), usual)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"n_samples": 2},
        {"seed": 2},
        {"time_bins": 2},
        {"prompt": "metal ball"},
        {"contrast_prompt": "metal ball"},
        {"contrast_dir": ""},
    ],
    ids=lambda value: next(iter(value)),
)
def test_each_input_of_the_extractor_changes_the_vectors(nodes, model, data, changed):
    extract = nodes["SelvaActivationSteeringExtractor"].execute
    base = {"output_path": "v.pt", "n_samples": 1, "seed": 1, "time_bins": 1}
    if "contrast_dir" in changed:
        changed = {"contrast_dir": str(data), "n_samples": 1}
    if "contrast_prompt" in changed:
        changed |= {"prompt": "rubber ball"}
    one, two = (
        torch.load(extract(model, str(data), **settings).args[0], weights_only=True)["vectors"]
        for settings in (base, {**base, **changed})
    )
    assert not same(one, two)


_PATHS = ["../up.pt", "a/../../up.pt", "a\0b.pt", "x" * 300, "CON.pt", "", "  ", "a.exe", "what?.pt"]
_READ = ["../clips", "a\0b", "x" * 300, "CON", "", "nowhere"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *(("learn", {"output_path": path}) for path in _PATHS),
        *(("learn", {"data_dir": path}) for path in _READ),
        *(("learn", {"resume_path": path}) for path in _READ if path),
        ("learn", {"lr": math.nan}),
        ("learn", {"steps": 10**12}),
        ("learn", {"n_tokens": 0}),
        ("learn", {"space": "outer"}),
        ("learn", {"template": "no place"}),
        ("learn", {"seed": 2**70}),
        ("learn", {"init_text": "x" * 100_000}),
        ("learn", {"unknown": 1}),
        *(("tune", {"output_path": path}) for path in _PATHS),
        *(("tune", {"data_dir": path}) for path in _READ),
        *(("tune", {"discriminator_path": path}) for path in _READ if path),
        *(("tune", {"lora_adapter": path}) for path in _READ if path),
        ("tune", {"segment_seconds": math.inf}),
        ("tune", {"gafilter_kernel_size": 4}),
        ("tune", {"train_mode": "\0"}),
        ("tune", {"loss": "feature_matching"}),
        ("tune", {"lambda_l2sp": math.nan}),
        *(("search", {"reference_dir": path}) for path in _READ),
        ("search", {"opt_lr": math.nan}),
        ("search", {"n_opt_steps": 10**9}),
        ("search", {"gradient": "rm -rf"}),
        ("search", {"steps": 0}),
        ("search", {"ti_strength": math.nan}),
        ("search", {"steering_strength": math.inf}),
        ("search", {"takes": 2}),
        ("search", {"unknown": 1}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_hostile_value_is_a_sentence_and_touches_nothing(learn, tune, search, comfy, name, settings):
    run = {"learn": learn, "tune": tune, "search": search}[name]
    before = sorted(comfy.base.rglob("*"))
    with pytest.raises(SelVAError) as caught:
        run(**settings)
    assert 10 < len(str(caught.value)) < 800
    assert sorted(comfy.base.rglob("*")) == before
    assert not (comfy.base.parent / "up.pt").exists()


@pytest.mark.parametrize("path", [*_PATHS, "/etc/passwd", ".", "nowhere.pt"])
def test_a_hostile_path_of_a_loader_is_a_sentence_and_touches_nothing(nodes, model, comfy, path):
    before = sorted(comfy.base.rglob("*"))
    for name in ("TextualInversionLoader", "ActivationSteeringLoader", "BigvganLoader"):
        into = [model] if name == "BigvganLoader" else []
        with pytest.raises(SelVAError) as caught:
            nodes[f"Selva{name}"].execute(*into, path)
        assert len(str(caught.value)) < 800
    assert sorted(comfy.base.rglob("*")) == before


@pytest.mark.parametrize(
    "settings",
    [
        {"output_path": "../v.pt"},
        {"output_path": "v.safetensors"},
        {"n_samples": 0},
        {"contrast_dir": "nowhere"},
        {"time_bins": 10**6},
    ],
    ids=str,
)
def test_a_hostile_value_of_the_extractor_is_a_sentence(nodes, model, data, comfy, settings):
    extract = nodes["SelvaActivationSteeringExtractor"].execute
    with pytest.raises(SelVAError):
        extract(model, **{"data_dir": str(data), "output_path": "v.pt", "n_samples": 1, **settings})
    assert [each for each in comfy.base.rglob("*") if each.is_file()] == []
