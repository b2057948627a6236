import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_style import equal_tensors, snapshot

from selva_audio.adapters.textual_inversion import TextualInversion, read_inversion, write_inversion
from selva_audio.bundle import load_model
from selva_audio.errors import CheckpointError, InputError, MissingFileError
from selva_audio.features import save_features
from selva_audio.media.audio import read_audio, write_audio
from selva_audio.options import FeatureOptions, GenerateOptions, InversionOptions, TextualInversionOptions
from selva_audio.records import Audio
from selva_audio.tasks.generate import extract_features, generate
from selva_audio.tasks.replay import replay
from selva_audio.tasks.run import run_video
from selva_audio.tasks.style import with_textual_inversion
from selva_audio.tasks.textual_inversion import train_textual_inversion
from selva_audio.weights.io import write_object

ONE_STEP = GenerateOptions(steps=1)
QUICK = TextualInversionOptions(
    steps=2, save_every=2, batch_size=2, sample_steps=1, val_fraction=0.34, n_tokens=2
)
WIDTH = 64


@pytest.fixture(scope="module")
def files(demo_model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tokens")
    rows = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0))
    clip_id = demo_model.identity("clip")
    inversion = TextualInversion(3 * rows, "token", variant="demo_16k", clip_id=clip_id)
    unit = rows / rows.norm(dim=1, keepdim=True)
    write_object(folder / "pack.pt", {"embeddings": unit, "n_tokens": 4, "inject_mode": "prefix"})
    return {"token": write_inversion(folder / "token.pt", inversion), "pack": folder / "pack.pt"}


@pytest.fixture(scope="module")
def clip(make_clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", np.arange(25) / 25)


@pytest.fixture(scope="module")
def data(demo_model, clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short clips with their features."""
    folder = tmp_path_factory.mktemp("data")
    random = torch.Generator().manual_seed(0)
    for name in "abc":
        features = extract_features(demo_model, clip, FeatureOptions(prompt=f"ball {name}"))
        save_features(folder / f"{name}.npz", features)
        wave = torch.randn(1, 1, 16000, generator=random) * torch.exp(-torch.arange(16000) / 3000)
        write_audio(folder / f"{name}.wav", Audio(0.2 * wave.clamp(-4, 4), 16000))
    return folder


def sound(model, clip: Path, **settings) -> torch.Tensor:
    features = extract_features(model, clip, options=FeatureOptions(prompt="ball"))
    return generate(model, features, ONE_STEP.model_copy(update=settings)).waveform


@pytest.mark.parametrize("name", ["token", "pack"])
def test_tokens_are_heard_strength_0_is_plain_and_the_model_stays(demo_model, files, clip, name):
    before, weights = sound(demo_model, clip), snapshot(demo_model.clip)
    full, half, none = (
        with_textual_inversion(demo_model, files[name], InversionOptions(ti_strength=strength))
        for strength in (1.0, 0.5, 0.0)
    )
    assert not torch.equal(sound(full, clip), before)
    assert not torch.equal(sound(half, clip), sound(full, clip))
    assert torch.equal(sound(none, clip), before) and torch.equal(sound(demo_model, clip), before)
    assert equal_tensors(snapshot(demo_model.clip), weights)
    assert with_textual_inversion(demo_model, None) is demo_model


def test_replay_makes_the_sound_with_tokens_again(demo_model, files, clip, tmp_path):
    model = with_textual_inversion(demo_model, files["token"], InversionOptions(ti_strength=0.5))
    result = run_video(model, clip, tmp_path / "a.wav", FeatureOptions(prompt="ball"), ONE_STEP)
    recipe = json.loads((tmp_path / "a.wav.json").read_text())
    assert recipe["textual_inversion"]["options"] == {"ti_strength": 0.5}
    again = replay(tmp_path / "a.wav")
    first, second = (read_audio(each.outputs[0]).waveform for each in (result, again))
    assert torch.equal(first, second)
    files["token"].touch()
    moved = tmp_path / "moved.pt"
    moved.write_bytes(files["pack"].read_bytes())
    recipe["textual_inversion"]["path"] = str(moved)
    (tmp_path / "a.wav.json").write_text(json.dumps(recipe))
    with pytest.raises(InputError, match="is not the textual inversion of the recipe"):
        replay(tmp_path / "a.wav")


def test_tokens_of_other_models_are_refused_in_one_sentence(demo_model, files, tmp_path):
    good = read_inversion(files["token"])
    for changes, sentence in (
        ({"variant": "small_16k"}, "trained on small_16k, and this is demo_16k"),
        ({"clip_id": "md5:0"}, "other CLIP weights"),
        ({"embeddings": torch.ones(2, 1024)}, "1024 wide"),
    ):
        path = write_inversion(tmp_path / "t.pt", replace(good, **changes))
        with pytest.raises(CheckpointError, match=sentence):
            with_textual_inversion(demo_model, path)
    with pytest.raises(MissingFileError):
        with_textual_inversion(demo_model, tmp_path / "no.pt")
    with pytest.raises(InputError, match="without learned tokens"):
        with_textual_inversion(demo_model, None, InversionOptions(ti_strength=0.5))


def test_training_leaves_all_files_and_the_model_as_it_was(demo_model, data, tmp_path):
    weights = [snapshot(part) for part in (demo_model.generator, demo_model.clip)]
    result = train_textual_inversion(demo_model, data, tmp_path, QUICK)
    parts = (demo_model.generator, demo_model.clip)
    assert all(equal_tensors(old, snapshot(part)) for old, part in zip(weights, parts, strict=True))
    names = {path.name for path in tmp_path.iterdir()}
    assert {
        "embeddings_final.pt", "embeddings_final.safetensors", "embeddings_step00002.pt",
        "sample_step00000.wav", "sample_step00000.png", "sample_step00002.wav", "summary.json",
        "loss_raw.png", "loss_smoothed.png", "metrics.jsonl",
    } <= names  # fmt: skip
    assert result.path == result.embeddings_path == tmp_path / "embeddings_final.pt"
    summary = json.loads(result.summary_path.read_text())
    assert summary["parameters"] == 2 * WIDTH and summary["clips"] == {"train": 2, "val": 1}
    found = summary["validation"]
    assert found["difference"] == pytest.approx(found["after"] - found["before"])
    assert summary["config"]["lr"] == 5e-3  # what 0 stands for
    first, last = (read_audio(tmp_path / f"sample_step0000{step}.wav").waveform for step in (0, 2))
    assert not torch.equal(first, last)
    assert with_textual_inversion(demo_model, result.path).inputs.textual_inversion is not None


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_tokens_are_trained_in_every_precision(precision, data, tmp_path):
    model = load_model("demo_16k", device="cpu", precision=precision)
    options = QUICK.model_copy(update={"steps": 1, "sample_steps": 0, "val_fraction": 0.0})
    result = train_textual_inversion(model, data, tmp_path, options)
    assert read_inversion(result.path).embeddings.dtype == torch.float32
    assert np.isfinite(result.losses).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"template": "x"}, "<prompt> at most once"),
        ({"n_tokens": 17}, "n_tokens = 17"),
        ({"space": "x"}, "token"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        TextualInversionOptions.parse(**settings)
