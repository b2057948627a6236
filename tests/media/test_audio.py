"""Sound files."""

import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selva_audio.errors import GenerationError, InputError, MediaError, OutputError
from selva_audio.media.audio import read_audio, read_audio_track, resample, write_audio
from selva_audio.media.container import read_tags
from selva_audio.records import Audio


def _sound(channels: int = 1, seconds: float = 0.5, rate: int = 16000, seed: int = 0) -> Audio:
    values = np.random.default_rng(seed).uniform(-0.9, 0.9, (1, channels, round(seconds * rate)))
    return Audio(torch.from_numpy(values).float(), rate)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("ending", "subtype", "step"),
    [(".wav", "pcm16", 2**-15), (".wav", "pcm24", 2**-23), (".wav", "float32", 0.0),
     (".flac", "pcm16", 2**-15), (".flac", "pcm24", 2**-23)],
)  # fmt: skip
def test_what_is_written_is_read_back(tmp_path: Path, ending, subtype, step, channels) -> None:
    sound = _sound(channels)
    path = write_audio(tmp_path / f"a{ending}", sound, subtype=subtype)
    back = read_audio(path)
    assert back.sample_rate == 16000
    assert back.waveform.dtype == torch.float32
    assert (back.waveform - sound.waveform).abs().max() <= step / 2 + 1e-9


@pytest.mark.parametrize("ending", [".wav", ".flac"])
def test_tags_are_kept(tmp_path: Path, ending: str) -> None:
    comment = "recipe " + "x" * 4000
    path = write_audio(tmp_path / f"a{ending}", _sound(), tags={"comment": comment, "title": "dog"})
    tags = read_tags(path)
    assert (tags["comment"], tags["title"]) == (comment, "dog")
    with pytest.raises(InputError, match="no tag 'mood'"):
        write_audio(tmp_path / f"b{ending}", _sound(), tags={"mood": "fine"})


@pytest.mark.parametrize(("ending", "subtype"), [(".wav", "pcm24"), (".wav", "float32"), (".flac", "pcm24")])
def test_equal_samples_give_equal_bytes(tmp_path: Path, monkeypatch, ending: str, subtype: str) -> None:
    first = write_audio(tmp_path / f"a{ending}", _sound(), subtype=subtype).read_bytes()
    assert write_audio(tmp_path / f"b{ending}", _sound(), subtype=subtype).read_bytes() == first
    if subtype == "float32":
        assert b"PEAK" in first
        assert first[first.index(b"PEAK") + 12 :][:4] == bytes(4)


def test_samples_out_of_range_clip_to_the_last_step(tmp_path: Path) -> None:
    sound = Audio(torch.tensor([[[1.0, -1.0, 3.0, -3.0, 0.0]]]), 8000)
    back = read_audio(write_audio(tmp_path / "a.wav", sound, subtype="pcm16")).waveform[0, 0]
    assert (back * 32768).tolist() == [32767, -32768, 32767, -32768, 0]


def test_bad_samples_takes_and_endings_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(GenerationError, match="NaN"):
        write_audio(tmp_path / "a.wav", Audio(torch.full((1, 1, 9), float("nan")), 8000))
    with pytest.raises(InputError, match="has 2"):
        write_audio(tmp_path / "a.wav", Audio(torch.zeros(2, 1, 9), 8000))
    with pytest.raises(InputError, match="is empty"):
        write_audio(tmp_path / "a.wav", Audio(torch.zeros(1, 1, 0), 8000))
    with pytest.raises(InputError, match=r"not '.mp3'"):
        write_audio(tmp_path / "a.mp3", _sound())
    with pytest.raises(InputError, match="cannot hold 'float32'"):
        write_audio(tmp_path / "a.flac", _sound(), subtype="float32")
    with pytest.raises(OutputError, match="is a folder"):
        (tmp_path / "b.wav").mkdir()
        write_audio(tmp_path / "b.wav", _sound())
    assert os.listdir(tmp_path) == ["b.wav"]


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([8000, 16000, 22050, 44100, 48000]), st.sampled_from([16000, 44100, 48000]),
       st.integers(1, 9000))  # fmt: skip
def test_resampling_keeps_the_duration(from_rate, to_rate, length) -> None:
    result = resample(torch.zeros(2, 1, length), from_rate, to_rate)
    assert result.shape == (2, 1, round(length * to_rate / from_rate))


def test_resampling_keeps_a_tone_and_its_place() -> None:
    def tone(rate: int) -> torch.Tensor:
        time = torch.arange(rate, dtype=torch.float64) / rate
        return (torch.sin(2 * torch.pi * 440 * time) * torch.hann_window(rate, periodic=False)).float()

    assert (resample(tone(16000), 16000, 44100) - tone(44100)).abs().max() < 2e-3
    same = tone(16000)
    assert resample(same, 16000, 16000) is same


def test_sound_of_a_video_is_placed_at_time_zero(tmp_path: Path, clips: ModuleType) -> None:
    path = clips.write_clip(tmp_path / "late.mkv", np.arange(50) / 25, tone=440.0, tone_start=0.5)
    sound = read_audio_track(path)
    assert sound.waveform.shape[1] == 2
    assert sound.duration == pytest.approx(2.0, abs=0.03)
    quiet = round(0.48 * sound.sample_rate)
    assert sound.waveform[..., :quiet].abs().max() < 0.01
    assert sound.waveform[..., quiet + 2000 :].abs().max() > 0.2
    assert read_audio(path).waveform.shape == sound.waveform.shape


def test_video_without_sound_has_none(clip: Path) -> None:
    assert read_audio_track(clip) is None
    with pytest.raises(MediaError, match="holds no sound"):
        read_audio(clip)


def test_damaged_sound_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF\x10\0\0\0WAVEjunk")
    with pytest.raises(MediaError, match=r"a\.wav"):
        read_audio(tmp_path / "a.wav")
