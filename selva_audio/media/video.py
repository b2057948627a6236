"""Reading video: by timestamps, in one decode pass, on several constant-rate grids at once.

``read_frames`` is the published rule to the letter. ``stream_frames`` is the main job's reader: the
same grid over the true length of the picture, in memory that depends on neither length nor size.
Writing is left to ``mux.py`` and ``encode.py``.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from ..errors import InputError, MediaError
from ..progress import ProgressFn, ignore_progress
from ..records import Frames
from .container import LIMITS, MediaLimits, check_length, open_media, regular_file, time_origin, video_stream
from .decode import DEFAULT_RATE, Decoder
from .grid import GridSampler, Sample, Shown

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

Transform: TypeAlias = Callable[[np.ndarray], np.ndarray]
Rgb: TypeAlias = np.ndarray
F = TypeVar("F")

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

_MAX_HELD_BYTES = 8 * 2**30


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What the headers and the first frame say.

    Attributes:
        width: pixels, after rotation.
        height: pixels, after rotation.
        duration: seconds from time zero to the end of the picture, as the headers have it; 0 = unknown.
        start_time: seconds at which the first frame appears.
        average_rate: frames per second.
        num_frames: as the headers have it, else estimated from duration and rate; 0 = unknown.
        has_audio: the file holds sound too.
        codec: FFmpeg's name of the picture codec.
        container: FFmpeg's names of the container format, comma-separated.
    """

    width: int
    height: int
    duration: float
    start_time: float
    average_rate: float
    num_frames: int
    has_audio: bool
    codec: str
    container: str


class FrameStream:
    """Iterator over the samples of a video; what only the end tells is read off it afterwards.

    Attributes:
        info: the headers.
        duration: seconds of picture from ``start`` to the end; known when the iteration is over.
        num_frames: source frames read; known when the iteration is over.
        notes: sentences about damaged parts; known when the iteration is over.
    """

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        self.duration = 0.0
        self.num_frames = 0
        self.notes: tuple[str, ...] = ()
        self._samples: Iterator[Sample[Rgb]] = iter(())
        self._file = contextlib.ExitStack()

    def __iter__(self) -> "FrameStream":
        return self

    def __next__(self) -> Sample[Rgb]:
        return next(self._samples)

    def close(self) -> None:
        """Stop early and close the file."""
        close = getattr(self._samples, "close", None)
        if close is not None:
            close()
        self._file.close()


def read_frames(
    path: str | os.PathLike[str],
    rates: Sequence[float],
    duration: float,
    *,
    transform: Transform | Mapping[float, Transform] | None = None,
    limits: MediaLimits = LIMITS,
) -> tuple[dict[float, Frames], float]:
    """Frames on one grid per rate, cut to the duration that all of them cover.

    Args:
        path: video file.
        rates: frames per second of each grid; their order is that of the shortening rule.
        duration: seconds wanted, from time zero; a frame exactly there still counts.
        transform: applied to each frame (H, W, 3) uint8 as it is read, so that no full-size frame is
            kept: one function, or one per rate.
        limits: what the file may ask for.

    Returns:
        ``{rate: frames}`` with the source time of each frame, and the duration, shortened to what the
        sampled frames cover (first by the first rate, then by the second). The video is never padded.

    Raises:
        InputError: a rate or duration that is not positive.
        MediaError: not a video, damaged, or no frame in the time asked for.

    Source: SPEC 8.1 to 8.7.
    """
    _check_rates(rates)
    if not duration > 0:
        raise InputError(f"The duration must be positive, not {duration}. Give seconds of video to read.")
    source = regular_file(path)
    collected: dict[float, list[Sample[Rgb]]] = {rate: [] for rate in rates}
    with open_media(source, limits=limits) as container:
        decoder = Decoder(
            container,
            video_stream(container, str(source)),
            name=str(source),
            file_bytes=source.stat().st_size,
            origin=Fraction(0),
            limits=limits,
        )
        sampler = GridSampler(decoder, rates, end=duration)
        held = 0
        for sample in _transformed(sampler, {rate: _pick(transform, rate) for rate in rates}, decoder.rgb):
            collected[sample.rate].append(sample)
            held += sample.frame.nbytes
            if held > _MAX_HELD_BYTES:
                raise MediaError(
                    f"{duration:g} s of {source} at full size take over {_MAX_HELD_BYTES / 2**30:.0f} GB of "
                    "memory. Give a transform that scales each frame down, or a shorter duration."
                )
    if not any(collected.values()):
        raise MediaError(
            f"{source} shows no frame between 0 and {duration:g} s. Give a longer duration, or another video."
        )
    for rate, samples in collected.items():
        duration = min(duration, len(samples) / rate)
    return {rate: _stack(samples, int(rate * duration)) for rate, samples in collected.items()}, duration


