import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from selva_audio.dataset import Dataset, Entry, Origin, read_dataset, select, write_dataset
from selva_audio.errors import InputError, MissingFileError

ORIGIN = Origin("dog/a.mp4", "0123", "ff", 8.0, 2, "val")


def entry(root: Path, name: str = "a_001", **changes) -> Entry:
    files = {
        "video": root / "videos" / f"{name}.mp4",
        "audio": root / f"{name}.flac",
        "npz": root / f"{name}.npz",
    }
    return replace(
        Entry(name, **files, label="dog", prompt="dog barking", duration=8.0, fps=25.0, source_id="dog/a"),
        **changes,
    )


def written(root: Path, **changes) -> Path:
    """A dataset.json with one entry, some of whose values are others."""
    path = write_dataset(Dataset(root, (entry(root),), {"shortest": 1.0}))
    content = json.loads(path.read_text())
    content["entries"][0] |= changes
    path.write_text(json.dumps(content))
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    entries = (
        entry(tmp_path, split="val", checks={"rate": "Low."}, origin=ORIGIN),
        entry(tmp_path, "b_001", video=None, frames=tmp_path / "frames", prompt="été 'x'"),
    )
    dataset = Dataset(tmp_path.resolve(), entries, {"shortest": 1.0})
    write_dataset(dataset)
    assert read_dataset(tmp_path) == dataset
    assert read_dataset(tmp_path / "dataset.json") == dataset


def test_the_file_holds_relative_paths_and_the_documented_keys(tmp_path: Path) -> None:
    content = json.loads(write_dataset(Dataset(tmp_path, (entry(tmp_path),))).read_text())
    assert content["version"] == 1
    (found,) = content["entries"]
    keys = "id,video,audio,npz,frames,label,prompt,duration,fps,source_id,split,checks"
    assert ",".join(found) == keys
    assert found["video"] == "videos/a_001.mp4" and found["frames"] is None
    assert str(tmp_path) not in json.dumps(content)


