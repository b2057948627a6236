from pathlib import Path

import numpy as np
import pytest

from selva_audio.dataset.motion import Motion, find_cuts, see_motion, sound_offset
from selva_audio.media.encode import write_video
from selva_audio.scenes import draw_frames, draw_scene, mixture

RATE = 16000


def scenes(number: int) -> np.ndarray:
    """Three pictures, each of 20 frames, in which a small square moves."""
    level = (40, 200, 90)[number // 20 % 3]
    pixels = np.full((48, 64, 3), level, np.uint8)
    pixels[10:20, number % 20 : number % 20 + 10] = 255 - level
    return pixels


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Motion, np.ndarray]]:
    """What is seen and heard of drawn scenes."""
    found = []
    for seed in range(5):
        scene = draw_scene(seed, split="val", duration=8.0)
        video = tmp_path_factory.mktemp("drawn") / "x.mp4"
        write_video(draw_frames(scene, size=32), 25, video)
        found.append((see_motion(video), mixture(scene).astype(np.float32)))
    return found


def moved(wave: np.ndarray, seconds: float) -> np.ndarray:
    samples = round(seconds * RATE)
    if samples >= 0:
        return np.concatenate([np.zeros(samples, np.float32), wave])[: len(wave)]
    return np.concatenate([wave[-samples:], np.zeros(-samples, np.float32)])


def test_hard_cuts_are_found_at_their_time_and_motion_is_none(make_clip, tmp_path: Path) -> None:
    motion = see_motion(make_clip(tmp_path / "x.mp4", np.arange(60) / 25, pictures=scenes))
    assert find_cuts(motion) == pytest.approx([0.8, 1.6], abs=0.041)
    assert motion.duration == pytest.approx(2.4, abs=0.01)
    still = make_clip(tmp_path / "y.mp4", np.arange(19) / 25, pictures=scenes)
    assert find_cuts(see_motion(still)) == ()


def test_a_picture_that_always_changes_has_no_cuts(make_clip, tmp_path: Path) -> None:
    flicker = lambda number: np.full((48, 64, 3), 220 if number % 2 else 30, np.uint8)
    assert find_cuts(see_motion(make_clip(tmp_path / "x.mp4", np.arange(40) / 25, pictures=flicker))) == ()


def test_the_offset_of_drawn_hits_is_found_where_one_is_told(drawn) -> None:
    told = 0
    for motion, wave in drawn:
        for shift in (-0.4, 0.0, 0.4):
            found = sound_offset(motion, moved(wave, shift), RATE)
            if found is not None:
                assert found == pytest.approx(shift, abs=0.1)
                told += 1
    assert told >= 5


def test_nothing_is_told_of_steady_sounds_still_pictures_and_other_videos(drawn) -> None:
    motion, wave = drawn[0]
    rain = 0.1 * np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    assert sound_offset(motion, rain, RATE) is None
    still = Motion(motion.times, np.zeros_like(motion.changes), motion.duration)
    assert sound_offset(still, wave, RATE) is None
    assert sound_offset(motion, wave[: 2 * RATE], RATE) is None
    others = [sound_offset(motion, other, RATE) for _, other in drawn[1:]]
    assert sum(found is not None for found in others) <= 1


def test_a_beat_fits_at_many_lags_and_so_at_none() -> None:
    moments = np.arange(0.5, 8, 0.32)
    changes, wave = np.zeros(200), np.zeros(8 * RATE, np.float32)
    for moment in moments:
        changes[round(25 * moment)] = 5.0
        wave[round(moment * RATE) :][:2000] += 0.3 * np.exp(-np.arange(2000) / 300).astype(np.float32)
    motion = Motion(np.arange(200) / 25, changes, 8.0)
    assert sound_offset(motion, wave, RATE) is None
