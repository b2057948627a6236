from pathlib import Path

import pytest
import torch

from selva_audio.media.audio import write_audio
from selva_audio.records import Audio

FP32 = ("--precision", "fp32", "--device", "cpu")


def test_selectivity_prints_the_numbers_as_json(selva, tmp_path: Path) -> None:
    result = selva(
        "evaluate", "selectivity", "--scenes", 1, "--steps", 1, "--no-controls", *FP32,
        "--output", tmp_path / "result.json", "--figure", tmp_path / "result.png", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert 0 <= result.json["onset_f1_50ms"] <= 1 and result.json["variant"] == "demo_16k"
    assert (tmp_path / "result.json").is_file() and (tmp_path / "result.png").is_file()


def test_clips_are_listed_one_per_line(selva, tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", Audio(0.1 * torch.ones(1, 1, 16000), 16000))
    result = selva("evaluate", "clips", tmp_path)
    assert result.code == 0, result.err
    assert result.out.startswith("a.wav: duration 1,") and "means: " in result.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--materials", "fan"], "makes no impacts"),
        (["--generation-seeds", "1;2"], "whole numbers joined by commas"),
        (["--scenes", "0"], "greater than or equal to 1"),
        (["--folder", "x", "--figure", "x.png"], "--figure draws the benchmark of drawn scenes"),
        (["--folder", "x", "--scenes", "3"], "scenes = 3 is about drawn scenes"),
        (["--variant", "demo"], "demo_16k"),
    ],
    ids=str,
)
def test_bad_usage_is_one_sentence(selva, arguments: list[str], sentence: str) -> None:
    result = selva("evaluate", "selectivity", *arguments)
    assert (result.code, result.out) == (2, "")
    assert sentence in result.err and "Traceback" not in result.err
