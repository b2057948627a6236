import json
from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.dataset import read_dataset
from selva_audio.errors import InputError, MissingFileError, OutputError
from selva_audio.features import VideoFeatures, save_features
from selva_audio.media.audio import read_audio, write_audio
from selva_audio.media.loudness import lufs
from selva_audio.progress import Cancelled
from selva_audio.records import Audio
from selva_audio.tasks.dataset import check_dataset
from selva_audio.tasks.dataset_repair import is_dataset, repair_dataset

RATE = 44100


def pair(folder: Path, name: str, wave: np.ndarray, *, prompt: str = "dog") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_audio(folder / f"{name}.wav", Audio(torch.from_numpy(wave).float()[None, None], RATE))
    features = VideoFeatures(torch.zeros(1, 0, 8), torch.ones(1, 8, 4), prompt=prompt, duration=1.0)
    save_features(folder / f"{name}.npz", features)


def noise(seed: int, level: float = 0.01) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal(RATE)


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    """A good clip, one with a constant part, and one each that is silent, clipped, a copy, and alone."""
    folder = tmp_path / "flawed"
    pair(folder, "a", noise(0), prompt="a dog")
    pair(folder, "b", noise(1) + 0.1)
    pair(folder, "c", np.zeros(RATE))
    pair(folder, "d", (noise(2, 2.0)).clip(-0.9, 0.9))
    pair(folder, "e", 0.5 * noise(0))
    pair(folder, "f", noise(3))
    (folder / "f.wav").unlink()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_sounds_are_mended_features_kept_and_what_cannot_be_mended_left_out(flawed, tmp_path) -> None:
    before = contents(flawed)
    result = repair_dataset(flawed, tmp_path / "new", sample_rate=16000)
    assert contents(flawed) == before
    assert set(result.left_out) == {"c", "d", "e", "f"}
    assert "silent" in result.left_out["c"] and "same sound as a" in result.left_out["e"]
    assert contents(tmp_path / "new").keys() == {"a.flac", "a.npz", "b.flac", "b.npz", "dataset.json"}
    for entry in result.dataset.entries:
        sound = read_audio(entry.audio)
        assert sound.sample_rate == 16000
        assert lufs(sound.waveform[0], 16000) == pytest.approx(-23, abs=0.2)
        assert abs(float(sound.waveform.mean())) < 1e-4
        assert entry.npz.read_bytes() == before[f"{entry.id}.npz"]
    assert [entry.prompt for entry in read_dataset(tmp_path / "new").entries] == ["a dog", "dog"]
    assert all(not entry.checks for entry in check_dataset(tmp_path / "new").entries)


def test_pictures_and_masks_of_a_list_go_along_and_names_stay_apart(tmp_path, make_clip) -> None:
    root = tmp_path / "listed"
    for seed, kind in enumerate(("cat", "dog")):
        pair(root / kind / "features", "x", noise(seed))
        make_clip(root / kind / "x.mp4", np.arange(25) / 25)
        for name in ("x", "x_mask"):
            (root / kind / name).mkdir()
            (root / kind / name / "00001.png").write_bytes(kind.encode())
    listed = [{"path": f"{kind}/x", "label": kind} for kind in ("cat", "dog")]
    (root / "dataset.json").write_text(json.dumps(listed))
    entries = repair_dataset(root, tmp_path / "new", sample_rate=16000).dataset.entries
    assert [(each.id, each.label) for each in entries] == [("x", "cat"), ("x_2", "dog")]
    for each in entries:
        assert (each.frames / "00001.png").read_bytes() == each.label.encode()
        assert (each.mask / "00001.png").read_bytes() == each.label.encode()
        assert each.video.read_bytes() == (root / each.label / "x.mp4").read_bytes()


def test_a_stop_leaves_nothing_behind(flawed, tmp_path) -> None:
    def stop(progress) -> None:
        if progress.stage.startswith("mending b"):
            raise Cancelled

    with pytest.raises(Cancelled):
        repair_dataset(flawed, tmp_path / "new", sample_rate=16000, on_progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["flawed"]


def test_nothing_is_mended_in_place_and_nothing_replaced(flawed, tmp_path) -> None:
    before = contents(tmp_path)
    for folder in (flawed, flawed / "a.wav"):
        with pytest.raises(InputError, match="nothing is mended in place"):
            repair_dataset(flawed, folder, sample_rate=16000)
    assert contents(tmp_path) == before


def test_no_data_set_and_none_that_is_fit_are_sentences(tmp_path) -> None:
    with pytest.raises(MissingFileError, match="There is no data set"):
        repair_dataset(tmp_path / "none", tmp_path / "new", sample_rate=16000)
    pair(tmp_path / "silent", "a", np.zeros(RATE))
    with pytest.raises(InputError, match="without faults"):
        repair_dataset(tmp_path / "silent", tmp_path / "new", sample_rate=16000)
    assert not (tmp_path / "new").exists()


def test_a_disk_that_refuses_is_a_sentence_and_leaves_nothing(flawed, tmp_path, monkeypatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", refuse)
    with pytest.raises(OutputError, match="No space left"):
        repair_dataset(flawed, tmp_path / "new", sample_rate=16000)
    assert [path.name for path in tmp_path.iterdir()] == ["flawed"]


def test_a_data_set_is_known_by_its_files(flawed, tmp_path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "dataset.json").write_text("[]")
    assert is_dataset(flawed) and is_dataset(tmp_path / "list")
    assert is_dataset(tmp_path / "list" / "dataset.json")
    assert not is_dataset(tmp_path / "videos") and not is_dataset(tmp_path / "none")
