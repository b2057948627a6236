import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from selva_audio.errors import InputError, MediaError, MissingFileError, OutputError
from selva_audio.media.audio import read_audio_track
from selva_audio.media.video import probe
from selva_audio.progress import Cancelled, Progress
from selva_audio.tasks.demo import WARNING, run_demo, run_demo_on_video


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory):
    """The demo, run once, and what it reported."""
    seen: list[Progress] = []
    return run_demo(tmp_path_factory.mktemp("demo") / "demo_out", on_progress=seen.append), seen


def test_there_is_a_video_with_sound_per_object_and_they_differ(demo) -> None:
    result, _ = demo
    assert sorted(path.name for path in result.videos) == ["metal_ball.mp4", "rubber_ball.mp4"]
    sounds = []
    for path in result.videos:
        sound, info = read_audio_track(path), probe(path)
        assert path.suffix == ".mp4" and info.codec == "h264"
        assert sound is not None
        assert abs(sound.duration - info.duration) <= 1 / info.average_rate
        sounds.append(sound.waveform)
    assert not np.array_equal(*sounds)


def test_the_picture_shows_the_spectrograms(demo) -> None:
    pixels = imread(demo[0].picture)
    assert demo[0].picture.suffix == ".png"
    assert min(pixels.shape[:2]) > 300
    assert pixels[..., :3].std() > 0.05


def test_the_sounds_are_on_the_impacts_of_what_was_prompted(demo) -> None:
    result, _ = demo
    assert set(result.scores) == {"metal ball", "rubber ball"}
    for score in (*result.scores.values(), result.overall):
        assert score["onset_f1_50ms"] >= 0.7
        assert score["onset_f1_80ms"] >= score["onset_f1_50ms"]
        assert score["cross_hits"] <= 0.25
    assert result.warning == ""


def test_progress_rises_to_the_end(demo) -> None:
    steps = [each.step for each in demo[1]]
    assert steps == sorted(steps)
    assert steps[-1] == 1000


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        run_demo(tmp_path / "file" / "demo_out")
    with pytest.raises(OutputError, match="Cannot create the folder"):
        run_demo_on_video(tmp_path / "file", "dog", tmp_path / "file" / "demo_out")


def test_a_clip_of_the_user_gets_sound_a_spectrogram_and_an_honest_warning(
    clip: Path, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    result = run_demo_on_video(clip, "dog, barking?", tmp_path / "out", on_progress=seen.append)
    (video,) = result.videos
    assert video == tmp_path / "out" / "clip_dog_barking.mp4"
    assert result.picture == tmp_path / "out" / "clip_dog_barking.png"
    assert abs(read_audio_track(video).duration - 1.0) <= 1 / 25
    assert imread(result.picture)[..., :3].std() > 0.05
    assert result.warning == WARNING and "means nothing" in WARNING
    assert (result.scores, result.overall, result.clip) == ({}, {}, None)
    assert seen[-1].step == seen[-1].total


@pytest.mark.parametrize(
    ("video", "words", "error", "sentence"),
    [
        ("clip", " ", InputError, "--prompt TEXT"),
        ("none.mp4", "dog", MissingFileError, "no file or folder"),
        ("text.mp4", "dog", MediaError, "cannot be opened as media"),
    ],
    ids=["prompt", "missing", "no video"],
)
def test_what_cannot_be_done_with_a_clip_is_a_sentence(
    clip: Path, tmp_path: Path, video: str, words: str, error: type[Exception], sentence: str
) -> None:
    (tmp_path / "text.mp4").write_text("no video " * 100)
    with pytest.raises(error, match=sentence):
        run_demo_on_video(clip if video == "clip" else tmp_path / video, words, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_a_cancelled_run_leaves_nothing_half_written(clip: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "sampling":
            raise Cancelled

    with pytest.raises(Cancelled):
        run_demo_on_video(clip, "dog", tmp_path / "out", on_progress=stop)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_the_same_command_makes_the_same_sound_in_a_process_of_its_own(demo, tmp_path: Path) -> None:
    code = "from selva_audio.cli import main; main()"
    command = [sys.executable, "-c", code, "demo", "--output", str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "onset F1" in run.stderr and "NOTE: " not in run.stderr
    for path in demo[0].videos:
        again = read_audio_track(tmp_path / "out" / path.name)
        assert np.array_equal(again.waveform, read_audio_track(path).waveform)
