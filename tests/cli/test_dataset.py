import json
import shutil
from pathlib import Path

import numpy as np
import pytest

MODEL = ("--variant", "demo_16k", "--precision", "fp32", "--device", "cpu")


@pytest.fixture(scope="module")
def videos(make_clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip with a tone, and one without sound."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "dog").mkdir()
    make_clip(folder / "dog" / "good.mp4", np.arange(25) / 25, tone=440.0)
    make_clip(folder / "dog" / "mute.mp4", np.arange(25) / 25)
    return folder


def test_prepare_lists_what_failed_and_goes_on(selva, videos: Path, tmp_path: Path) -> None:
    result = selva("dataset", "prepare", videos, tmp_path / "set", *MODEL, "--json")
    assert result.code == 1
    assert "Failed: dog/mute.mp4: " in result.err and "Wrote 1 clips" in result.err
    assert list(result.json["failed"]) == ["dog/mute.mp4"] and result.json["written"] == ["good_001"]
    (entry,) = result.json["entries"]
    assert entry["npz"] == "good_001.npz" and entry["video"] == "videos/good_001.mp4"


def test_prepare_check_and_show_go_together(selva, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "dog").mkdir(parents=True)
    shutil.copy(videos / "dog" / "good.mp4", tmp_path / "in" / "dog")
    folder = tmp_path / "set"
    assert selva("dataset", "prepare", tmp_path / "in", folder, *MODEL).code == 0
    again = selva("dataset", "prepare", tmp_path / "in", folder, *MODEL)
    assert again.code == 0 and "1 were there" in again.err

    checked = selva("dataset", "check", folder, "--json")
    assert checked.code == 0 and checked.json["failed"] == []

    shown = selva("dataset", "show", folder, "--picture", tmp_path / "x.png")
    assert shown.code == 0 and (tmp_path / "x.png").is_file()
    head, row = shown.out.splitlines()
    assert head.split() == ["id", "label", "prompt", "seconds", "split", "findings"]
    assert row.split()[:5] == ["good_001", "dog", "dog", "1.00", "train"]
    assert selva("dataset", "show", folder / "dataset.json", "--json").json["entries"][0]["label"] == "dog"

    (folder / "good_001.flac").unlink()
    broken = selva("dataset", "check", folder, "--json")
    assert broken.code == 1 and broken.json["failed"] == ["good_001"]
    assert "no file" in broken.json["entries"][0]["checks"]["no_sound"]


def test_settings_reach_the_task(selva, videos: Path, tmp_path: Path) -> None:
    result = selva(
        "dataset", "prepare", videos, tmp_path / "set", *MODEL, "--shortest", 2, "--no-keep-video", "--json"
    )
    (entry,) = result.json["entries"]
    assert set(entry["checks"]) == {"short"} and entry["video"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("check", "none"), "There is no data set none"),
        (("show", "."), "No dataset.json and no feature files"),
        (("prepare", "none", "out", *MODEL), "There is no folder none"),
        (("prepare", ".", "out", *MODEL, "--window", "0"), "--window = '0'"),
        (("prepare", ".", "out", *MODEL, "--windows", "all"), "--windows"),
        (("prepare", "."), "OUTPUT"),
    ],
)
def test_bad_usage_is_one_sentence(selva, tmp_path: Path, monkeypatch, arguments, sentence) -> None:
    monkeypatch.chdir(tmp_path)
    result = selva("dataset", *arguments)
    assert result.code == 2 and sentence in result.err and result.out == ""
    assert not any(tmp_path.iterdir())


def test_a_hostile_list_is_refused(selva, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps([{"path": "../../x"}]))
    result = selva("dataset", "show", tmp_path)
    assert result.code == 2 and "leaves the folder" in result.err


def test_a_data_set_is_mended_into_another_folder(selva, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "dog").mkdir(parents=True)
    for name in ("a", "b"):
        shutil.copy(videos / "dog" / "good.mp4", tmp_path / "in" / "dog" / f"{name}.mp4")
    selva("dataset", "prepare", tmp_path / "in", tmp_path / "set", *MODEL)
    flags = ("--fix", "--window", 4, "--no-keep-video", "--json")
    result = selva("dataset", "prepare", tmp_path / "set", tmp_path / "new", *flags, *MODEL)
    assert result.code == 1 and list(result.json["left_out"]) == ["b_001"]
    assert [entry["id"] for entry in result.json["entries"]] == ["a_001"]
    assert "NOTE: without effect on a data set: --window, --keep-video." in result.err
    assert "Left out: b_001: This is the same sound as a_001" in result.err
    assert selva("dataset", "check", tmp_path / "new").code == 0


def test_show_chooses_by_label_side_and_faults(selva, tmp_path: Path) -> None:
    entries = [
        {"id": "a", "label": "dog", "split": "train"},
        {"id": "b", "label": "cat", "split": "val", "checks": {"silence": "It is silent."}},
        {"id": "c", "label": "cat", "split": "train"},
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"version": 1, "entries": entries}))

    def shown(*flags: str) -> list[str]:
        found = selva("dataset", "show", tmp_path, *flags, "--json").json["entries"]
        return [entry["id"] for entry in found]

    assert shown() == ["a", "b", "c"]
    assert shown("--label", "cat") == ["b", "c"]
    assert shown("--split", "train") == ["a", "c"]
    assert shown("--faults") == ["b"]
    assert shown("--label", "cat", "--split", "train") == ["c"]
