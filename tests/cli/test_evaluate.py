import json
from pathlib import Path

import pytest
import torch

from selva_audio.features import VideoFeatures, save_features
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
        (["--textual-inversion", "nowhere.pt", *FP32], "There is no textual inversion nowhere.pt"),
        (["--vocoder", "nowhere.pt", *FP32], "nowhere.pt"),
        (["--ti-strength", "0.5", *FP32], "Give --textual-inversion too"),
    ],
    ids=str,
)
def test_bad_usage_is_one_sentence(selva, arguments: list[str], sentence: str) -> None:
    result = selva("evaluate", "selectivity", *arguments)
    assert (result.code, result.out) == (2, "")
    assert sentence in result.err and "Traceback" not in result.err


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Two clips of a second, the base and an adapter that is not there."""
    folder = tmp_path / "set"
    folder.mkdir()
    for number, name in enumerate("ab"):
        noise = torch.Generator().manual_seed(number)
        clip, sync = (torch.randn(1, *shape, generator=noise) for shape in ((8, 64), (16, 96)))
        save_features(folder / f"{name}.npz", VideoFeatures(clip, sync, prompt="metal", duration=1.0))
        write_audio(folder / f"{name}.wav", Audio(0.1 * torch.randn(1, 1, 16000, generator=noise), 16000))
    listed = [{"id": "base"}, {"id": "lost", "path": "nowhere.pt"}]
    content = {"data_dir": str(folder), "output_dir": str(tmp_path / "out"), "steps": 1, "adapters": listed}
    (tmp_path / "plan.json").write_text(json.dumps(content))
    return tmp_path / "plan.json"


def test_adapters_are_a_table_of_one_line_each_and_the_lost_one_is_said(selva, plan: Path) -> None:
    result = selva("evaluate", "adapters", plan, "--variant", "demo_16k", *FP32)
    assert result.code == 1
    head, base, lost = result.out.splitlines()
    assert head.split()[:3] == ["adapter", "ltas", "dB"] and base.startswith("base") and "±" in base
    assert lost.split() == ["lost", "failed"] and "Failed: lost: There is no adapter nowhere.pt" in result.err
    assert "metric_comparison.png" in result.err


def test_the_summary_of_a_comparison_is_printed_as_json(selva, plan: Path) -> None:
    result = selva("evaluate", "adapters", plan, "--variant", "demo_16k", *FP32, "--json")
    assert [row["status"] for row in result.json["adapters"]] == ["completed", "failed"]
    assert result.json == json.loads((plan.parent / "out" / "eval_summary.json").read_text())


def test_a_plan_with_a_wrong_key_is_one_sentence(selva, plan: Path) -> None:
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"output": "x"}))
    result = selva("evaluate", "adapters", plan, "--variant", "demo_16k")
    assert (result.code, result.out) == (2, "") and "Did you mean 'output_dir'" in result.err
