"""The videos that are measured: drawn ones, and videos of the user's, cut or looped to a length."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from selva_audio.media.encode import write_video

SEED = 0
# Of 255, in light and in each colour: what a small camera leaves of its sensor's noise indoors.
_NOISE, _COLOUR_NOISE = 2.0, 1.0
# Where a lens has lost most of the contrast, in cycles per pixel.
_SHARPNESS = 0.08
# How far a hand-held camera wanders, in pixels.
_SWAY = (24, 9)


def write_clip(
    folder: Path,
    seconds: float,
    *,
    still: bool = False,
    width: int = 1280,
    height: int = 720,
    fps: int = 25,
) -> Path:
    """A video of two balls before a background, at the size and rate that videos have; made once.

    It is what a camera gives: a background with the spectrum of photographs, swaying as in a hand, and new
    noise in each picture; 5 Mbit/s. With ``still`` the background and its noise stand still, which costs an
    encoder next to nothing after the first picture: easier than any recording, so that a copy of the picture
    looks little better than coding it anew.
    """
    kind = "clip" if still else "camera"
    path = folder / f"{kind}_{seconds:g}s_{width}x{height}.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draw = _still if still else _camera
        write_video(draw(round(seconds * fps), width, height, fps), fps, path)
    return path


def fit_clip(video: Path, folder: Path, seconds: float) -> Path:
    """The picture of a video, cut or looped to about ``seconds`` without coding it anew; made once.

    What follows the cut in the order of decoding is left out, so the last pictures may have gaps.
    """
    path = folder / f"{video.stem}_{video.stat().st_size}_{seconds:g}s.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with av.open(str(part), "w", format="mp4") as output:
        copy, begin = None, 0
        while True:
            with av.open(str(video)) as source:
                stream = source.streams.video[0]
                copy = copy or output.add_stream_from_template(stream, opaque=True)
                end = _copy(source, stream, output, copy, begin, seconds)
            if end * stream.time_base >= seconds or end == begin:
                break
            begin = end
    part.rename(path)
    return path


def _copy(source, stream, output, copy, begin: int, seconds: float) -> int:
    """Packets of a track, shifted by ``begin``, up to ``seconds``; returns where the picture ends."""
    end = begin
    for packet in source.demux(stream):
        if packet.dts is None or packet.pts is None:
            continue
        packet.pts, packet.dts = packet.pts + begin, packet.dts + begin
        if packet.dts * packet.time_base >= Fraction(seconds):
            return packet.dts
        end = max(end, packet.pts + (packet.duration or 0))
        packet.stream = copy
        output.mux(packet)
    return end


def _camera(count: int, width: int, height: int, fps: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(SEED)
    across, down = _SWAY
    scene = _photograph(random, width + 2 * across + 1, height + 2 * down + 1)
    for index in range(count):
        moment = index / fps
        picture = _crop(scene, across * (1 + np.sin(0.9 * moment)), down * (1 + np.sin(1.3 * moment)))
        _add_balls(picture, moment)
        picture += _NOISE * random.standard_normal((height, width, 1), dtype=np.float32)
        picture += _COLOUR_NOISE * random.standard_normal((height, width, 3), dtype=np.float32)
        yield picture.clip(0, 255).astype(np.uint8)


def _crop(scene: np.ndarray, left: float, top: float) -> np.ndarray:
    """The part of a scene within its margins that begins between pixels; encoders know no such motion."""
    width, height = (side - 2 * sway - 1 for side, sway in zip(scene.shape[1::-1], _SWAY, strict=True))
    x, y = int(left), int(top)
    right, below = np.float32(left - x), np.float32(top - y)
    rows = scene[y : y + height + 1, x : x + width + 1]
    rows = rows[:-1] * (1 - below) + rows[1:] * below
    return rows[:, :-1] * (1 - right) + rows[:, 1:] * right


def _photograph(random: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(H, W, 3) float32 as through a lens; amplitudes fall with frequency, and colours share most."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    spectrum = np.exp(-((frequency / _SHARPNESS) ** 2)) / frequency
    fields = [
        np.fft.irfft2(np.fft.rfft2(random.standard_normal((height, width))) * spectrum, s=(height, width))
        for _ in range(4)
    ]
    fields = [field / field.std() for field in fields]
    colours = [fields[3] + 0.3 * field for field in fields[:3]]
    return np.stack([112 + 40 * each / each.std() for each in colours], -1).astype(np.float32)


def _still(count: int, width: int, height: int, fps: int) -> Iterator[np.ndarray]:
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    base = np.stack(
        [96 + 64 * np.sin(columns / 37 + shift) * np.cos(rows / 53 - shift) for shift in (0, 1, 2)], -1
    )
    noise = np.random.default_rng(SEED).integers(-12, 13, (height, width, 3))
    for index in range(count):
        picture = base + noise
        _add_balls(picture, index / fps)
        yield picture.clip(0, 255).astype(np.uint8)


def _add_balls(picture: np.ndarray, moment: float) -> None:
    height, width = picture.shape[:2]
    rows, columns = np.ogrid[0:height, 0:width]
    for ball, (speed, colour) in enumerate((((0.31, 0.47), 230), ((0.23, -0.61), 20))):
        x, y = (
            abs((moment * pace + 0.2 * (ball + 1)) % 2 - 1) * (size - 120) + 60
            for pace, size in zip(speed, (width, height), strict=True)
        )
        picture[(columns - x) ** 2 + (rows - y) ** 2 < 55**2] = colour
