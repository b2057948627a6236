"""Decoding keeps its memory whatever the length: one 4K second, remuxed to a minute."""

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

RATE = 30
LIMIT = 2**30

MEASURE = """
import json, sys
from functools import partial
from peak import peak_bytes
{body}
peak = peak_bytes()
print(json.dumps({{"peak": peak, "count": count}}))
"""
DECODE = """
from selva_audio.media.transforms import squash
from selva_audio.media.video import stream_frames
grids = {8.0: partial(squash, size=384), 25.0: partial(squash, size=224)}
count = sum(1 for sample in stream_frames(sys.argv[1], grids) if sample.rate == 25.0)
"""
EXTRACT = """
import selva_audio as selva
model = selva.load_model("demo_16k", device="cpu", precision="fp32")
features = selva.extract_features(model, sys.argv[1], selva.FeatureOptions(prompt="dog"))
count = features.sync.shape[1]
"""


def one_second_of_4k(path: Path) -> Path:
    """3840x2160 H.264 with motion everywhere."""
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 60, (135, 240), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuv420p"
        stream.codec_context.options = {"preset": "ultrafast", "crf": "30", "g": str(RATE)}
        for number in range(RATE):
            frame = VideoFrame(3840, 2160, "yuv420p")
            luma = np.roll(grain, 16 * number, axis=1) + np.uint8(4 * number)
            frame.planes[0].update(np.ascontiguousarray(luma))
            for plane in frame.planes[1:]:
                plane.update(np.full((1080, 1920), 128, np.uint8))
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def repeated(second: Path, times: int, path: Path) -> Path:
    """The packets of ``second``, ``times`` in a row."""
    with av.open(str(second)) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        held = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        time_base = source.streams.video[0].time_base
        length = round(1 / time_base)
        for turn in range(times):
            for content, pts, dts, is_keyframe in held:
                packet = av.Packet(content)
                packet.pts, packet.dts = pts + turn * length, dts + turn * length
                packet.time_base, packet.is_keyframe, packet.stream = time_base, is_keyframe, stream
                output.mux(packet)
    return path


def measure(body: str, video: Path, bench) -> dict[str, int]:
    """Peak resident bytes of a process of its own, and what it counted."""
    script = MEASURE.format(body=body)
    found = subprocess.run(
        [sys.executable, "-c", script, str(video)],
        env={**bench.env, "PYTHONPATH": str(Path(__file__).parents[1])},  # for peak.py
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A few seconds and a minute of 4K."""
    folder = tmp_path_factory.mktemp("4k")
    second = one_second_of_4k(folder / "second.mp4")
    return {seconds: repeated(second, seconds, folder / f"{seconds}.mp4") for seconds in (6, 60)}


@pytest.mark.slow
def test_decoding_a_minute_of_4k_takes_under_a_gigabyte_and_no_more_than_seconds(bench, clips):
    short, minute = (measure(DECODE, clips[seconds], bench) for seconds in (6, 60))
    assert (short["count"], minute["count"]) == (150, 1500)
    assert minute["peak"] < LIMIT
    assert minute["peak"] < 1.05 * short["peak"]


@pytest.mark.slow
def test_extracting_features_of_a_minute_of_4k_takes_no_more_than_of_seconds(bench, clips):
    short, minute = (measure(EXTRACT, clips[seconds], bench) for seconds in (6, 60))
    assert (short["count"], minute["count"]) == (8 * 17, 8 * 186)
    assert minute["peak"] < 1.1 * short["peak"]
