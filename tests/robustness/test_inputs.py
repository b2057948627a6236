"""What is not a usable video, picture or mask: one sentence each, and nothing left behind."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from av.audio.frame import AudioFrame
from matplotlib.image import imsave
from robustness import hostile
from robustness.watch import IS_POSSIBLE, watching

from selva_audio.media.encode import write_video

NOISE = np.random.default_rng(0).bytes(5000)


def refuse(bench, path, *words, toy, mask=None):
    """``path`` as the input of every kind of result: refused alike, and no folder is any different."""
    before = bench.listing()
    extra = ("--mask", mask) if mask else ()
    for target in ("sound.wav", "sound.mp4"):
        bench.run("generate", path, "-o", bench.out / target, "-p", "dog", *extra, *toy).check_refused(*words)
    bench.run("features", path, "-o", bench.out / "f.npz", *extra, *toy[:-1]).check_refused(*words)
    assert bench.listing() == before


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.mp4", b"This is a shopping list.\n" * 50, "cannot be opened as media"),
        ("noise.mp4", NOISE, "cannot be opened as media"),
        ("noise.mkv", NOISE, "cannot be opened as media"),
        ("half a header.mp4", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41" + NOISE, "cannot be opened"),
        ("page.mp4", b"<!doctype html><html><body>not found</body></html>", "cannot be opened as media"),
        ("program.mp4", b"\x7fELF" + NOISE, "cannot be opened as media"),
        ("archive.mp4", b"PK\x03\x04" + NOISE, "cannot be opened as media"),
        ("empty.mp4", b"", "is empty (0 bytes)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_video_is_refused(bench, toy, name, content, words):
    refuse(bench, bench.write(name, content), name, words, toy=toy)


def test_a_picture_with_the_name_of_a_video_is_refused(bench, toy):
    imsave(bench.root / "inputs" / "a.png", np.random.default_rng(0).random((32, 32, 3)))
    content = (bench.root / "inputs" / "a.png").read_bytes()
    refuse(bench, bench.write("a.mp4", content), "single picture (png)", toy=toy)


def test_a_picture_is_refused_by_a_variant_that_needs_a_video(bench, toy):
    imsave(bench.root / "inputs" / "a.png", np.random.default_rng(0).random((32, 32, 3)))
    outcome = bench.run("generate", bench.root / "inputs" / "a.png", "-o", bench.out / "x.wav", *toy)
    outcome.check_refused("demo_16k makes the sound of a video", "MMAudio")
    assert not list(bench.out.iterdir())


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
def test_a_cut_video_is_refused(bench, toy, video, share):
    content = video.read_bytes()
    path = bench.write("cut.mp4", content[: max(int(len(content) * share), 1)])
    refuse(bench, path, "cut.mp4", "cut off", toy=toy)


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_a_cut_download_that_lost_its_first_picture_is_refused(bench, toy, share):
    pixels = np.random.default_rng(0).integers(0, 255, (4, 48, 64, 3), dtype=np.uint8)
    content = write_video(pixels[[0] * 22 + [1, 2, 3]], 25, bench.root / "inputs" / "whole.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    path = bench.write("cut.mp4", content[: int(len(content) * share)])
    refuse(bench, path, "cut.mp4", "cut off", toy=toy)


def test_sound_alone_is_refused(bench, toy):
    soundfile.write(bench.root / "inputs" / "only.wav", np.zeros(8000), 8000)
    refuse(bench, bench.root / "inputs" / "only.wav", "sound only", toy=toy)
    path = bench.root / "inputs" / "only.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16000)
        stream.codec_context.layout = "mono"
        frame = AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 16000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    refuse(bench, path, "sound only", toy=toy)


@pytest.mark.skipif(not IS_POSSIBLE, reason="needs the kernel's account of opened files")
@pytest.mark.parametrize("name", sorted(hostile.playlists("")))
def test_a_playlist_is_refused_and_what_it_names_stays_closed(bench, toy, video, name):
    secret = bench.write("secret.mp4", video.read_bytes())
    path = bench.write(name, hostile.playlists(str(secret))[name])
    relative = bench.write(f"relative_{name}", hostile.playlists("secret.mp4")[name])
    with watching(secret) as watch:
        refuse(bench, path, "cannot be opened as media", toy=toy)
        refuse(bench, relative, "cannot be opened as media", toy=toy)
        assert watch.count() == 0


@pytest.mark.skipif(not IS_POSSIBLE, reason="needs the kernel's account of opened files")
def test_the_watch_sees_a_careless_reader_open_what_a_playlist_names(bench, video):
    secret = bench.write("secret.mp4", video.read_bytes())
    path = bench.write("list.mp4", hostile.playlists("secret.mp4")["ffconcat.mp4"])
    with watching(secret) as watch, av.open(str(path)) as container:
        assert next(container.decode(video=0)).width == 64
        assert watch.count() > 0


@pytest.mark.skipif(not IS_POSSIBLE, reason="needs the kernel's account of opened files")
def test_a_reference_to_picture_data_in_another_file_is_not_followed(bench, toy, mute):
    secret = bench.write("secret.mp4", mute.read_bytes())
    record = hostile.alias_record("secret.mp4")
    path = bench.write("outside.mp4", hostile.with_external_data(mute.read_bytes(), record))
    with watching(secret) as watch:
        refuse(bench, path, "keeps its picture in another file", toy=toy)
        assert watch.count() == 0


@pytest.mark.parametrize(("size", "frames", "suffix"), [(4096, 118, ".mkv"), (8192, 25, ".mp4")])
def test_a_small_file_that_expands_to_gigabytes_is_refused(bench, toy, size, frames, suffix):
    path = hostile.same_picture(bench.root / "inputs" / f"bomb{suffix}", size=size, frames=frames)
    assert path.stat().st_size < 60_000
    refuse(bench, path, "expands to", toy=toy)


def test_a_picture_of_absurd_size_is_refused(bench, toy, video):
    path = bench.write("huge.png", hostile.huge_png(30_000))
    refuse(bench, bench.write("huge.mp4", path.read_bytes()), "huge.mp4", toy=toy)
    refuse(bench, video, "huge.png", "67 million pixels", toy=toy, mask=path)


@pytest.mark.parametrize("seconds", [3e5, 1e4])
def test_a_claim_of_hours_per_frame_is_refused(bench, toy, mute, seconds):
    path = bench.write("days.mp4", hostile.claim_length(mute.read_bytes(), seconds))
    refuse(bench, path, "days.mp4", "Cut it into parts", toy=toy)


@pytest.mark.parametrize("place", ["missing.mp4", "/dev/null", "/dev/zero", "/dev/stdin", "pipe.mp4", "."])
def test_what_is_no_regular_file_is_refused_without_waiting(bench, toy, place):
    os.mkfifo(bench.root / "inputs" / "pipe.mp4")
    refuse(bench, place, toy=toy)


def test_a_link_in_a_circle_is_refused(bench, toy):
    (bench.root / "inputs" / "a.mp4").symlink_to("b.mp4")
    (bench.root / "inputs" / "b.mp4").symlink_to("a.mp4")
    refuse(bench, Path("a.mp4"), "a.mp4", toy=toy)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.png", None, "There is no file"),
        ("empty.png", b"", "is empty"),
        ("text.png", b"white on the left" * 20, "cannot be opened as media"),
        ("page.png", b"<html></html>", "cannot be opened as media"),
        ("cut.png", b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR", "mask"),
        ("size 0.png", hostile.huge_png(0), "size 0.png"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_mask_is_refused(bench, toy, video, name, content, words):
    path = bench.root / "inputs" / name
    if content is not None:
        path.write_bytes(content)
    refuse(bench, video, name, words if words != "mask" else "", toy=toy, mask=path)


def test_a_device_and_a_folder_are_no_masks(bench, toy, video):
    for place in ("/dev/null", bench.out):
        refuse(bench, video, "is not a file that can be read", toy=toy, mask=place)


def zipped(**members):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return memory.getvalue()


def array_file(shape, dtype="<f4", body=b""):
    """An .npy file that claims ``shape`` and holds ``body``."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


