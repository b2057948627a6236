"""Clips made on the spot: every frame carries its number as eight bars, so that it can be recognised."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from selva_audio.records import Audio

BARS = 8
ENCODERS = {
    ".mp4": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx-vp9",
    ".avi": "mpeg4",
    ".ts": "libx264",
    ".flv": "libx264",
    ".gif": "gif",
}
MUXERS = {".mkv": "matroska", ".ts": "mpegts"}


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(H, W, 3) uint8: the bits of ``number`` as dark and bright bars, lowest first from the left."""
    bits = (number >> np.arange(BARS)) & 1
    columns = bits[np.arange(width) * BARS // width] * 180 + 40
    return np.broadcast_to(columns[None, :, None], (height, width, 3)).astype(np.uint8)


def number_of(rgb: np.ndarray) -> int:
    """The number that ``picture`` put into a frame, after any coding or scaling."""
    width = rgb.shape[1]
    centres = ((np.arange(BARS) + 0.5) * width / BARS).astype(int)
    bright = rgb[rgb.shape[0] // 4 : rgb.shape[0] // 4 * 3, centres].mean(axis=(0, 2)) > 128
    return int((bright << np.arange(BARS)).sum())


def write_clip(
    path: Path,
    times: Sequence[float],
    *,
    pictures: Callable[[int], np.ndarray] = picture,
    clock: int = 90000,
    encoder: str | None = None,
    pixels: str = "yuv420p",
    source_format: str = "rgb24",
    rotation: float = 0.0,
    tone: float = 0.0,
    tone_start: float = 0.0,
    sample_rate: int = 44100,
    channels: int = 2,
    rate: Fraction | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode ``pictures(i)`` at ``times[i]`` seconds; with ``tone`` hertz of sound if that is above 0."""
    name = encoder or ENCODERS[path.suffix]
    with av.open(str(path), "w", format=MUXERS.get(path.suffix)) as output:
        stream = output.add_stream(name, rate=rate or Fraction(25))
        first = pictures(0)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, clock)
        stream.codec_context.thread_count = 1
        fast = {"libx264": {"preset": "ultrafast", "crf": "20"}, "libvpx-vp9": {"cpu-used": "8", "crf": "20"}}
        stream.codec_context.options = fast.get(name, {}) | (options or {})
        if rotation:
            stream.set_display_rotation(rotation)
        if tone:
            sound = output.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=sample_rate)
            sound.codec_context.layout = "stereo" if channels == 2 else "mono"
        for number, moment in enumerate(times):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(pictures(number)), format=source_format)
            frame.pts, frame.time_base = round(moment * clock), Fraction(1, clock)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if tone:
            length = round((times[-1] - tone_start + 0.04) * sample_rate)
            wave = 0.3 * np.sin(2 * np.pi * tone * np.arange(length) / sample_rate).astype(np.float32)
            for begin in range(0, length, 4096):
                block = np.repeat(wave[None, begin : begin + 4096], channels, axis=0)
                frame = AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", sound.layout.name)
                frame.sample_rate = sample_rate
                frame.pts = begin + round(tone_start * sample_rate)
                frame.time_base = Fraction(1, sample_rate)
                output.mux(sound.encode(frame))
            output.mux(sound.encode(None))
    return path


def impulses(times: Sequence[float], seconds: float, sample_rate: int, channels: int = 1) -> Audio:
    """Silence with a short click centred on each time."""
    waveform = torch.zeros(1, channels, round(seconds * sample_rate))
    half = max(round(0.0005 * sample_rate), 4)
    shape = torch.hann_window(2 * half + 1, periodic=False) * 0.8
    for moment in times:
        centre = round(moment * sample_rate)
        waveform[..., centre - half : centre + half + 1] = shape
    return Audio(waveform, sample_rate)


def click_times(audio: Audio, near: Sequence[float], reach: float = 0.1) -> list[float]:
    """Centre of energy around each expected time."""
    energy = audio.waveform[0].double().square().sum(0).numpy()
    found = []
    for moment in near:
        first = max(round((moment - reach) * audio.sample_rate), 0)
        part = energy[first : first + round(2 * reach * audio.sample_rate)]
        found.append((first + float((part * np.arange(len(part))).sum() / part.sum())) / audio.sample_rate)
    return found


def repeat(source: Path, target: Path, times: int) -> Path:
    """The packets of ``source`` again and again with shifted time stamps, without coding."""
    with av.open(str(target), "w") as output:
        stream = None
        shift = 0
        for _ in range(times):
            with av.open(str(source)) as container:
                picture_track = container.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(picture_track, opaque=True)
                for packet in container.demux(picture_track):
                    if packet.size:
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = stream
                        output.mux(packet)
                shift += picture_track.duration
    return target
