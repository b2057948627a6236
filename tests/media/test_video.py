"""Reading video: the published rule against its goldens, and the streamed reader against known clips."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from selva_audio.errors import InputError, MediaError
from selva_audio.media.transforms import squash, to_clip, to_sync
from selva_audio.media.video import probe, read_frames, read_image, stream_arrays, stream_frames
from selva_audio.progress import Cancelled
from selva_audio.records import Frames

GOLDENS = ["video_12_0", "video_12_1", "video_25_0", "video_2997_0", "video_2997_1", "video_late_0"]


@pytest.mark.parametrize("name", GOLDENS)
def test_published_frame_choice_and_pixels(golden, name: str) -> None:
    expected = golden(name)
    path = expected.path.parent / expected.meta["file"]
    transforms = {8: lambda rgb: squash(rgb, 384), 25: lambda rgb: squash(rgb, 224)}
    frames, duration = read_frames(path, [8, 25], expected.meta["requested_duration"], transform=transforms)
    assert duration == expected.meta["duration_sec"]
    for rate in (8, 25):
        chosen = np.searchsorted(expected.arrays["frame_times"], frames[rate].times - 1e-9)
        wanted = expected.arrays[f"idx_{rate}"][: int(rate * duration)]
        np.testing.assert_array_equal(chosen, wanted)
    two_levels = 2 / 255
    assert expected.error("clip", to_clip(frames[8].pixels)) <= two_levels
    assert expected.error("sync", to_sync(frames[25].pixels)) <= 2 * two_levels
    assert expected.error("clip_u8_first", frames[8].pixels[0].transpose(2, 0, 1)) <= two_levels
    assert expected.error("sync_u8_first", frames[25].pixels[0].transpose(2, 0, 1)) <= two_levels


def test_full_size_frames_without_a_transform(golden) -> None:
    expected = golden("video_25_0")
    frames, _ = read_frames(expected.path.parent / expected.meta["file"], [8, 25], 3.0)
    assert frames[25].pixels.shape == (75, 252, 448, 3)
    assert expected.error("raw_rgb_first", frames[8].pixels[0]) <= 2 / 255


def _numbers(stream, clips: ModuleType, rate: float = 25.0) -> list[int]:
    return [clips.number_of(sample.frame) for sample in stream if sample.rate == rate]


RULES = {
    "constant.mp4": np.arange(50) / 25,
    "constant.mov": np.arange(50) / 25,
    "constant.mkv": np.arange(50) / 25,
    "constant.webm": np.arange(50) / 25,
    "constant.flv": np.arange(50) / 25,
    "constant.ts": np.arange(50) / 25,
    "slow.mp4": np.arange(10) / 5,
    "fast.mp4": np.arange(200) / 120,
    "ntsc.mp4": np.arange(60) * 1001 / 30000,
    "late.mp4": np.arange(30) / 25 + 0.375,
    "late.mkv": np.arange(30) / 25 + 0.375,
    "variable.mp4": np.cumsum(np.random.default_rng(0).uniform(0.01, 0.12, 40)) - 0.01,
    "variable.mkv": np.round(np.cumsum(np.random.default_rng(1).uniform(0.01, 0.12, 40)), 3),
    "single.mp4": np.zeros(1),
}


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_grid_time_shows_the_first_frame_at_or_after_it(folder, clips: ModuleType, name: str) -> None:
    times = RULES[name]
    path = clips.write_clip(folder / f"rule_{name}", times)
    stream = stream_frames(path, {25.0: None, 8.0: None})
    samples = list(stream)
    assert stream.num_frames == len(times)
    assert stream.notes == ()
    assert times[-1] < stream.duration < times[-1] + 0.25
    for sample in samples:
        grid = sample.index / sample.rate
        # One tick of the coarsest clock (Matroska, flv) is the most a time stamp can be off.
        source = min(np.searchsorted(times, grid - 1e-3), len(times) - 1)
        assert clips.number_of(sample.frame) in (source, min(source + 1, len(times) - 1))
        assert abs(sample.time - times[sample.source]) <= 1e-3
    count = sum(sample.rate == 25 for sample in samples)
    assert stream.duration <= count / 25 + 1e-5 < stream.duration + 1 / 25 + 1e-4


@settings(max_examples=12, deadline=None)
@example(fps=5, late=0.5, flash=0.125)
@given(
    fps=st.sampled_from([5, 12, 24, 25, 30, 50, 60, 120]), late=st.floats(0, 0.5), flash=st.floats(0.1, 0.9)
)
def test_flashes_are_found_within_one_source_frame_and_one_grid_step(
    tmp_path_factory, clips, fps, late, flash
):
    times = late + np.arange(fps) / fps
    bright = int(flash * fps)

    def pictures(number: int) -> np.ndarray:
        return np.full((32, 32, 3), 255 if number == bright else 0, dtype=np.uint8)

    path = clips.write_clip(
        tmp_path_factory.mktemp("flash") / "f.mp4", times, pictures=pictures, rate=clips.Fraction(fps)
    )
    stream = stream_frames(path, {25.0: None})
    shown = [sample.index / 25 for sample in stream if sample.frame.mean() > 128]
    assert stream.duration == pytest.approx(late + 1, abs=1e-3)
    # At 25 fps the published rule passes over frames 6, 18, ...: the sum of 1/25 is an ulp late there.
    if fps < 25:
        assert shown
    begins = times[bright] if bright else 0.0  # the first picture stands for what comes before it, too
    for moment in shown:
        assert begins - 1 / fps - 1 / 25 <= moment <= times[bright] + 1 / fps + 1 / 25


def test_path_and_arrays_give_the_same_samples(clip: Path) -> None:
    frames, _ = read_frames(clip, [1000.0], 60.0)
    unique, first = np.unique(frames[1000.0].times, return_index=True)
    batch = Frames(frames[1000.0].pixels[first], unique)
    for options in ({}, {"start": 0.5}, {"start": 0.31, "duration": 1.0}, {"fps": 50.0}):
        from_path = stream_frames(clip, {8.0: None, 25.0: None}, **options)
        from_arrays = stream_arrays(batch, {8.0: None, 25.0: None}, **options)
        for one, other in zip(from_path, from_arrays, strict=True):
            assert (one.rate, one.index, one.source) == (other.rate, other.index, other.source)
            np.testing.assert_array_equal(one.frame, other.frame)
        assert from_path.duration == pytest.approx(from_arrays.duration, abs=1e-6)


def test_assumed_rate_replaces_the_timestamps(clip: Path, clips: ModuleType) -> None:
    stream = stream_frames(clip, {25.0: None}, fps=50.0)
    assert _numbers(stream, clips)[:3] == [0, 2, 4]
    assert stream.duration == pytest.approx(1.0)
    assert probe(clip, fps=50.0).duration == pytest.approx(1.0)


def test_start_and_duration_choose_a_part(clip: Path, clips: ModuleType) -> None:
    stream = stream_frames(clip, {25.0: None}, start=1.0, duration=0.5)
    numbers = _numbers(stream, clips)
    assert stream.duration == pytest.approx(0.5)
    assert len(numbers) == 13
    assert numbers[0] == 25
    with pytest.raises(InputError, match="start = 9 s is past the end"):
        list(stream_frames(clip, {25.0: None}, start=9.0))


def test_hidden_lead_in_is_not_shown(tmp_path: Path, clips: ModuleType) -> None:
    path = clips.write_clip(tmp_path / "early.mp4", np.arange(50) / 25 - 0.2)
    stream = stream_frames(path, {25.0: None})
    assert _numbers(stream, clips)[0] == 5
    assert stream.duration == pytest.approx(1.8, abs=1e-3)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_frames_come_upright(tmp_path: Path, clips: ModuleType, rotation: int) -> None:
    path = clips.write_clip(tmp_path / "turned.mp4", np.arange(3) / 25, pictures=lambda n: clips.picture(37),
                            rotation=rotation)  # fmt: skip
    frame = next(stream_frames(path, {25.0: None})).frame
    upright = np.rot90(clips.picture(37), rotation // 90)
    assert frame.shape == upright.shape
    assert np.abs(frame.astype(int) - upright).mean() < 8
    info = probe(path)
    assert (info.height, info.width) == upright.shape[:2]


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("odd.webm", (47, 65), {}),
        ("ten_bits.mkv", (48, 64), {"pixels": "yuv420p10le"}),
        ("alpha.webm", (48, 64), {"pixels": "yuva420p"}),
        ("anim.gif", (48, 64), {"pixels": "rgb8", "clock": 100}),
        ("old.avi", (48, 64), {"clock": 25}),
        ("bframes.mp4", (48, 64), {"options": {"preset": "medium", "bf": "3"}}),
    ],
)
def test_sizes_depths_and_formats(tmp_path: Path, clips: ModuleType, name, size, options) -> None:
    path = clips.write_clip(tmp_path / name, np.arange(50) / 25, pictures=lambda n: clips.picture(n, *size),
                            **options)  # fmt: skip
    samples = list(stream_frames(path, {25.0: None}))
    assert samples[0].frame.shape == (*size, 3)
    assert [clips.number_of(sample.frame) for sample in samples] == [sample.source for sample in samples]
    assert len(samples) == 50


def test_one_decoded_frame_serves_all_its_grid_times(tmp_path: Path, clips: ModuleType) -> None:
    path = clips.write_clip(tmp_path / "slow.mp4", np.arange(5) / 5)
    calls = []
    list(stream_frames(path, {25.0: lambda rgb: calls.append(1) or rgb, 8.0: None}))
    assert len(calls) == 5


def test_probe_reads_the_headers(clip_with_sound: Path) -> None:
    info = probe(clip_with_sound)
    assert (info.width, info.height, info.num_frames, info.codec) == (64, 48, 50, "h264")
    assert (info.duration, info.start_time, info.average_rate) == (2.0, 0.0, 25.0)
    assert info.has_audio
    assert read_image(clip_with_sound).shape == (48, 64, 3)


def test_no_rate_and_no_duration_are_refused(clip: Path) -> None:
    with pytest.raises(InputError, match="rates must be"):
        stream_frames(clip, {})
    with pytest.raises(InputError, match="duration must be positive"):
        read_frames(clip, [25], 0.0)
    with pytest.raises(InputError, match="no frames"):
        stream_arrays(Frames(np.zeros((0, 2, 2, 3), np.uint8), np.zeros(0)), {25.0: None})


def test_late_video_shows_nothing_in_a_shorter_time(tmp_path: Path, clips: ModuleType) -> None:
    path = clips.write_clip(tmp_path / "late.mp4", np.arange(10) / 25 + 1.0)
    with pytest.raises(MediaError, match=r"no frame between 0 and 0.5 s"):
        read_frames(path, [8, 25], 0.5)


def test_reading_is_cancelled_by_its_progress(clip: Path, monkeypatch) -> None:
    def cancel(progress) -> None:
        raise Cancelled

    monkeypatch.setattr("selva_audio.media.decode._REPORT_EVERY", 0.0)
    with pytest.raises(Cancelled):
        list(stream_frames(clip, {25.0: None}, on_progress=cancel))
