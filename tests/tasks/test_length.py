from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selva_audio.bundle import SelVAModel
from selva_audio.configs import num_segments
from selva_audio.media.audio import read_audio_track
from selva_audio.media.video import stream_frames
from selva_audio.options import FeatureOptions, GenerateOptions
from selva_audio.tasks.generate import extract_features, generate
from selva_audio.tasks.run import run_video

QUICK = GenerateOptions(steps=1)
DOG = FeatureOptions(prompt="dog")


def jittered(draw, seconds: float, fps: float) -> np.ndarray:
    """Frame times of a variable rate with mean ``fps``."""
    count = max(round(seconds * fps), 1)
    jitter = draw(st.lists(st.floats(0.3, 1.7), min_size=count, max_size=count))
    return np.concatenate([[0.0], np.cumsum(np.array(jitter) / fps)])[:count]


@st.composite
def frame_times(draw, longest: float) -> np.ndarray:
    seconds = draw(st.floats(0.7, longest))
    fps = draw(st.sampled_from([5.0, 12.0, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0, 120.0]))
    regular = np.arange(max(round(seconds * fps), 1)) / fps
    times = jittered(draw, seconds, fps) if draw(st.booleans()) else regular
    return times + draw(st.sampled_from([0.0, 0.04, 0.5, 1.3]))


def check_length(model: SelVAModel, path: Path, times: np.ndarray, folder: Path) -> None:
    """Sound as long as the picture within one frame, through files; features fit the duration."""
    gap = float(np.diff(times).max()) if len(times) > 1 else 0.04
    ends = (times[-1], times[-1] + max(gap, 0.04))
    features = extract_features(model, path, DOG)
    assert ends[0] - 1e-3 <= features.duration <= ends[1] + 1e-3
    segments = max(num_segments(features.duration), 1)
    assert features.sync.shape[1] == 8 * segments
    assert features.clip.shape[1] == max(int(features.duration * 8), 1)
    audio = generate(model, features, QUICK)
    assert audio.waveform.shape[-1] == round(features.duration * 16000)
    run_video(model, path, folder / "out.wav", DOG, QUICK)
    written = read_audio_track(folder / "out.wav")
    assert written is not None and written.waveform.shape[-1] == audio.waveform.shape[-1]


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times=frame_times(2.5))
def test_sound_is_as_long_as_the_picture(demo_model, make_clip, tmp_path: Path, times: np.ndarray) -> None:
    path = make_clip(tmp_path / "clip.mp4", times)
    check_length(demo_model, path, times, tmp_path)


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times=frame_times(20.0))
def test_sound_is_as_long_as_a_longer_picture(demo_model, make_clip, tmp_path: Path, times) -> None:
    check_length(demo_model, make_clip(tmp_path / "clip.mkv", times), times, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("fps", "late"), [(5.0, 0.0), (29.97, 0.7), (120.0, 0.0)])
def test_sound_is_as_long_as_a_picture_of_seventy_seconds(demo_model, make_clip, tmp_path, fps, late) -> None:
    times = late + np.arange(round(70 * fps)) / fps
    check_length(demo_model, make_clip(tmp_path / "clip.mp4", times), times, tmp_path)


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".webm"])
def test_a_video_with_sound_is_as_long_as_its_source(demo_model, make_clip, tmp_path, ending: str) -> None:
    source = make_clip(tmp_path / f"a{ending}", 0.2 + np.arange(30) / 24)
    result = run_video(demo_model, source, tmp_path / f"b{ending}", DOG, QUICK)
    (path,) = result.outputs
    sound, picture = read_audio_track(path), stream_frames(path, {25.0: None})
    frames = list(picture)
    assert sound is not None
    assert abs(sound.duration - picture.duration) <= 1 / 24
    source_picture = stream_frames(source, {25.0: None})
    assert len(list(source_picture)) == len(frames)
    assert picture.duration == pytest.approx(source_picture.duration, abs=2e-3)
