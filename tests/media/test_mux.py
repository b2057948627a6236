"""The new sound beside the copied picture."""

import hashlib
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selva_audio.errors import GenerationError, InputError
from selva_audio.media import mux as mux_module
from selva_audio.media import soundtrack
from selva_audio.media.audio import read_audio_track
from selva_audio.media.container import open_media, read_tags
from selva_audio.media.mux import mux
from selva_audio.media.soundtrack import duck_gain
from selva_audio.media.video import probe, stream_frames
from selva_audio.options import OutputOptions
from selva_audio.progress import Cancelled
from selva_audio.records import Audio

CLICKS = [0.3, 1.0, 1.7]
PAIRS = [
    ("clip.mp4", ".mp4", "aac"), ("clip.mp4", ".mov", "aac"), ("clip.mp4", ".mkv", "aac"),
    ("clip.mp4", ".mp4", "lossless"), ("clip.mp4", ".mov", "lossless"), ("clip.mp4", ".mkv", "lossless"),
    ("clip.webm", ".webm", "aac"), ("clip.webm", ".mkv", "aac"), ("clip.webm", ".mp4", "aac"),
]  # fmt: skip


def _packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [hashlib.sha256(bytes(packet)).digest() for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize(("source", "ending", "codec"), PAIRS)
@pytest.mark.parametrize("rate", [16000, 44100])
def test_picture_is_copied_and_sound_is_in_its_place(
    tmp_path, clip, webm, clips, source, ending, codec, rate
):
    video = clip if source == "clip.mp4" else webm
    output = tmp_path / f"out{ending}"
    mux(video, clips.impulses(CLICKS, 2.5, rate), output, OutputOptions(codec=codec))
    assert _packets(output) == _packets(video)
    sound = read_audio_track(output)
    assert sound.duration == pytest.approx(2.0, abs=1 / 25)
    assert clips.click_times(sound, CLICKS) == pytest.approx(CLICKS, abs=2e-3)
    stream = stream_frames(output, {25.0: None})
    expected = [clips.number_of(sample.frame) for sample in stream_frames(video, {25.0: None})]
    assert [clips.number_of(sample.frame) for sample in stream] == expected
    assert stream.duration == pytest.approx(2.0, abs=2e-3)


def test_lossless_sound_is_exact_to_24_bits(tmp_path: Path, clip: Path) -> None:
    values = torch.from_numpy(np.random.default_rng(0).uniform(-0.9, 0.9, (1, 2, 96000))).float()
    for ending in (".mp4", ".mkv"):
        mux(clip, Audio(values, 48000), tmp_path / f"a{ending}", OutputOptions(codec="lossless"))
        back = read_audio_track(tmp_path / f"a{ending}").waveform
        assert back.shape == values.shape
        assert (back - values).abs().max() <= 2**-23


@settings(max_examples=15, deadline=None)
@given(
    fps=st.sampled_from([5, 12, 24, 25, 30, 50, 60, 120]),
    count=st.integers(1, 90),
    rate=st.sampled_from([16000, 44100, 48000]),
    seconds=st.floats(0.05, 4),
    ending=st.sampled_from([".mp4", ".mkv"]),
)
def test_sound_is_as_long_as_the_picture_to_one_frame(
    tmp_path_factory, clips, fps, count, rate, seconds, ending
):
    folder = tmp_path_factory.mktemp("length")
    video = clips.write_clip(folder / "in.mp4", np.arange(count) / fps, rate=clips.Fraction(fps))
    mux(video, clips.impulses([], seconds, rate), folder / f"out{ending}")
    sound = read_audio_track(folder / f"out{ending}")
    assert abs(sound.duration - count / fps) <= 1 / fps + 1e-3 or sound.duration <= 1024 / 44100


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_late_video_keeps_its_offset_and_sound_starts_at_zero(
    tmp_path, clips: ModuleType, ending: str
) -> None:
    video = clips.write_clip(tmp_path / "late.mp4", np.arange(50) / 25 + 0.375)
    output = tmp_path / f"out{ending}"
    mux(video, clips.impulses(CLICKS, 3.0, 44100), output)
    assert probe(output).start_time == pytest.approx(0.375, abs=1e-3)
    sound = read_audio_track(output)
    assert sound.duration == pytest.approx(2.375, abs=1 / 25)
    assert clips.click_times(sound, CLICKS) == pytest.approx(CLICKS, abs=2e-3)


def test_hidden_lead_in_stays_hidden_where_the_container_can(tmp_path: Path, clips: ModuleType) -> None:
    video = clips.write_clip(tmp_path / "early.mp4", np.arange(50) / 25 - 0.2)
    sound = clips.impulses([0.5], 2.0, 44100)
    assert mux(video, sound, tmp_path / "a.mp4") == ()
    assert clips.click_times(read_audio_track(tmp_path / "a.mp4"), [0.5]) == pytest.approx([0.5], abs=2e-3)
    first = next(stream_frames(tmp_path / "a.mp4", {25.0: None}))
    assert clips.number_of(first.frame) == 5
    assert "hides before its start" in mux(video, sound, tmp_path / "a.mkv")[0]
    shifted = read_audio_track(tmp_path / "a.mkv")
    assert clips.click_times(shifted, [0.7]) == pytest.approx([0.7], abs=2e-3)


def test_sound_may_begin_later(tmp_path: Path, clip: Path, clips: ModuleType) -> None:
    mux(clip, clips.impulses([0.2], 0.5, 44100), tmp_path / "a.mp4", audio_start=1.0)
    sound = read_audio_track(tmp_path / "a.mp4")
    assert clips.click_times(sound, [1.2]) == pytest.approx([1.2], abs=2e-3)
    assert sound.waveform[..., : sound.sample_rate].abs().max() < 0.01


@pytest.mark.parametrize("rotation", [90, 180, -90])
@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_rotation_is_kept(tmp_path: Path, clips: ModuleType, ending: str, rotation: int) -> None:
    video = clips.write_clip(tmp_path / "turned.mp4", np.arange(5) / 25, rotation=rotation)
    mux(video, clips.impulses([], 0.2, 44100), tmp_path / f"a{ending}")
    before, after = (next(stream_frames(p, {25.0: None})).frame for p in (video, tmp_path / f"a{ending}"))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".webm"])
