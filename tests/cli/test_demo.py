import json
from pathlib import Path

import pytest

from selva_audio.media.audio import read_audio_track


def test_a_prompt_without_a_video_is_told(selva, tmp_path: Path) -> None:
    result = selva("demo", "-p", "dog", "-o", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    assert "--prompt goes with --video FILE" in result.err
    assert not (tmp_path / "out").exists()


def test_a_video_without_a_prompt_is_told(selva, clip: Path, tmp_path: Path) -> None:
    result = selva("demo", "--video", clip, "-o", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    assert "Say it with --prompt TEXT" in result.err


def test_a_clip_of_the_user_comes_with_a_warning(selva, clip: Path, tmp_path: Path) -> None:
    result = selva("demo", "--video", clip, "-p", "dog", "-o", tmp_path / "out", "--json")
    assert result.code == 0
    assert "NOTE: The demo model knows a few drawn materials" in result.err
    assert Path(result.json["videos"][0]).is_file() and Path(result.json["picture"]).is_file()
    assert result.json["warning"] and "onset_f1_50ms" not in result.json


def test_scenes_are_written_and_listed(selva, tmp_path: Path) -> None:
    arguments = ("demo", "scenes", "-o", tmp_path / "set", "--count", 2, "--duration", 1, "--size", 64)
    first, second = (selva(*arguments, "--materials", "glass,stone", "--json") for _ in range(2))
    assert (first.code, second.code) == (0, 0)
    assert [each["material"] for each in first.json["scenes"]] == ["glass", "stone"]
    assert all((tmp_path / "set" / each["video"]).is_file() for each in first.json["scenes"])
    assert json.loads((tmp_path / "set" / "scenes.json").read_text())["scenes"] == first.json["scenes"]
    assert (first.json["written"], second.json["written"]) == (2, 0)
    assert "Wrote 2 scenes" in first.err and "2 were there" in second.err


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--materials", "glas", "Did you mean 'glass'?"),
        ("--count", "0", "greater than or equal to 1"),
        ("--size", "63", "multiple of 2"),
        ("--size", "32", "greater than or equal to 64"),
        ("--objects", "4", "less than or equal to 3"),
        ("--duration", "0.5", "greater than or equal to 1"),
        ("--split", "tests", "'train', 'val' or 'test'"),
        ("--seed", "-1", "greater than or equal to 0"),
    ],
)
def test_options_out_of_range_are_one_sentence(
    selva, tmp_path: Path, option: str, value: str, sentence: str
) -> None:
    result = selva("demo", "scenes", "-o", tmp_path / "set", f"{option}={value}")
    assert (result.code, result.out) == (2, "")
    assert sentence in result.err and len(result.err.splitlines()) == 1
    assert not (tmp_path / "set").exists()


def test_the_help_of_a_sub_command_is_pointed_at(selva) -> None:
    assert "See `selva demo scenes --help`" in selva("demo", "scenes").err


@pytest.mark.slow
def test_the_demo_prints_and_returns_how_well_it_did(selva, tmp_path: Path) -> None:
    result = selva("demo", "-o", tmp_path / "out", "--json")
    assert result.code == 0
    assert result.json["onset_f1_50ms"] >= 0.7 and result.json["cross_hits"] <= 0.25
    assert set(result.json["scores"]) == {"metal ball", "rubber ball"}
    for prompt in result.json["scores"]:
        assert f"{prompt}: onset F1 " in result.err


@pytest.mark.slow
def test_a_written_scene_gets_the_sound_of_its_prompt_through_its_mask(
    selva, generate, tmp_path: Path
) -> None:
    written = selva("demo", "scenes", "--materials", "metal", "--count", 1, "-o", tmp_path / "set", "--json")
    (scene,) = written.json["scenes"]
    folder, output = tmp_path / "set", tmp_path / "out.mp4"
    mask = folder / scene["masks"]["metal"]
    result = generate(folder / scene["video"], "-p", scene["prompt"], "--mask", mask, "-o", output)
    assert (result.code, result.err.count("Done")) == (0, 1)
    assert read_audio_track(output).duration == pytest.approx(8.0, abs=1 / 25)
