"""What is refused, and with which sentence."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
import soundfile
from av.video.frame import VideoFrame

from selva_audio.errors import MediaError, MissingFileError, SelVAError
from selva_audio.media.audio import read_audio
from selva_audio.media.container import MediaLimits, open_media
from selva_audio.media.video import probe, read_frames, read_image, stream_frames


def _refused(path: Path, words: str, error: type[SelVAError] = MediaError) -> None:
    for reader in (
        probe,
        lambda p: read_frames(p, [8, 25], 8.0),
        lambda p: list(stream_frames(p, {25: None})),
    ):
        with pytest.raises(error, match=words) as caught:
            reader(path)
        assert path.name in str(caught.value)


def test_missing_file_and_folder_are_told_apart(tmp_path: Path) -> None:
    _refused(tmp_path / "none.mp4", "There is no file", MissingFileError)
    _refused(tmp_path, "is a folder")


def test_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    _refused(tmp_path / "empty.mp4", "is empty")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.mp4", b"This is a shopping list.\n" * 50),
        ("noise.mp4", bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8))),
        ("concat.mp4", b"ffconcat version 1.0\nfile 'clip.mp4'\n"),
        ("list.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nclip.ts\n#EXT-X-ENDLIST\n"),
        (
            "call.mp4",
            b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n",
        ),
        ("page.mp4", b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>"),
        ("drawing.mp4", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'></svg>"),
    ],
)
def test_playlists_scripts_and_other_text_are_refused(
    tmp_path: Path, clip: Path, name: str, content: bytes
) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    (tmp_path / name).write_bytes(content)
    _refused(tmp_path / name, "cannot be opened as media|holds no picture")


def test_a_name_that_looks_like_a_protocol_is_only_a_name(tmp_path: Path, clip: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("concat:a|b.mp4").write_bytes(clip.read_bytes())
    assert probe("concat:a|b.mp4").num_frames == 50
    Path("50%d.mp4").write_bytes(clip.read_bytes())
    assert probe("50%d.mp4").num_frames == 50
    with pytest.raises(MissingFileError, match="There is no file"):
        probe("http://127.0.0.1/a.mp4")


def test_file_cut_before_its_index_is_refused(tmp_path: Path, clip: Path) -> None:
    content = clip.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: content.rindex(b"moov") - 4])
    _refused(tmp_path / "cut.mp4", "cannot be opened as media.*cut off")


def test_sound_only_is_not_a_video(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "only.wav", np.zeros(8000, dtype=np.float32), 8000)
    _refused(tmp_path / "only.wav", "sound only")


def _box(content: bytes, kind: bytes, at: int) -> int:
    return content.index(kind, at) - 4


def test_picture_data_in_another_file_is_not_followed(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(clip.read_bytes())
    content = clip.read_bytes()
    alias = bytes(150) + struct.pack(">HH", 2, 12) + b"/secret.mp4\0" + struct.pack(">HH", 0xFFFF, 0)
    record = struct.pack(">I", 12 + len(alias)) + b"alis" + bytes(4) + alias
    place = _box(content, b"url ", content.rindex(b"dref"))
    grown = len(record) - 12
    data = bytearray(content[:place] + record + content[place + 12 :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = content.rindex(kind, 0, place) - 4
        data[at : at + 4] = struct.pack(">I", struct.unpack(">I", content[at : at + 4])[0] + grown)
    (tmp_path / "outside.mp4").write_bytes(data)
    _refused(tmp_path / "outside.mp4", "No picture .* in another file")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_too_many_pixels_are_refused_from_the_header(tmp_path: Path, clip: Path) -> None:
    header = struct.pack(">IIBBBBB", 16384, 16384, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(3 * 16384 * 100))
    png = tmp_path / "huge.png"
    png.write_bytes(
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")
    )
    _refused(png, "larger than 67 million pixels")
    with pytest.raises(MediaError, match="64x48, more than the 0 million pixels"):
        probe(clip, limits=MediaLimits(pixels=1000))


def test_too_long_too_many_frames_and_too_many_tracks_are_refused(clip: Path) -> None:
    with pytest.raises(MediaError, match="lasts 2 s"):
        probe(clip, limits=MediaLimits(seconds=1.0))
    with pytest.raises(MediaError, match="holds 50 frames"):
        probe(clip, limits=MediaLimits(frames=49))
    with pytest.raises(MediaError, match="holds 1 tracks"), open_media(clip, limits=MediaLimits(streams=0)):
        pass


def test_small_file_that_expands_to_gigabytes_is_refused(tmp_path: Path, clips: ModuleType) -> None:
    canvas = np.zeros((1, 1, 3), dtype=np.uint8)
    path = clips.write_clip(
        tmp_path / "bomb.gif",
        np.arange(2) / 25,
        pixels="rgb8",
        clock=100,
        pictures=lambda n: np.broadcast_to(canvas, (2, 2, 3)),
    )
    content = path.read_bytes()
    first = content.index(b"\x21\xf9")
    # A canvas of 8000 x 8000 on which 300 pictures of a few dots are drawn.
    header = content[:6] + struct.pack("<HH", 8000, 8000) + content[10:first]
    path.write_bytes(header + content[first:-1] * 300 + b"\x3b")
    assert path.stat().st_size < 60_000
    with pytest.raises(MediaError, match="expands to"):
        for _ in stream_frames(path, {1.0: lambda rgb: rgb[:2, :2]}):
            pass


def test_damaged_middle_keeps_what_can_be_decoded_and_says_so(tmp_path: Path, clip: Path) -> None:
    content = bytearray(clip.read_bytes())
    start = content.index(b"mdat") + 4
    middle = start + (content.rindex(b"moov") - start) // 2
    content[middle : middle + 400] = bytes(np.random.default_rng(1).integers(0, 256, 400, dtype=np.uint8))
    (tmp_path / "hurt.mp4").write_bytes(content)
    stream = stream_frames(tmp_path / "hurt.mp4", {25: None})
    assert len(list(stream)) > 20
    assert "damaged" in stream.notes[0]


def test_silent_flac_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "silence.flac"
    soundfile.write(path, np.zeros(48000, dtype=np.float32), 48000)
    content = bytearray(path.read_bytes())
    at = content.index(b"fLaC") + 8 + 13
    content[at : at + 5] = bytes([(content[at] & 0xF0) | 0xF, 0xFF, 0xFF, 0xFF, 0xFF])
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"lasts|expands"):
        read_audio(path)


def test_still_pictures_are_one_frame_videos(tmp_path: Path, clips: ModuleType) -> None:
    for ending, encoder, pixels in ((".png", "png", "rgb24"), (".jpg", "mjpeg", "yuvj420p")):
        path = tmp_path / f"still{ending}"
        context = av.CodecContext.create(encoder, "w")
        context.width, context.height, context.pix_fmt = 64, 48, pixels
        context.time_base = Fraction(1, 25)
        frame = VideoFrame.from_ndarray(clips.picture(37), format="rgb24")
        path.write_bytes(b"".join(bytes(p) for p in context.encode(frame) + context.encode(None)))
        assert read_image(path).shape == (48, 64, 3)
        assert np.abs(read_image(path).astype(int) - clips.picture(37)).mean() < 6
        stream = stream_frames(path, {25: None})
        assert len(list(stream)) == 1
        assert stream.num_frames == 1
