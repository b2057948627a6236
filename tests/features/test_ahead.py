import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.bundle import SelVAModel
from selva_audio.errors import InputError, MediaError
from selva_audio.features import ReadAhead, encode_video, open_frames
from selva_audio.media.video import stream_arrays
from selva_audio.options import FeatureOptions
from selva_audio.records import Frames

DOG = FeatureOptions(prompt="dog")


@contextmanager
def filled(ahead: ReadAhead) -> Iterator[threading.Thread]:
    """Read in a thread inside the block; the thread has ended after it."""
    thread = threading.Thread(target=ahead.fill)
    thread.start()
    try:
        yield thread
    finally:
        ahead.close()
        thread.join(30)
        assert not thread.is_alive()


def counted(frames: Frames, read: list[int]):
    """Opens a stream that notes each frame as it is read."""

    def note(pixels: np.ndarray) -> np.ndarray:
        read.append(len(read))
        return pixels

    return lambda: stream_arrays(frames, {25.0: note})


@torch.no_grad()
def test_features_of_frames_read_ahead_are_those_of_frames_read_here(
    demo_model: SelVAModel, make_clip, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / "a.mp4", np.arange(60) / 25)
    ahead = ReadAhead(partial(open_frames, demo_model, path, DOG), most_bytes=1)
    with filled(ahead):
        features = encode_video(demo_model, path, DOG, stream=ahead)
    plain = encode_video(demo_model, path, DOG)
    assert torch.equal(features.sync, plain.sync) and torch.equal(features.clip, plain.clip)
    assert (features.duration, features.fps) == (plain.duration, plain.fps)


def test_no_more_is_held_than_was_allowed(frames) -> None:
    read: list[int] = []
    clip = frames(100)
    one = clip.pixels[0].nbytes
    ahead = ReadAhead(counted(clip, read), most_bytes=10 * one)
    most = 0
    with filled(ahead):
        for taken, sample in enumerate(ahead, 1):
            assert np.array_equal(sample.frame, clip.pixels[sample.source])
            most = max(most, len(read) - taken)
    assert taken == 100
    assert most <= 11, "ten that wait, and one that waits for room"


def test_closing_ends_a_reading_that_nobody_takes(frames) -> None:
    read: list[int] = []
    ahead = ReadAhead(counted(frames(100), read), most_bytes=1)
    with filled(ahead) as thread:
        next(ahead)
        ahead.close()
        thread.join(30)
    assert 2 <= len(read) <= 4


def test_closing_before_the_start_reads_nothing_to_speak_of(frames) -> None:
    read: list[int] = []
    ahead = ReadAhead(counted(frames(100), read))
    ahead.close()
    ahead.fill()
    assert len(read) <= 1


def test_what_opening_raises_is_raised_where_the_headers_are_asked_for(
    demo_model: SelVAModel, tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").write_text("not a video")
    ahead = ReadAhead(partial(open_frames, demo_model, tmp_path / "a.mp4", DOG))
    with filled(ahead), pytest.raises(MediaError, match=r"a\.mp4"):
        encode_video(demo_model, tmp_path / "a.mp4", DOG, stream=ahead)


def test_what_reading_raises_comes_after_the_samples_before_it(demo_model: SelVAModel, frames) -> None:
    late = FeatureOptions(prompt="dog", start=3.0)
    ahead = ReadAhead(partial(open_frames, demo_model, frames(50), late))
    with filled(ahead), pytest.raises(InputError, match="start = 3 s is past the end"):
        encode_video(demo_model, frames(50), late, stream=ahead)

    def break_at_five(pixels: np.ndarray) -> np.ndarray:
        broken.append(pixels)
        if len(broken) == 6:
            raise MediaError("frame 5 is damaged")
        return pixels

    broken: list[np.ndarray] = []
    ahead = ReadAhead(lambda: stream_arrays(frames(10), {25.0: break_at_five}))
    taken = []
    with filled(ahead), pytest.raises(MediaError, match="frame 5"):
        taken += [sample.index for sample in ahead]
        taken.extend(sample.index for sample in ahead)
    assert ahead.info.num_frames == 10