def test_equal_input_gives_equal_bytes_and_tags_are_kept(
    tmp_path, webm, clips: ModuleType, ending: str
) -> None:
    sound = clips.impulses(CLICKS, 2.0, 44100)
    for name in ("a", "b"):
        mux(webm, sound, tmp_path / f"{name}{ending}", tags={"comment": "recipe"})
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()
    assert read_tags(tmp_path / f"a{ending}")["comment"] == "recipe"


def _level(sound: Audio, frequency: float, first: float, last: float) -> float:
    part = (
        sound.waveform[0].mean(0)[round(first * sound.sample_rate) : round(last * sound.sample_rate)].double()
    )
    time = torch.arange(len(part)) / sound.sample_rate
    phase = torch.exp(2j * torch.pi * frequency * time) * torch.hann_window(len(part))
    return 20 * float(torch.log10((part * phase).sum().abs() / torch.hann_window(len(part)).sum() * 2 + 1e-9))


def _burst() -> Audio:
    waveform = torch.zeros(1, 1, 88200)
    time = torch.arange(22050) / 44100
    waveform[0, 0, 44100:66150] = 0.2 * torch.sin(2 * torch.pi * 1500 * time)
    return Audio(waveform, 44100)


def test_own_sound_is_replaced_mixed_or_ducked(tmp_path: Path, clip_with_sound: Path) -> None:
    levels = {}
    for mode in ("replace", "mix", "duck"):
        options = OutputOptions(original_audio=mode, original_gain_db=-6.0, duck_db=12.0)
        notes = mux(clip_with_sound, _burst(), tmp_path / f"{mode}.mp4", options)
        assert notes == ()
        sound = read_audio_track(tmp_path / f"{mode}.mp4")
        levels[mode] = [
            _level(sound, 440, 0.2, 0.6),
            _level(sound, 440, 1.1, 1.4),
            _level(sound, 1500, 1.1, 1.4),
        ]
    own = 20 * np.log10(0.3)
    assert max(levels["replace"][:2]) < -60
    assert levels["mix"][:2] == pytest.approx([own - 6] * 2, abs=0.5)
    assert levels["duck"][:2] == pytest.approx([own - 6, own - 18], abs=0.5)
    for mode in levels:
        assert levels[mode][2] == pytest.approx(20 * np.log10(0.2), abs=0.5)


