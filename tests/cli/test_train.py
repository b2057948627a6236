"""``selva train lora`` and ``selva dataset check`` on data that cannot be used: one sentence each."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from trainable_clips import write_clips

from selva_audio.features import VideoFeatures, save_features

TOY = ("--variant", "demo_16k", "--precision", "fp32", "--device", "cpu")
QUICK = ("--steps", 2, "--save-every", 1, "--rank", 1, "--batch-size", 1, "--sample-steps", 0)
RATE = 16000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two clips, good and bad; what is wrong with bad is up to the test."""
    return write_clips(tmp_path / "clips", ("good", "bad"))


@pytest.fixture
def train(selva, data: Path, tmp_path: Path):
    """``train("--json", target="qkv")``: two steps."""

    def run(*flags: object, target: str = "qkv"):
        folders = ("--data-dir", data, "--output-dir", tmp_path / "out")
        return selva("train", "lora", *folders, *TOY, *QUICK, "--target", target, *flags)

    return run


def no_features(data: Path) -> None:
    (data / "bad.npz").write_bytes(b"torn")


def no_sound(data: Path) -> None:
    (data / "bad.wav").unlink()


def nan_sound(data: Path) -> None:
    soundfile.write(data / "bad.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")


def empty_sound(data: Path) -> None:
    soundfile.write(data / "bad.wav", np.zeros(0, np.float32), RATE)


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "features that are none": (no_features, "not a readable feature file"),
    "no sound": (no_sound, "There is no sound file beside the features of bad."),
    "NaN": (nan_sound, "holds NaN or infinite samples"),
    "no samples": (empty_sound, "no samples"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_clip_is_left_out_with_one_sentence_and_alone_ends_with_2(train, data, tmp_path, name) -> None:
    spoil, sentence = BAD[name]
    spoil(data)
    result = train()
    assert result.code == 0, result.err
    (told,) = [line for line in result.err.splitlines() if line.startswith("bad is left out: ")]
    assert sentence in told
    for path in data.glob("good.*"):
        path.unlink()
    shutil.rmtree(tmp_path / "out")
    alone = train()
    assert (alone.code, alone.out) == (2, "") and sentence in alone.err and "Traceback" not in alone.err
    assert not (tmp_path / "out").exists()


def of_another_model(data: Path) -> None:
    save_features(data / "bad.npz", VideoFeatures(torch.zeros(1, 64, 1024), torch.zeros(1, 192, 768)))


def nothing(data: Path) -> None:
    for path in data.iterdir():
        path.unlink()


def unknown_key(data: Path) -> None:
    (data / "dataset.json").write_text(json.dumps([{"path": "good", "labels": "x"}]))


@pytest.mark.parametrize(
    ("spoil", "flags", "sentence"),
    [
        (nothing, (), "no feature files (.npz) in"),
        (of_another_model, (), "takes 64: they are of another model"),
        (unknown_key, (), "Did you mean 'label'?"),
        (
            lambda data: None,
            ("--prior-preservation", 1, "--prior-dir", "nowhere"),
            "There is no folder nowhere",
        ),
        (lambda data: None, ("--resume", "nowhere.pt"), "nowhere.pt"),
    ],
    ids=["no npz", "another variant's features", "unknown key", "no prior", "no checkpoint"],
)
def test_what_cannot_be_trained_ends_with_2_and_one_sentence(
    train, data, tmp_path, spoil, flags, sentence
) -> None:
    spoil(data)
    result = train(*flags)
    assert (result.code, result.out) == (2, "")
    (told,) = [line for line in result.err.splitlines() if line.startswith("Error: ")]
    assert sentence in told and "Traceback" not in result.err
    assert not list(tmp_path.glob("out/*.pt"))


def test_a_target_that_matches_nothing_ends_with_2_and_the_nearest(train, tmp_path) -> None:
    result = train(target="qkv linaer1")
    assert result.code == 2 and "Error: " in result.err and "Did you mean 'linear1'?" in result.err
    assert not list(tmp_path.glob("out/*.pt"))


def test_mixed_rates_are_told_in_one_sentence(train, selva, data) -> None:
    soundfile.write(data / "bad.wav", 0.1 * np.random.default_rng(0).standard_normal(44100), 44100)
    result = train()
    assert result.code == 0
    assert result.err.count("The sounds have several sample rates (16000, 44100 Hz)") == 1
    checked = selva("dataset", "check", data)
    assert checked.code == 0 and "44100" in checked.out + checked.err


def test_a_disk_that_fills_during_a_checkpoint_is_one_sentence_and_the_last_one_stays(
    train, data, tmp_path, monkeypatch
) -> None:
    save = torch.save

    def full(content, handle, *arguments, **named):
        if "step00002" in str(handle.name):
            handle.write(b"half of it")
            raise OSError(28, "No space left on device")
        save(content, handle, *arguments, **named)

    monkeypatch.setattr(torch, "save", full)
    result = train()
    assert result.code == 2 and "no space is left" in result.err and "Traceback" not in result.err
    monkeypatch.undo()
    names = {path.name for path in (tmp_path / "out").glob("adapter_*")}
    assert "adapter_step00001.pt" in names and not {"adapter_step00002.pt", "adapter_final.pt"} & names
    resumed = train("--resume", tmp_path / "out" / "adapter_step00001.pt")
    assert resumed.code == 0, resumed.err


def test_what_came_out_is_told_in_words_and_as_json(train, tmp_path) -> None:
    told = train()
    assert told.out.startswith("done: 2 steps, loss ")
    assert "intruders (cosine under 0.5): " in told.out and "random changes of the same size: " in told.out
    assert "scale 2" in told.err
    result = train("--json").json
    assert result["status"] == "done" and result["intruders"]["layers"] == result["layers"] == 8
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == result
