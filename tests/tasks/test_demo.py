import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from selva_audio.errors import OutputError
from selva_audio.media.audio import read_audio_track
from selva_audio.media.video import probe
from selva_audio.progress import Progress
from selva_audio.tasks.demo import run_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory):
    """The demo, run once, and what it reported."""
    seen: list[Progress] = []
    return run_demo(tmp_path_factory.mktemp("demo") / "demo_out", on_progress=seen.append), seen


def test_there_is_a_video_with_sound_per_object_and_they_differ(demo) -> None:
    result, _ = demo
    assert len(result.videos) == 2
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


def test_an_untrained_model_is_told(demo, demo_model) -> None:
    assert ("untrained" in demo[0].warning) is demo_model.placeholder


def test_progress_rises_to_the_end(demo) -> None:
    steps = [each.step for each in demo[1]]
    assert steps == sorted(steps)
    assert steps[-1] > 900


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        run_demo(tmp_path / "file" / "demo_out")


@pytest.mark.slow
def test_the_command_writes_into_the_folder_and_says_what_it_is(demo, demo_model, tmp_path: Path) -> None:
    code = "from selva_audio.cli import main; main()"
    command = [sys.executable, "-c", code, "demo", "--output", str(tmp_path / "out"), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(run.stdout)
    assert [Path(path).name for path in result["videos"]] == [path.name for path in demo[0].videos]
    assert Path(result["picture"]).is_file()
    assert ("NOTE: " in run.stderr) is demo_model.placeholder
    # The same command makes the same sound, whatever the folder.
    for path, first in zip(result["videos"], demo[0].videos, strict=True):
        assert np.array_equal(read_audio_track(path).waveform, read_audio_track(first).waveform)