def stream_frames(
    path: str | os.PathLike[str],
    grids: Mapping[float, Transform | None],
    *,
    start: float = 0.0,
    duration: float = 0.0,
    fps: float = 0.0,
    limits: MediaLimits = LIMITS,
    on_progress: ProgressFn = ignore_progress,
) -> FrameStream:
    """Samples of a whole video in one decode pass, holding one frame at a time.

    Grid time k of a rate is ``start + k / rate`` and takes the first frame at or after it; grid times
    after the last frame, up to the end of the picture, take the last frame. The picture ends when the
    last frame has been shown for as long as the file says. Nothing is stretched.

    Args:
        path: video or picture file.
        grids: ``{rate: transform}``; None keeps the upright frame (H, W, 3) uint8 as it is.
        start: seconds into the video where the grids begin.
        duration: seconds of video; 0 = to its end.
        fps: frame i is shown at i / fps, whatever the timestamps; 0 = timestamps.
        limits: what the file may ask for.
        on_progress: told of the frames read; cancels by raising.

    Raises:
        InputError: a rate that is not positive, or a start past the end of the picture.
        MediaError: not a video, or nothing in it can be decoded.
    """
    _check_rates(list(grids))
    source = regular_file(path)
    with contextlib.ExitStack() as opening:
        container = opening.enter_context(open_media(source, limits=limits))
        decoder = Decoder(
            container,
            video_stream(container, str(source)),
            name=str(source),
            file_bytes=source.stat().st_size,
            fps=fps,
            limits=limits,
            on_progress=on_progress,
        )
        shown = iter(decoder)
        first = next(shown)
        stream = FrameStream(_describe(container, decoder, first, str(source), fps, limits))
        stream._file = opening.pop_all()
    frames = itertools.chain([first], shown)

    def samples() -> Iterator[Sample[Rgb]]:
        with stream._file:
            sampler = _sampler(frames, list(grids), start, duration, decoder.frame_seconds)
            yield from _transformed(sampler, grids, decoder.rgb)
            _finish(stream, sampler, start, str(source))
            stream.notes = decoder.notes

    stream._samples = samples()
    return stream


def stream_arrays(
    frames: Frames,
    grids: Mapping[float, Transform | None],
    *,
    start: float = 0.0,
    duration: float = 0.0,
    fps: float = 0.0,
) -> FrameStream:
    """The same as ``stream_frames`` for frames that are in memory already.

    Args:
        frames: pictures and their times.
        grids: ``{rate: transform}``.
        start: seconds into the frames where the grids begin.
        duration: seconds; 0 = to the end.
        fps: frame i is shown at i / fps, whatever ``frames.times``; 0 = ``frames.times``.

    Raises:
        InputError: no frames, a rate that is not positive, or a start past the end.
    """
    _check_rates(list(grids))
    count, height, width = frames.pixels.shape[:3]
    if count == 0:
        raise InputError("There are no frames. Give at least one picture.")
    times = np.arange(count) / fps if fps else np.asarray(frames.times, dtype=np.float64)
    gaps = np.diff(times)
    rate = fps or (float(1 / gaps.mean()) if len(gaps) and gaps.mean() > 0 else DEFAULT_RATE)
    info = VideoInfo(
        width, height, float(times[-1] + 1 / rate), float(times[0]), rate, count, False, "rawvideo", "memory"
    )
    stream = FrameStream(info)

    def samples() -> Iterator[Sample[Rgb]]:
        seconds = 1.0 / fps if fps else 0.0
        shown = (
            Shown(float(moment), seconds, pixels) for moment, pixels in zip(times, frames.pixels, strict=True)
        )
        sampler = _sampler(shown, list(grids), start, duration, 1.0 / rate)
        yield from _transformed(sampler, grids, lambda pixels: pixels)
        _finish(stream, sampler, start, "The frames")

    stream._samples = samples()
    return stream


def probe(path: str | os.PathLike[str], *, fps: float = 0.0, limits: MediaLimits = LIMITS) -> VideoInfo:
    """What a video is, from its headers and its first frame.

    Args:
        path: video or picture file.
        fps: rate to assume instead of the file's own; 0 = its own.
        limits: what the file may ask for.

    Raises:
        MediaError: not a video, or not even its first frame can be decoded.
    """
    source = regular_file(path)
    with open_media(source, limits=limits) as container:
        stream = video_stream(container, str(source))
        decoder = Decoder(
            container, stream, name=str(source), file_bytes=source.stat().st_size, fps=fps, limits=limits
        )
        return _describe(container, decoder, next(iter(decoder)), str(source), fps, limits)


