"""A sound joined with a picture, from a file or from memory."""

import numpy as np
import pytest
import torch

from selva_audio.errors import InputError
from selva_audio.media.audio import read_audio_track
from selva_audio.media.container import read_tags
from selva_audio.media.encode import write_video
from selva_audio.options import OutputOptions
from selva_audio.progress import Cancelled
from selva_audio.records import Audio
from selva_audio.tasks.mux import fitting_suffix, join_sound


def tone(takes=1, seconds=1.0, level=0.1):
    time = torch.arange(round(seconds * 48000)) / 48000
    waves = [level * torch.sin(6.2832 * 440 * (take + 1) * time) for take in range(takes)]
    return Audio(torch.stack(waves)[:, None], 48000)


def loudest(path):
    sound = read_audio_track(path)
    spectrum = torch.fft.rfft(sound.waveform[0, 0]).abs()
    return round(float(spectrum.argmax()) * sound.sample_rate / sound.waveform.shape[-1] / 440)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_the_take_asked_for_is_the_one_that_is_heard(frames, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    join_sound(frames(25), tone(3), output, take=1, fps=25.0, comment="hello")
    assert loudest(output) == 2
    assert "hello" in read_tags(output).values()


@pytest.mark.parametrize("take", [-1, 3])
def test_a_take_that_there_is_not_is_refused(frames, tmp_path, take):
    with pytest.raises(InputError, match="Give 1 to 3"):
        join_sound(frames(2), tone(3), tmp_path / "out.mp4", take=take, fps=25.0)


def test_the_sound_that_came_with_frames_can_be_kept(frames, tmp_path):
    own = Audio(tone(2).waveform[1:], 48000)
    silence = Audio(torch.zeros(1, 1, 48000), 48000)
    join_sound(
        frames(25), silence, tmp_path / "a.mp4", OutputOptions(original_audio="mix"), fps=25.0, original=own
    )
    assert loudest(tmp_path / "a.mp4") == 2
    notes = join_sound(frames(25), tone(), tmp_path / "b.mp4", OutputOptions(original_audio="mix"), fps=25.0)
    assert any("no sound of its own" in note for note in notes)


def test_alpha_is_left_out_and_a_cancel_leaves_nothing(tmp_path):
    from selva_audio.records import Frames

    frames = Frames(np.zeros((9, 6, 8, 4), np.uint8), np.arange(9) / 25)
    join_sound(frames, tone(), tmp_path / "a.mp4", fps=25.0)

    def cancel(progress):
        if progress.step == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        join_sound(frames, tone(), tmp_path / "b.mp4", fps=25.0, on_progress=cancel)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("fps", [0.0, -1.0, 1e9])
def test_frames_need_a_rate(frames, tmp_path, fps):
    with pytest.raises(InputError, match="frames per second"):
        join_sound(frames(2), tone(), tmp_path / "out.mp4", fps=fps)


def test_a_file_keeps_its_kind_where_it_can(frames, tmp_path):
    webm = write_video(frames(2), 25, tmp_path / "a.webm")
    assert fitting_suffix(webm) == ".webm"
    assert fitting_suffix(webm, "mkv") == ".mkv"
    assert fitting_suffix(frames(2)) == ".mp4"
    other = webm.rename(tmp_path / "a.video")
    assert fitting_suffix(other) in (".mp4", ".mkv")
    h264 = write_video(frames(2), 25, tmp_path / "b.mp4")
    with pytest.raises(InputError, match="cannot hold"):
        fitting_suffix(h264, "webm")
