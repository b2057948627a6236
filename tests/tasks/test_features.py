from pathlib import Path

import pytest
import torch

from selva_audio.errors import InputError
from selva_audio.features import load_features
from selva_audio.options import FeatureOptions
from selva_audio.tasks.features import write_features

DOG = FeatureOptions(prompt="dog")


def test_a_file_is_written_where_asked(demo_model, clip: Path, tmp_path: Path) -> None:
    path, features = write_features(demo_model, clip, tmp_path / "new" / "x.npz", DOG)
    assert path == tmp_path / "new" / "x.npz"
    assert torch.equal(load_features(path).sync, features.sync)


def test_a_folder_gets_the_name_of_the_video(demo_model, clip: Path, tmp_path: Path) -> None:
    path, _ = write_features(demo_model, clip, tmp_path / "folder", DOG)
    assert path == tmp_path / "folder" / "clip.npz"


def test_a_name_numbers_files_in_the_folder(demo_model, clip: Path, tmp_path: Path) -> None:
    options = FeatureOptions(prompt="dog", name="bark", cache_dir=tmp_path / "unused")
    paths = [write_features(demo_model, clip, tmp_path / "set", options)[0] for _ in range(2)]
    assert [path.name for path in paths] == ["bark_001.npz", "bark_002.npz"]
    assert {path.parent for path in paths} == {tmp_path / "set"}


@pytest.mark.parametrize(
    ("output", "name", "sentence"),
    [("x.npy", "", r"Features are \.npz files; 'x\.npy'"), ("x.npz", "bark", "Give one of the two")],
)
def test_another_kind_of_output_is_refused(demo_model, clip, tmp_path, output, name, sentence) -> None:
    with pytest.raises(InputError, match=sentence):
        write_features(demo_model, clip, tmp_path / output, FeatureOptions(name=name))
    assert not list(tmp_path.iterdir())
