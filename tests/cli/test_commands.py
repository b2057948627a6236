from pathlib import Path

import pytest

from selva_audio.configs import VARIANTS
from selva_audio.features import load_features

TOY = ("--variant", "demo_16k", "--precision", "fp32", "--device", "cpu")


def test_features_are_written_and_told(selva, clip: Path, tmp_path: Path) -> None:
    result = selva("features", clip, "-o", tmp_path / "x.npz", "-p", "dog", *TOY, "--json")
    assert result.code == 0
    assert result.json == {"path": str(tmp_path / "x.npz"), "duration": 1.0, "clip": 8, "sync": 16}
    assert load_features(tmp_path / "x.npz").prompt == "dog"


def test_named_features_are_numbered(selva, clip: Path, tmp_path: Path) -> None:
    arguments = ("features", clip, "--output", tmp_path / "set", "--name", "dog", *TOY)
    assert [selva(*arguments).code for _ in range(2)] == [0, 0]
    assert sorted(path.name for path in (tmp_path / "set").glob("*.npz")) == ["dog_001.npz", "dog_002.npz"]


def test_a_name_with_a_file_is_exit_two(selva, clip: Path, tmp_path: Path) -> None:
    result = selva("features", clip, "-o", tmp_path / "x.npz", "--name", "dog", *TOY)
    assert result.code == 2
    assert "Give one of the two" in result.err


def test_replay_without_a_recipe_is_exit_two(selva, tmp_path: Path) -> None:
    result = selva("replay", tmp_path / "x.wav")
    assert (result.code, result.out) == (2, "")
    assert "There is no recipe" in result.err


def test_doctor_reports_as_text_and_as_json(selva, tmp_path: Path) -> None:
    text = selva("doctor", "--models-dir", tmp_path)
    data = selva("doctor", "--models-dir", tmp_path, "--json")
    assert (text.code, text.err, data.code) == (0, "", 0)
    assert "selva models download small_16k" in text.out
    assert {"torch", "small_16k"} <= {finding["subject"] for finding in data.json}


def test_models_list_shows_every_variant_with_licences(selva, tmp_path: Path) -> None:
    text = selva("models", "list", "--models-dir", tmp_path)
    data = selva("models", "list", "--models-dir", tmp_path, "--json")
    assert all(variant in text.out for variant in VARIANTS)
    assert "not legal advice" in text.out
    assert [each["variant"] for each in data.json] == list(VARIANTS)


def test_models_where_shows_the_places_in_order(selva, tmp_path: Path) -> None:
    data = selva("models", "where", "small_16k", "--models-dir", tmp_path, "--json").json
    assert data[0]["places"][0].startswith(str(tmp_path))


def test_models_verify_of_what_is_missing_is_exit_one(selva, tmp_path: Path) -> None:
    result = selva("models", "verify", "small_16k", "--models-dir", tmp_path, "--json")
    assert result.code == 1
    assert {file["status"] for file in result.json} == {"missing"}


def test_a_download_without_a_network_is_exit_two(
    selva, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = selva("models", "download", "small_16k", "--models-dir", tmp_path)
    assert result.code == 2
    assert "offline" in result.err
