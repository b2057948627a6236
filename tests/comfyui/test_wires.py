"""What comes over ComfyUI's wires becomes the records of the library, or a sentence."""

import math
from fractions import Fraction
from io import BytesIO

import numpy as np
import pytest
import torch
from comfyui.stand_in import VideoComponents, VideoFromComponents, VideoFromFile

from selva_audio.errors import InputError, MediaError
from selva_audio.media.encode import write_video
from selva_audio.records import Frames


@pytest.fixture
def wires(comfy):
    from selva_audio.comfyui import wires

    return wires


@pytest.fixture
def clip_file(tmp_path):
    return write_video(np.zeros((24, 36, 48, 3), np.uint8), 16, tmp_path / "dog.mp4")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_batch_keeps_its_pixels_and_gets_the_widgets_rate(wires, images, channels):
    clip = wires.read_clip(images(5, channels=channels), 16.0)
    assert clip.source.pixels.shape == (5, 36, 48, max(channels, 3))
    assert clip.source.times.tolist() == [index / 16 for index in range(5)]
    assert clip.source.pixels.max() == round(0.7 * 255)
    assert clip.text == "5 frames, 16 fps (widget)"


def test_the_loaded_rate_of_video_info_beats_the_widget(wires, images):
    info = {"source_fps": 60.0, "loaded_fps": 12.5}
    clip = wires.read_clip(images(4), 30.0, info)
    assert clip.fps == 12.5
    assert clip.text.endswith("(video_info)")


def test_a_widget_that_does_not_count_is_told(wires, images, clip_file):
    told = "; the fps widget does not count)"
    assert wires.read_clip(images(4), 24.0, {"loaded_fps": 12.5}).text.endswith(f"(video_info{told}")
    assert wires.read_clip(VideoFromFile(str(clip_file)), 24.0).text.endswith(f"(VIDEO{told}")


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf, 1e9, "16", None])
def test_a_rate_that_is_none_is_a_sentence(wires, images, fps):
    with pytest.raises(InputError, match="frames per second"):
        wires.read_clip(images(2), 30.0, {"loaded_fps": fps})


def test_a_widget_that_is_no_rate_is_a_sentence_also_where_it_does_not_count(wires, clip_file):
    with pytest.raises(InputError, match="fps gives nan"):
        wires.read_clip(VideoFromFile(str(clip_file)), math.nan)


def test_a_video_of_a_file_is_read_from_the_file(wires, clip_file):
    clip = wires.read_clip(VideoFromFile(str(clip_file)), 30.0)
    assert clip.source == clip_file
    assert clip.fps == 0
    assert clip.text == "24 frames, 16 fps (VIDEO)"


def test_a_video_in_memory_becomes_a_file_of_the_temp_folder(wires, comfy, clip_file):
    clip = wires.read_clip(VideoFromFile(BytesIO(clip_file.read_bytes())))
    assert clip.source.read_bytes() == clip_file.read_bytes()
    assert comfy.base / "temp" in clip.source.parents


def test_a_part_of_a_file_is_taken_as_that_part(wires, clip_file):
    clip = wires.read_clip(VideoFromFile(str(clip_file), seconds=0.5))
    assert len(clip.source.pixels) == 8
    assert clip.fps == 16


def test_a_video_of_frames_brings_its_exact_rate_and_its_sound(wires, images):
    sound = {"waveform": torch.zeros(1, 2, 800), "sample_rate": 8000}
    video = VideoFromComponents(VideoComponents(images(3), Fraction(30000, 1001), sound))
    clip = wires.read_clip(video, 24.0)
    assert clip.fps == 30000 / 1001
    assert clip.original.waveform.shape == (1, 2, 800)


@pytest.mark.parametrize("video", [None, 3, "clip.mp4", torch.zeros(2, 0, 4, 3), torch.zeros(2, 4, 4, 7)])
def test_what_is_no_picture_is_a_sentence(wires, video):
    with pytest.raises(InputError, match="Connect an IMAGE"):
        wires.read_clip(video, 16.0)


def test_pixels_that_are_no_numbers_become_black(wires):
    clip = wires.read_clip(torch.full((1, 2, 2, 3), math.nan), 16.0)
    assert isinstance(clip.source, Frames)
    assert not clip.source.pixels.any()


@pytest.mark.parametrize("shape", [(8, 9), (1, 8, 9), (5, 8, 9), (5, 1, 8, 9)])
def test_a_mask_has_three_axes_and_stays_in_range(wires, shape):
    mask, note = wires.read_mask(torch.full(shape, 1.5))
    assert mask.shape[-2:] == (8, 9)
    assert mask.ndim == 3
    assert mask.max() == 1
    assert note == ""


def test_a_mask_of_zeros_counts_as_none_and_says_so(wires):
    mask, note = wires.read_mask(torch.zeros(64, 64))
    assert mask is None
    assert "zero everywhere" in note
    assert wires.read_mask(None) == (None, "")


class Lazy(dict):
    """A sound that is read when it is asked for."""

    def __getitem__(self, key):
        raise RuntimeError("the file has no sound")


@pytest.mark.parametrize("audio", [None, {}, 7, {"waveform": torch.zeros(1, 1, 0), "sample_rate": 8000}])
def test_what_is_no_sound_is_a_sentence(wires, audio):
    with pytest.raises(InputError, match="Connect a"):
        wires.read_audio(audio)


def test_a_lazy_sound_that_fails_is_a_sentence(wires):
    with pytest.raises(MediaError, match="the file has no sound"):
        wires.read_audio(Lazy())


def test_sound_and_pictures_come_back_as_they_went(wires):
    waveform = torch.rand(2, 1, 100)
    wire = wires.audio_wire(wires.read_audio({"waveform": waveform, "sample_rate": 16000}))
    assert torch.equal(wire["waveform"], waveform)
    assert wire["sample_rate"] == 16000
    picture = np.full((4, 5, 3), 255, np.uint8)
    assert torch.equal(wires.image_wire(picture), torch.ones(1, 4, 5, 3))