def test_keeping_the_sound_of_a_silent_video_is_said(tmp_path: Path, clip: Path) -> None:
    notes = mux(clip, _burst(), tmp_path / "a.mp4", OutputOptions(original_audio="mix"))
    assert "no sound of its own" in notes[0]


def test_a_mix_that_would_clip_is_turned_down(tmp_path: Path, clip_with_sound: Path) -> None:
    notes = mux(
        clip_with_sound,
        _burst(),
        tmp_path / "a.mp4",
        OutputOptions(original_audio="mix", original_gain_db=20),
    )
    assert "turned down" in notes[0]


def test_ducking_fades_without_jumps() -> None:
    gain = duck_gain(_burst().waveform[0], 44100, 12.0)
    assert gain[:30000].min() > 0.99
    assert gain[50000:60000].max() == pytest.approx(10 ** (-12 / 20), abs=1e-3)
    assert gain.diff().abs().max() < 1e-3


def test_containers_refuse_what_they_cannot_hold_and_say_what_can(
    tmp_path, clip, webm, clips: ModuleType
) -> None:
    sound = clips.impulses([], 1.0, 44100)
    vp8 = clips.write_clip(tmp_path / "vp8.webm", np.arange(5) / 25, encoder="libvpx")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InputError, match=r"coded as h264. Write .mp4 or .mov or .mkv instead"):
        mux(clip, sound, tmp_path / "a.webm")
    with pytest.raises(InputError, match=r"coded as vp8. Write .mkv or .webm instead"):
        mux(vp8, sound, tmp_path / "a.mp4")
    with pytest.raises(InputError, match=r"coded as vp9. Write .mp4 or .mkv or .webm"):
        mux(webm, sound, tmp_path / "a.mov")
    with pytest.raises(InputError, match="cannot hold lossless sound"):
        mux(webm, sound, tmp_path / "a.webm", OutputOptions(codec="lossless"))
    with pytest.raises(InputError, match=r"not '.avi'"):
        mux(clip, sound, tmp_path / "a.avi")
    with pytest.raises(GenerationError, match="NaN"):
        mux(clip, Audio(torch.full((1, 1, 99), float("nan")), 44100), tmp_path / "a.mp4")
    with pytest.raises(InputError, match="with 3 channels"):
        mux(clip, Audio(torch.zeros(1, 3, 99), 44100), tmp_path / "a.mp4")
    assert sorted(os.listdir(tmp_path)) == before


def test_input_is_never_overwritten(tmp_path: Path, clip: Path, clips: ModuleType) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(clip.read_bytes())
    (tmp_path / "link.mp4").symlink_to(video)
    for output in (video, tmp_path / "link.mp4"):
        with pytest.raises(InputError, match="is the input itself"):
            mux(video, clips.impulses([], 1.0, 44100), output)
    assert video.read_bytes() == clip.read_bytes()


def test_cancelling_leaves_nothing_behind(tmp_path: Path, clip: Path, clips: ModuleType) -> None:
    def cancel(progress) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        mux(clip, clips.impulses([], 1.0, 44100), tmp_path / "a.mp4", on_progress=cancel)
    assert os.listdir(tmp_path) == []


FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from selva_audio.errors import OutputError
from selva_audio.media.audio import write_audio
from selva_audio.media.mux import mux
from selva_audio.records import Audio
noise = Audio(torch.rand(1, 1, 88200) - 0.5, 44100)
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
folder = Path(sys.argv[2])
for write in (
    lambda: mux(sys.argv[1], noise, folder / "a.mp4"),
    lambda: mux(sys.argv[1], noise, folder / "a.mkv"),
    lambda: write_audio(folder / "a.wav", noise),
    lambda: write_audio(folder / "a.flac", noise),
):
    try:
        write()
    except OutputError as error:
        print(error)