CLIP = array_file((1, 0, 64))
FEATURES = {
    "empty": b"",
    "text": b"sync_features",
    "page": b"<html></html>",
    "no arrays": zipped(prompt=array_file((), "<U3", "dog".encode("utf-32-le"))),
    "clip alone": zipped(clip_features=CLIP),
    "terabytes claimed": zipped(clip_features=CLIP, sync_features=array_file((1, 8, 10**12))),
    "cut": zipped(clip_features=CLIP, sync_features=array_file((1, 16, 96), body=bytes(6144)))[:-90],
    "body missing": zipped(clip_features=CLIP, sync_features=array_file((1, 16, 96))),
    "objects": zipped(clip_features=CLIP, sync_features=array_file((1,), "|O", pickle.dumps([print]))),
    "words": zipped(clip_features=CLIP, sync_features=array_file((1, 8), "<U1", bytes(32))),
    "negative": zipped(clip_features=CLIP, sync_features=array_file((1, -8, 96))),
    "five axes": zipped(clip_features=CLIP, sync_features=array_file((1, 1, 1, 8, 1), body=bytes(32))),
    "odd rows": zipped(clip_features=CLIP, sync_features=array_file((1, 7, 96), body=bytes(2688))),
    "other width": zipped(clip_features=CLIP, sync_features=array_file((1, 16, 7), body=bytes(448))),
    "no rows": zipped(clip_features=CLIP, sync_features=array_file((1, 0, 96))),
    "nan": zipped(
        clip_features=CLIP,
        sync_features=array_file((1, 16, 96), body=np.full((1, 16, 96), np.nan, "<f4").tobytes()),
    ),
    "nan seconds": zipped(
        clip_features=CLIP,
        sync_features=array_file((1, 16, 96), body=bytes(6144)),
        duration=array_file((), "<f8", np.float64(np.nan).tobytes()),
    ),
    "years": zipped(
        clip_features=CLIP,
        sync_features=array_file((1, 16, 96), body=bytes(6144)),
        duration=array_file((), "<f8", np.float64(1e9).tobytes()),
    ),
    "bomb": zipped(clip_features=CLIP, sync_features=array_file((1, 2**20, 768)) + bytes(3 * 2**20 * 768)),
}


@pytest.mark.parametrize("kind", sorted(FEATURES))
def test_what_are_no_features_is_refused(bench, toy, kind):
    path = bench.write("f.npz", FEATURES[kind])
    before = bench.listing()
    bench.run("generate", path, "-o", bench.out / "x.wav", "-p", "dog", *toy).check_refused(lines=None)
    assert bench.listing() == before
