import json
from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.errors import InputError, MissingFileError
from selva_audio.media.audio import write_audio
from selva_audio.media.encode import write_video
from selva_audio.options import SelectivityOptions
from selva_audio.records import Audio
from selva_audio.scenes import draw_frames, draw_scene, mixture, stem
from selva_audio.tasks.evaluate_folder import evaluate_clips, evaluate_folder

ONE_STEP = SelectivityOptions(steps=1)


def sound(name: str, seed: int = 0, gain: float = 1.0) -> Audio:
    scene = draw_scene(seed, split="val", materials=(name,), num_objects=1, duration=2)
    return Audio(gain * torch.from_numpy(stem(scene, 0))[None, None], 16000)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """``metal_ball/1.mp4`` with its sound, ``wood/1.mp4`` with its sound beside it, ``wood/2.mp4`` silent."""
    folder = tmp_path / "classes"
    for name, part, audio in (("metal_ball", "1", True), ("wood", "1", False), ("wood", "2", False)):
        scene = draw_scene(1, split="val", materials=(name.split("_")[0],), num_objects=1, duration=2)
        track = Audio(torch.from_numpy(mixture(scene))[None, None], 16000)
        video = folder / name / f"{part}.mp4"
        write_video(draw_frames(scene, 64), 25, video, track if audio else None)
        if (name, part) == ("wood", "1"):
            write_audio(video.with_suffix(".flac"), track)
    return folder


def test_every_video_with_sound_is_scored_by_its_class(demo_model, classes: Path, tmp_path: Path):
    result = evaluate_folder(demo_model, classes, ONE_STEP, output=tmp_path / "result.json")
    assert set(result["classes"]) == {"metal_ball", "wood"}
    assert [clip["file"] for clip in result["clips"]] == ["metal_ball/1.mp4", "wood/1.mp4"]
    assert all(clip["own_onsets"] >= 1 for clip in result["clips"])
    assert result["skipped"] == ["wood/2.mp4"]
    assert json.loads((tmp_path / "result.json").read_text()) == result


def test_folders_that_cannot_be_scored_are_told(demo_model, classes: Path, tmp_path: Path):
    with pytest.raises(MissingFileError, match="no folder"):
        evaluate_folder(demo_model, tmp_path / "nowhere", ONE_STEP)
    with pytest.raises(MissingFileError, match="one folder per class"):
        evaluate_folder(demo_model, classes / "wood", ONE_STEP)
    with pytest.raises(InputError, match="materials = 'wood' is about drawn scenes"):
        evaluate_folder(demo_model, classes, SelectivityOptions(materials="wood"))
    (classes / "metal_ball" / "1.mp4").unlink()
    (classes / "wood" / "1.flac").unlink()
    with pytest.raises(InputError, match="None of the 2 videos"):
        evaluate_folder(demo_model, classes, ONE_STEP)


def test_clips_are_measured_and_compared_by_name(tmp_path: Path):
    made, real = tmp_path / "made", tmp_path / "real"
    write_audio(made / "a.wav", sound("metal", gain=0.5))
    write_audio(made / "b.wav", sound("wood", 1))
    write_audio(made / "c.wav", sound("wood", 2))
    write_audio(real / "a.flac", sound("metal"))
    write_audio(real / "b.flac", sound("metal", 1))
    alone = evaluate_clips(made)
    assert set(alone["clips"]) == {"a.wav", "b.wav", "c.wav"} and alone["without_reference"] == []
    assert alone["clips"]["a.wav"]["onsets"] >= 1 and "log_mel_l1" not in alone["means"]
    both = evaluate_clips(made, real, output=tmp_path / "clips.json")
    assert both["without_reference"] == ["c.wav"]
    same, other = both["clips"]["a.wav"], both["clips"]["b.wav"]
    assert same["stft_distance"] < other["stft_distance"]
    assert same["level_difference_db"] == pytest.approx(-6.02, abs=0.02)
    mean = np.mean([row["centroid_hz"] for row in both["clips"].values()])
    assert both["means"]["centroid_hz"] == pytest.approx(mean, abs=1e-3)
    assert json.loads((tmp_path / "clips.json").read_text()) == both


def test_folders_without_sounds_or_matches_are_told(tmp_path: Path):
    write_audio(tmp_path / "made" / "a.wav", sound("metal"))
    write_audio(tmp_path / "real" / "b.wav", sound("metal"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="no folder"):
        evaluate_clips(tmp_path / "nowhere")
    with pytest.raises(MissingFileError, match="holds no sounds"):
        evaluate_clips(tmp_path / "empty")
    with pytest.raises(InputError, match="matched by name"):
        evaluate_clips(tmp_path / "made", tmp_path / "real")
