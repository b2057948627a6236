"""Writing frames as a video, and moving masks; the main job copies pictures instead."""

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av.codec
import numpy as np
from av.codec.context import Flags
from av.video.frame import VideoFrame

from ..errors import InputError
from ..files import atomic_path
from ..options import OutputOptions
from ..records import Audio, Frames
from .mux import FORMATS, interleave, open_output
from .soundtrack import add_sound_stream, build_soundtrack, encode_sound, sound_codec

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

_QUALITY = "18"
_ENCODER_OPTIONS = {
    # For pictures of few macroblocks, its macroblock tree reads past its rows, and equal frames become
    # different bytes (measured on 30 frames of 112 x 112: 25 results of 50 runs).
    "libx264": {"x264-params": "no-mbtree=1"},
    "libvpx-vp9": {"b": "0", "cpu-used": "8"},
}


def write_video(
    frames: Frames | Iterable[np.ndarray],
    fps: float,
    path: str | os.PathLike[str],
    audio: Audio | None = None,
    *,
    options: OutputOptions | None = None,
) -> Path:
    """Encode frames at a constant rate, whole file or nothing: H.264, in webm VP9.

    Args:
        frames: pictures (H, W, 3) uint8 of one size; odd sizes get one more row or column, a copy of the
            last. An iterable is read once, so that long videos need not be in memory.
        fps: frames per second.
        path: ends in .mp4, .mov, .mkv or .webm.
        audio: one take; cut or filled with silence to the picture. An iterable of frames is then
            collected first.
        options: codec and bit rate of the sound.

    Raises:
        InputError: no frames, another ending, sizes that change.
        OutputError: the disk refuses the file.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"A video is written as .mp4, .mov, .mkv or .webm, not {target.suffix!r}.")
    if not 0 < fps <= 1000:
        raise InputError(f"The frame rate must be between 0 and 1000, not {fps}.")
    options = options or OutputOptions()
    pictures: Iterable[np.ndarray] = frames.pixels if isinstance(frames, Frames) else frames
    if audio is not None and not hasattr(pictures, "__len__"):
        pictures = list(pictures)
    remaining = iter(pictures)
    first = next(remaining, None)
    if first is None:
        raise InputError("There are no frames to write. Give at least one picture.")
    rate = Fraction(fps).limit_denominator(100_000)
    with atomic_path(target) as temporary, open_output(temporary, FORMATS[suffix], target.name) as result:
        encoder = _encoder(suffix)
        stream: VideoStream = result.add_stream(encoder, rate=rate)  # type: ignore[assignment]
        context = stream.codec_context
        context.height, context.width = (side + side % 2 for side in first.shape[:2])
        context.pix_fmt = "yuv420p"
        context.time_base = 1 / rate
        context.flags |= Flags.bitexact
        # With several threads x264 now and then codes equal frames differently.
        context.thread_count = 1
        context.options = {"crf": _QUALITY} | _ENCODER_OPTIONS.get(encoder, {})
        sound: Iterator[Packet[Stream]] = iter(())
        if audio is not None:
            codec, _ = sound_codec(suffix, options.codec)
            seconds = len(pictures) / fps  # type: ignore[arg-type]
            waveform, sample_rate, _ = build_soundtrack(
                None, audio, seconds, codec, OutputOptions(), frame_seconds=1 / fps
            )
            sound_stream = add_sound_stream(result, codec, waveform, sample_rate, options.bitrate_kbps)
            sound = encode_sound(sound_stream, codec, waveform)
        interleave(result, _encoded(stream, first, remaining), sound)
    return target


def write_masks(masks: Iterable[np.ndarray], fps: float, path: str | os.PathLike[str]) -> Path:
    """Write a moving mask without loss as an animated PNG that ``load_mask`` reads, whole file or nothing.

    Args:
        masks: (H, W) bool, of one size; read once.
        fps: masks per second.
        path: ends in .png.

    Raises:
        InputError: no masks, another ending, sizes that change.
        OutputError: the disk refuses the file.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise InputError(f"A moving mask is written as .png, not {target.suffix!r}.")
    remaining = (mask.astype(np.uint8) * np.uint8(255) for mask in masks)
    first = next(remaining, None)
    if first is None:
        raise InputError("There are no masks to write. Give at least one.")
    rate = Fraction(fps).limit_denominator(100_000)
    with atomic_path(target) as temporary, open_output(temporary, "apng", target.name) as result:
        stream = result.add_stream("apng", rate=rate)
        context = stream.codec_context
        context.height, context.width = first.shape
        context.pix_fmt = "gray"
        context.time_base = 1 / rate
        context.flags |= Flags.bitexact
        context.thread_count = 1
        for packet in _encoded(stream, first, remaining, layout="gray"):
            result.mux(packet)
    return target


def _encoded(
    stream: "VideoStream", first: np.ndarray, rest: Iterator[np.ndarray], *, layout: str = "rgb24"
) -> Iterator["Packet[Stream]"]:
    time_base = stream.codec_context.time_base
    picture: np.ndarray | None = first
    number = 0
    while picture is not None:
        if picture.shape != first.shape:
            raise InputError(f"Frame {number} is {picture.shape}, but the first one is {first.shape}.")
        if layout == "rgb24":
            height, width = picture.shape[:2]
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=layout)
        frame.pts, frame.time_base = number, time_base
        yield from stream.encode(frame)
        picture = next(rest, None)
        number += 1
    yield from stream.encode(None)


def _encoder(suffix: str) -> str:
    if suffix == ".webm":
        return "libvpx-vp9"
    return "libx264" if "libx264" in av.codec.codecs_available else "mpeg4"