def read_image(path: str | os.PathLike[str], *, limits: MediaLimits = LIMITS) -> Rgb:
    """First picture of a file, upright: (H, W, 3) uint8.

    Raises:
        MediaError: not a picture, or it cannot be decoded.
    """
    source = regular_file(path)
    with open_media(source, limits=limits) as container:
        stream = video_stream(container, str(source))
        decoder = Decoder(
            container, stream, name=str(source), file_bytes=source.stat().st_size, limits=limits
        )
        return decoder.rgb(next(iter(decoder)).frame)


def _describe(
    container: "InputContainer",
    decoder: Decoder,
    first: Shown["VideoFrame"],
    name: str,
    fps: float,
    limits: MediaLimits,
) -> VideoInfo:
    """The headers of an open file, and the size and time of its first frame."""
    stream = decoder.stream
    rate = 1.0 / decoder.frame_seconds
    origin = time_origin(container)
    if stream.duration and stream.time_base:
        duration = float((stream.duration + (stream.start_time or 0)) * stream.time_base - origin)
    elif container.duration:
        duration = container.duration / 1e6
    else:
        duration = 0.0
    num_frames = stream.frames or round(max(duration - first.time, 0.0) * rate)
    if fps and num_frames:
        duration = num_frames / fps
    check_length(name, duration, num_frames, limits)
    width, height = decoder.size(first.frame)
    return VideoInfo(
        width=width,
        height=height,
        duration=duration,
        start_time=first.time,
        average_rate=rate,
        num_frames=num_frames,
        has_audio=bool(container.streams.audio),
        codec=stream.codec_context.name,
        container=container.format.name,
    )


def _transformed(
    sampler: "GridSampler[F]", transforms: Mapping[float, Transform | None], to_rgb: Callable[[F], Rgb]
) -> Iterator[Sample[Rgb]]:
    """Samples with pixels for frames; a frame picked again is not converted again."""
    source = -1
    rgb: Rgb | None = None
    done: dict[float, Rgb] = {}
    for sample in sampler:
        if sample.source != source:
            source, rgb, done = sample.source, None, {}
        if sample.rate not in done:
            if rgb is None:
                rgb = to_rgb(sample.frame)
            transform = transforms[sample.rate]
            done[sample.rate] = rgb if transform is None else transform(rgb)
        yield Sample(sample.rate, sample.index, sample.time, sample.source, done[sample.rate])


def _sampler(
    shown: Iterable[Shown[F]], rates: list[float], start: float, duration: float, frame_seconds: float
) -> "GridSampler[F]":
    end = start + duration if duration else float("inf")
    return GridSampler(shown, rates, start=start, end=end, repeat_last=True, frame_seconds=frame_seconds)


def _finish(stream: FrameStream, sampler: "GridSampler[F]", start: float, name: str) -> None:
    stream.num_frames = sampler.num_frames
    stream.duration = sampler.end_time - start
    if stream.duration <= 0:
        raise InputError(
            f"start = {start:g} s is past the end of the picture: {name} ends at {sampler.end_time:g} s. "
            "Give a smaller start."
        )


def _check_rates(rates: Sequence[float]) -> None:
    if not rates or not all(0 < rate <= 1000 for rate in rates):
        raise InputError(f"The rates must be between 0 and 1000 frames per second, not {list(rates)}.")


def _pick(transform: Transform | Mapping[float, Transform] | None, rate: float) -> Transform | None:
    return transform.get(rate) if isinstance(transform, Mapping) else transform


def _stack(samples: Sequence[Sample[Rgb]], count: int) -> Frames:
    shape = samples[0].frame.shape
    odd = next((sample for sample in samples if sample.frame.shape != shape), None)
    if odd is not None:
        raise MediaError(
            f"The picture changes size at {odd.time:.2f} s, from {shape[1]}x{shape[0]} to "
            f"{odd.frame.shape[1]}x{odd.frame.shape[0]}. Give a transform to one size, or re-encode it."
        )
    pixels = np.empty((count, *shape), dtype=np.uint8)
    for place, sample in zip(pixels, samples, strict=False):
        place[:] = sample.frame
    return Frames(pixels, np.array([sample.time for sample in samples[:count]], dtype=np.float64))
