"""Writing frames as a video."""

import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from selva_audio.errors import InputError
from selva_audio.media.audio import read_audio_track
from selva_audio.media.encode import write_masks, write_video
from selva_audio.media.masks import load_mask
from selva_audio.media.video import probe, stream_frames
from selva_audio.records import Frames
from selva_audio.scenes import draw_frames, draw_scene


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".webm"])
def test_frames_and_sound_come_back(tmp_path: Path, clips: ModuleType, ending: str) -> None:
    pictures = np.stack([clips.picture(n, 47, 65) for n in range(30)])
    frames = Frames(pictures, np.arange(30) / 30)
    path = write_video(frames, 30.0, tmp_path / f"a{ending}", clips.impulses([0.5], 2.0, 44100))
    stream = stream_frames(path, {30.0: None})
    assert all(clips.number_of(sample.frame) == sample.source for sample in stream)
    assert stream.num_frames == 30
    assert stream.duration == pytest.approx(1.0, abs=2e-3)
    assert (probe(path).height, probe(path).width) == (48, 66)
    sound = read_audio_track(path)
    assert sound.duration == pytest.approx(1.0, abs=1 / 30)
    assert clips.click_times(sound, [0.5])[0] == pytest.approx(0.5, abs=2e-3)


def test_frames_may_be_made_on_the_way_and_equal_frames_give_equal_bytes(tmp_path, clips: ModuleType) -> None:
    first = write_video((clips.picture(n) for n in range(10)), 29.97, tmp_path / "a.mp4")
    second = write_video([clips.picture(n) for n in range(10)], 29.97, tmp_path / "b.mp4")
    assert first.read_bytes() == second.read_bytes()
    assert probe(first).average_rate == pytest.approx(29.97)


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path, clips: ModuleType) -> None:
    with pytest.raises(InputError, match="no frames"):
        write_video([], 25.0, tmp_path / "a.mp4")
    with pytest.raises(InputError, match=r"not '.avi'"):
        write_video([clips.picture(0)], 25.0, tmp_path / "a.avi")
    with pytest.raises(InputError, match="frame rate"):
        write_video([clips.picture(0)], 0.0, tmp_path / "a.mp4")
    with pytest.raises(InputError, match="Frame 1 is"):
        write_video([clips.picture(0), clips.picture(0, 20, 20)], 25.0, tmp_path / "a.mp4")
    assert os.listdir(tmp_path) == []


def test_equal_small_frames_give_equal_files_wherever_they_lie_in_memory(tmp_path: Path) -> None:
    pictures = draw_frames(draw_scene(5000002, split="train", duration=1.2), 112)
    sizes = np.random.default_rng(0).integers(1, 20000, 600)
    held, files = [], set()
    for run in range(20):

        def scattered(run: int = run):
            for picture, size in zip(pictures, sizes[30 * run :], strict=False):
                held.append(np.empty(size, np.uint8))
                yield picture.copy()

        files.add(write_video(scattered(), 25, tmp_path / "a.mp4").read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize("size", [(64, 64), (33, 47)])
def test_a_moving_mask_is_read_back_as_it_was(tmp_path: Path, size: tuple[int, int]) -> None:
    masks = np.random.default_rng(0).random((30, *size)) > 0.5
    loaded = load_mask(write_masks(masks, 25, tmp_path / "mask.png"))
    assert np.array_equal(loaded.values, 255 * masks.astype(np.uint8))
    assert np.allclose(loaded.times, np.arange(30) / 25)


def test_equal_masks_give_equal_files(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((5, 16, 16)) > 0.5
    first, second = (write_masks(masks, 25, tmp_path / name) for name in ("a.png", "b.png"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("masks", "name", "sentence"),
    [
        ([], "mask.png", "no masks to write"),
        ([np.ones((4, 4), bool)], "mask.mp4", "written as .png"),
        ([np.ones((4, 4), bool), np.ones((4, 6), bool)], "mask.png", "Frame 1 is"),
    ],
    ids=["none", "ending", "size"],
)
def test_masks_that_cannot_be_written_leave_no_file(tmp_path: Path, masks, name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        write_masks(masks, 25, tmp_path / name)
    assert not list(tmp_path.iterdir())