def test_a_data_set_can_be_moved(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    written(tmp_path / "one")
    shutil.move(tmp_path / "one", tmp_path / "two")
    assert read_dataset(tmp_path / "two").entries[0].npz == tmp_path / "two" / "a_001.npz"


@pytest.mark.parametrize("path", ["../a.npz", "/etc/passwd", "x/../../a.npz", "a\0b"])
@pytest.mark.parametrize("key", ["video", "audio", "npz", "frames", "mask"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, key: str, path: str) -> None:
    with pytest.raises(InputError, match=f"'{key}' of .*entry 0: .*(leaves the folder|NUL)"):
        read_dataset(written(tmp_path, **{key: path}))


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "out").symlink_to(tmp_path)
    with pytest.raises(InputError, match="leaves the folder"):
        read_dataset(written(tmp_path / "set", npz="out/secret.npz"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompts": "x"}, "Unknown key 'prompts'. Did you mean 'prompt'?"),
        ({"id": ""}, "has no 'id'"),
        ({"id": 3}, "has no 'id'"),
        ({"label": 3}, "'label' of .* must be a text, not 3"),
        ({"split": "tset"}, "Unknown split 'tset'"),
        ({"duration": "8"}, "'duration' of .* must be 0 or a positive number, not '8'"),
        ({"fps": -1}, "must be 0 or a positive number"),
        ({"duration": True}, "must be 0 or a positive number"),
        ({"npz": 7}, "'npz' of .* must be a path as text"),
        ({"checks": ["silence"]}, "'checks' of .* must be an object of texts"),
        ({"origin": {"file": 1}}, "'origin' of .* is not as it was written"),
    ],
)
def test_a_strange_entry_is_one_sentence(tmp_path: Path, changes: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_dataset(written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is no JSON"),
        ("\udcff", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("3", "must hold an object or a list, not a int"),
        ("{}", "is of version None; this program reads version 1"),
        ('{"version": 2, "entries": []}', "is of version 2"),
        ('{"version": 1}', "has no list 'entries'"),
        ('{"version": 1, "entry": []}', "Unknown key 'entry'. Did you mean 'entries'?"),
        ('{"version": 1, "entries": [3]}', "entry 0 must be an object"),
        ('{"version": 1, "entries": [], "settings": {"x": "y"}}', "must be an object of numbers"),
        ('{"version": 1, "entries": [{"id": "a"}, {"id": "a"}]}', "names 'a' twice"),
        ('[{"path": "a", "labels": "x"}]', "Did you mean 'label'?"),
        ('[{"label": "x"}]', "has no 'path'"),
        ('[{"path": "../x"}]', "leaves the folder"),
        ('["a"]', "must be an object with a 'path'"),
    ],
)
def test_a_strange_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "dataset.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=sentence) as caught:
        read_dataset(path)
    assert len(str(caught.value)) < 400


def test_the_list_form_names_files_by_their_base(tmp_path: Path, make_pair) -> None:
    (tmp_path / "dog" / "features").mkdir(parents=True)
    make_pair(tmp_path / "dog" / "features", "bark", suffix=".wav")
    for name in ("bark", "bark_mask"):
        (tmp_path / "dog" / name).mkdir()
    (tmp_path / "dog" / "bark.mp4").write_bytes(b"x")
    listed = [{"path": "dog/bark", "label": "dog"}, {"path": str(tmp_path / "dog" / "gone")}]
    (tmp_path / "dataset.json").write_text(json.dumps(listed))
    found, gone = read_dataset(tmp_path).entries
    dog = tmp_path / "dog"
    assert (found.video, found.frames, found.mask) == (dog / "bark.mp4", dog / "bark", dog / "bark_mask")
    assert (found.audio, found.npz) == (dog / "features" / "bark.wav", dog / "features" / "bark.npz")
    assert (found.id, found.label, found.faults) == ("bark", "dog", {})
    assert set(gone.faults) == {"no_sound", "features"}


def test_pairs_without_a_list_take_prompts_from_file_features_and_folder(tmp_path: Path, make_pair) -> None:
    folder = tmp_path / "dog_bark"
    folder.mkdir()
    for name, prompt in (("a_001", "in the file"), ("a_002", ""), ("b", "in the file")):
        make_pair(folder, name, prompt=prompt)
    (folder / "prompts.txt").write_text("# mine\n\na_001.npz: listed: first\nnone.npz: x\n")
    dataset = read_dataset(folder)
    assert {each.id: each.prompt for each in dataset.entries} == {
        "a_001": "listed: first",
        "a_002": "dog bark",
        "b": "in the file",
    }
    assert [each.source_id for each in dataset.entries] == ["a", "a", "b"]
    assert {each.duration for each in dataset.entries} == {1.0}
    assert "'none'" in dataset.notes[0] and "no such file" in dataset.notes[0]


def test_of_two_sounds_of_one_name_the_wav_is_taken_and_the_other_named(tmp_path: Path, make_pair) -> None:
    make_pair(tmp_path, "a", suffix=".flac")
    make_pair(tmp_path, "a", suffix=".wav")
    dataset = read_dataset(tmp_path)
    assert dataset.entries[0].audio == tmp_path / "a.wav"
    assert any("a.flac" in note for note in dataset.notes)


def test_a_pair_that_is_not_whole_is_kept_with_its_fault(tmp_path: Path, make_pair) -> None:
    make_pair(tmp_path, "good")
    make_pair(tmp_path, "silent", suffix="")
    make_pair(tmp_path, "torn").write_bytes(b"PK\3\4")
    dataset = read_dataset(tmp_path)
    assert {each.id: set(each.faults) for each in dataset.entries} == {
        "good": set(),
        "silent": {"no_sound"},
        "torn": {"features"},
    }
    assert [each.id for each in select(dataset)] == ["good"]
    assert len(select(dataset, with_faults=True)) == 3


def test_an_empty_folder_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"name\.npz next to name\.wav.*selva dataset prepare"):
        read_dataset(tmp_path)
    with pytest.raises(MissingFileError, match="There is no data set"):
        read_dataset(tmp_path / "none")


def test_of_several_sounds_of_one_name_the_same_is_taken_in_every_process(tmp_path: Path, make_pair) -> None:
    """COMPAT 5.9: the public pack walked a set of endings, and its choice changed from run to run."""
    make_pair(tmp_path, "a", suffix=".flac")
    for suffix in (".wav", ".aiff", ".ogg"):
        (tmp_path / f"a{suffix}").write_bytes(b"x")
    dataset = read_dataset(tmp_path)
    assert dataset.entries[0].audio == tmp_path / "a.wav"
    assert dataset.notes == ("a has several sounds; a.wav is taken, and a.flac, a.ogg, a.aiff left out.",)


def test_prompts_in_another_form_are_refused_and_not_passed_over(tmp_path: Path, make_pair) -> None:
    """COMPAT 5.9: a trainer that split at another sign ignored the whole file."""
    make_pair(tmp_path, "a")
    (tmp_path / "prompts.txt").write_text("a.npz | a dog barking\n")
    with pytest.raises(InputError, match=r"line 1: .* is not `file name: prompt`"):
        read_dataset(tmp_path)
    (tmp_path / "prompts.txt").write_text("a.npz: a dog | barking\n")
    assert read_dataset(tmp_path).entries[0].prompt == "a dog | barking"
