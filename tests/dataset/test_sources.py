import json
from pathlib import Path

import pytest

from selva_audio.dataset.prompts import read_prompts, read_sidecar
from selva_audio.dataset.sources import Source, describe, find_videos, read_all_prompts, recording_of
from selva_audio.errors import InputError, MissingFileError


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def about(root: Path, name: str, recordings: str = "name") -> Source:
    videos = find_videos(root, leave=root / "out")
    return describe(root / name, root, read_all_prompts(root, videos), recordings=recordings)


def test_videos_are_found_in_all_folders_but_not_hidden_ones_nor_in_the_output(tmp_path: Path) -> None:
    put(
        tmp_path,
        "b.mp4",
        "dog/a.MOV",
        "dog/deep/c.webm",
        "out/videos/d.mp4",
        ".x/e.mp4",
        "dog/.f.mp4",
        "m.png",
    )
    found = find_videos(tmp_path, leave=tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "b.mp4",
        "dog/a.MOV",
        "dog/deep/c.webm",
    ]


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="holds no video"):
        find_videos(tmp_path, leave=tmp_path / "out")
    with pytest.raises(MissingFileError, match="There is no folder"):
        find_videos(tmp_path / "none", leave=tmp_path / "out")


def test_the_folder_is_the_label_and_stands_for_the_prompt(tmp_path: Path) -> None:
    root = tmp_path / "my_clips"
    put(root, "dog_bark/a.mp4", "b.mp4", "val/cat/c.mp4")
    assert (about(root, "dog_bark/a.mp4").label, about(root, "dog_bark/a.mp4").prompt) == (
        "dog_bark",
        "dog bark",
    )
    assert about(root, "b.mp4").label == "my_clips"
    assert (about(root, "val/cat/c.mp4").label, about(root, "val/cat/c.mp4").split) == ("cat", "val")


def test_prompts_come_from_the_list_then_the_neighbour_then_the_label(tmp_path: Path) -> None:
    put(tmp_path, "dog/a.mp4", "dog/b.mp4", "dog/c.mp4", "dog/d.mp4")
    (tmp_path / "prompts.txt").write_text("dog/a.mp4: from the top\nb: by its name\n")
    (tmp_path / "dog" / "prompts.txt").write_text("a.mp4: from the folder\n")
    (tmp_path / "dog" / "a.txt").write_text("from the neighbour")
    (tmp_path / "dog" / "c.txt").write_text("from the\nneighbour \n")
    (tmp_path / "dog" / "d.json").write_text(json.dumps({"prompt": "from JSON", "label": "wolf", "x": 1}))
    assert [about(tmp_path, f"dog/{name}.mp4").prompt for name in "abcd"] == [
        "from the folder",
        "by its name",
        "from the neighbour",
        "from JSON",
    ]
    assert about(tmp_path, "dog/d.mp4").label == "wolf"


def test_a_sound_beside_the_video_is_its_sound(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "a.flac", "a.wav", "b.mp4")
    assert about(tmp_path, "a.mp4").sound == tmp_path / "a.wav"
    assert about(tmp_path, "b.mp4").sound is None


def test_a_recording_is_told_by_the_name_without_its_number(tmp_path: Path) -> None:
    put(tmp_path, "dog/x_001.mp4", "dog/x_002.mp4", "cat/x_001.mp4")
    one, two, other = (
        about(tmp_path, name).source_id for name in ("dog/x_001.mp4", "dog/x_002.mp4", "cat/x_001.mp4")
    )
    assert one == two == "dog/x" != other
    assert about(tmp_path, "dog/x_001.mp4", "file").source_id == "dog/x_001"
    assert recording_of("_12") == "_12" and recording_of("take5_0001_glass") == "take5_0001_glass"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"a.mp4\n", "line 1: 'a.mp4' is not `file name: prompt`"),
        (b"# x\na.mp4:\n", "line 2"),
        (b"a: x\na.mp4: y\n", "'a.mp4' has a prompt already"),
        (b"\xff\xfea", "is not UTF-8 text"),
    ],
)
def test_a_strange_list_of_prompts_is_one_sentence(tmp_path: Path, text: bytes, sentence: str) -> None:
    (tmp_path / "prompts.txt").write_bytes(text)
    with pytest.raises(InputError, match=sentence):
        read_prompts(tmp_path)


def test_the_first_colon_splits_and_dots_in_names_stay(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\ufeffv1.2_dog.npz: a: b\n", encoding="utf-8")
    assert read_prompts(tmp_path) == {"v1.2_dog": "a: b"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "is no JSON"), ("[]", "must hold an object"), ('{"prompt": 3}', "'prompt' of .* must be a text")],
)
def test_a_strange_neighbour_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_sidecar(tmp_path / "a.mp4")
