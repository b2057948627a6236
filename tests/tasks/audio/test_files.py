"""From file to file."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.errors import InputError, MediaError, MissingFileError, OutputError
from selva_audio.media.audio import read_audio, write_audio
from selva_audio.options import SmoothOptions
from selva_audio.progress import Cancelled, Progress
from selva_audio.records import Audio
from selva_audio.tasks.audio import process_file, smooth_hf

NOTHING = partial(smooth_hf, options=SmoothOptions(blend=0))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    values = 0.1 * np.random.default_rng(0).standard_normal((1, 2, 8000))
    return write_audio(tmp_path / "in.wav", Audio(torch.from_numpy(values).float(), 16000))


@pytest.mark.parametrize("name", ["out.wav", "out.flac", "new/OUT.WAV"])
def test_a_tool_that_does_nothing_gives_the_same_samples(source: Path, tmp_path: Path, name: str) -> None:
    process_file(NOTHING, source, tmp_path / name)
    assert torch.equal(read_audio(tmp_path / name).waveform, read_audio(source).waveform)


def test_the_sound_track_of_a_video_is_taken(make_clip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", np.arange(25) / 25, tone=440.0)
    process_file(smooth_hf, clip, tmp_path / "out.flac", sample_format="pcm16")
    sound = read_audio(tmp_path / "out.flac")
    assert sound.sample_rate == 44100 and sound.duration == pytest.approx(1, abs=0.05)
    assert float(sound.waveform.abs().max()) > 0.01


def test_the_sample_format_is_the_asked_for_one(source: Path, tmp_path: Path) -> None:
    sizes = []
    for sample_format in ("pcm16", "pcm24", "float32"):
        process_file(NOTHING, source, tmp_path / "out.wav", sample_format=sample_format)
        sizes.append((tmp_path / "out.wav").stat().st_size)
    assert sizes == sorted(set(sizes))


def test_what_cannot_be_written_is_refused_before_any_work(source: Path, tmp_path: Path) -> None:
    def never(audio: Audio, **_: object) -> None:
        raise AssertionError("work began")

    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "same.wav").symlink_to(source)
    for output, sample_format, error, sentence in (
        (tmp_path / "out.mp3", "pcm24", InputError, "must end in .wav or .flac"),
        (tmp_path / "out", "pcm24", InputError, "must end in .wav or .flac"),
        (tmp_path / "out.flac", "float32", InputError, "cannot hold float32"),
        (source, "pcm24", InputError, "inputs are never changed"),
        (tmp_path / "same.wav", "pcm24", InputError, "inputs are never changed"),
        (tmp_path / "folder.wav", "pcm24", OutputError, "is a folder"),
    ):
        with pytest.raises(error, match=sentence):
            process_file(never, source, output, sample_format=sample_format)


def test_a_source_without_sound_is_a_sentence(make_clip, tmp_path: Path) -> None:
    make_clip(tmp_path / "silent.mp4", np.arange(5) / 25)
    (tmp_path / "text.wav").write_text("no sound")
    for source, error in (("silent.mp4", MediaError), ("text.wav", MediaError), ("x.wav", MissingFileError)):
        with pytest.raises(error):
            process_file(smooth_hf, tmp_path / source, tmp_path / "out.wav")
    assert not (tmp_path / "out.wav").exists()


def test_cancelling_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def cancel(report: Progress) -> None:
        if report.stage == "filtering":
            raise Cancelled

    with pytest.raises(Cancelled):
        tool = partial(smooth_hf, options=SmoothOptions(cutoff_hz=5000))
        process_file(tool, source, tmp_path / "out.wav", on_progress=cancel)
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]