"""


def test_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path, clip: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(clip), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert all("no space is left, or a size limit was reached" in line for line in lines)
    assert os.listdir(tmp_path) == []


def _with_text(clip: Path, target: Path) -> Path:
    """A copy of a clip with a subtitle."""
    with av.open(str(clip)) as container, av.open(str(target), "w", format="matroska") as output:
        track = output.add_stream_from_template(container.streams.video[0], opaque=True)
        text = output.add_mux_stream("subrip")
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = track
                output.mux(packet)
        packet = av.Packet(b"A dog barks.")
        packet.stream, packet.pts, packet.dts, packet.duration = text, 500, 500, 1000
        packet.time_base = Fraction(1, 1000)
        output.mux(packet)
    return target


def test_subtitles_are_copied_where_they_fit_and_named_where_not(
    tmp_path, clip, webm, clips: ModuleType
) -> None:
    with_text = _with_text(clip, tmp_path / "text.mkv")
    sound = clips.impulses([], 1.0, 44100)
    assert mux(with_text, sound, tmp_path / "a.mkv") == ()
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert [bytes(p) for p in container.demux(subtitles=0) if p.size] == [b"A dog barks."]
    notes = mux(with_text, sound, tmp_path / "a.mp4")
    assert "subtitle track 1" in notes[0]


def test_sound_at_the_usual_bit_rate_is_closer_than_by_the_slow_search(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(96000) / 48000
    decay = torch.exp(-(time % 0.25) * 30)
    for wave in (
        sum(0.1 * torch.sin(2 * torch.pi * f * time) for f in (220, 440, 1760, 5000)),
        0.3 * decay * torch.randn(96000, generator=generator),
    ):
        errors = []
        for least in (soundtrack._AAC_QUICK_KBPS, 1000):
            monkeypatch.setattr(soundtrack, "_AAC_QUICK_KBPS", least)
            mux(clip, Audio(wave[None, None], 48000), tmp_path / "a.mp4")
            back = read_audio_track(tmp_path / "a.mp4").waveform[0, 0, :96000]
            errors.append(float((back - wave).square().mean()))
            monkeypatch.undo()
        assert 0 < errors[0] <= errors[1]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".flv", ".avi", ".webm", ".gif"])
def test_packets_that_are_kept_give_the_same_file_as_a_second_reading(
    tmp_path: Path, clips: ModuleType, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    pixels = (
        {"pixels": "rgb8"} if suffix == ".gif" else {"tone": 0.0 if suffix in (".webm", ".avi") else 440.0}
    )
    clock = 25 if suffix == ".avi" else 90000
    video = clips.write_clip(tmp_path / f"in{suffix}", np.arange(40) / 25 + 0.2, clock=clock, **pixels)
    opened = []
    monkeypatch.setattr(
        mux_module, "open_media", lambda *args, **kwargs: opened.append(1) or open_media(*args, **kwargs)
    )
    endings = {".webm": ".mkv", ".gif": ".mov"}
    files = []
    for bytes_kept in (2**25, 0, 4096):
        monkeypatch.setattr(mux_module, "_KEPT_BYTES", bytes_kept)
        files.append(tmp_path / f"{bytes_kept}{endings.get(suffix, '.mp4')}")
        mux(video, clips.impulses(CLICKS, 2.0, 16000), files[-1])
    assert len(opened) == 1 + 2 + 2
    assert len({hashlib.sha256(file.read_bytes()).digest() for file in files}) == 1
    # A transport stream marks its H.264 otherwise than mp4 does, so there the packets are other bytes.
    assert suffix == ".ts" or _packets(files[0]) == _packets(video)


def test_subtitles_beside_kept_packets_are_those_of_a_second_reading(
    tmp_path: Path, clip: Path, clips: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = _with_text(clip, tmp_path / "text.mkv")
    for bytes_kept in (2**25, 0):
        monkeypatch.setattr(mux_module, "_KEPT_BYTES", bytes_kept)
        mux(video, clips.impulses([], 1.0, 44100), tmp_path / f"{bytes_kept}.mkv")
    assert (tmp_path / "0.mkv").read_bytes() == (tmp_path / f"{2**25}.mkv").read_bytes()
