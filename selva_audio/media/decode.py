"""Decoding one picture track: every frame once, in order, with its time, upright, in fixed memory."""

import logging
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

from ..errors import MediaError
from ..progress import Progress, ProgressFn, ignore_progress
from .container import LIMITS, MediaLimits, check_expansion, check_length, check_picture, time_origin
from .grid import Shown

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

DEFAULT_RATE = 25.0
# Where the display matrix sends the x axis (first two) and the y axis (last two); y points down.
Axes: TypeAlias = tuple[int, int, int, int]
_AS_STORED: Axes = (1, 0, 0, 1)
_REPORT_EVERY = 0.5


class Decoder:
    """Iterate over the frames of a picture track.

    What cannot be decoded is passed over and counted.

    Args:
        container: open file.
        stream: its picture track.
        name: what messages call the file.
        file_bytes: size of the file, for the expansion limit.
        fps: frame i is shown at i / fps whatever the timestamps; 0 = timestamps.
        origin: time stamp that counts as zero; None = the container's rule.
        limits: enforced while decoding, since headers may lie.
        on_progress: told of the frames read about twice a second.

    Attributes:
        axes: orientation of the picture; known with the first frame.
        notes: sentences about what was damaged; known after the iteration.
        stream: the picture track.

    Raises:
        MediaError: nothing could be decoded, or a limit was passed.
    """

    def __init__(
        self,
        container: "InputContainer",
        stream: "VideoStream",
        *,
        name: str,
        file_bytes: int,
        fps: float = 0.0,
        origin: Fraction | None = None,
        limits: MediaLimits = LIMITS,
        on_progress: ProgressFn = ignore_progress,
    ) -> None:
        self.axes = _AS_STORED
        self.notes: tuple[str, ...] = ()
        self._container = container
        self.stream = stream
        self._name = name
        self._file_bytes = file_bytes
        self._fps = fps
        self._origin = time_origin(container) if origin is None else origin
        self._limits = limits
        self._on_progress = on_progress
        self._rate = float(stream.average_rate or stream.guessed_rate or DEFAULT_RATE)
        # One for all frames: a conversion of its own for each costs as much as decoding it.
        self._converter = VideoReformatter()

    @property
    def frame_seconds(self) -> float:
        """Usual length of a frame."""
        return 1.0 / (self._fps or self._rate)

    def rgb(self, frame: "VideoFrame") -> np.ndarray:
        """(H, W, 3) uint8 as a viewer sees it: rotation and mirroring applied, alpha dropped."""
        return _upright(self._converter.reformat(frame, format="rgb24", threads=1).to_ndarray(), self.axes)

    def grey(self, frame: "VideoFrame") -> np.ndarray:
        """(H, W) uint8 brightness as a viewer sees it."""
        return _upright(self._converter.reformat(frame, format="gray", threads=1).to_ndarray(), self.axes)

    def size(self, frame: "VideoFrame") -> tuple[int, int]:
        """Width and height as a viewer sees them."""
        turned = abs(self.axes[1]) > abs(self.axes[0])
        return (frame.height, frame.width) if turned else (frame.width, frame.height)

    def __iter__(self) -> Iterator[Shown["VideoFrame"]]:
        count, damaged, decoded_bytes = 0, 0, 0.0
        total = self.stream.frames
        reported = time.monotonic()
        previous = -1.0
        for frame in self._frames():
            if frame is None:
                damaged += 1
                continue
            check_picture(self._name, frame.width, frame.height, self._limits)
            pixels = frame.width * frame.height
            decoded_bytes += 3.0 * pixels
            check_expansion(self._name, decoded_bytes, self._file_bytes, self._limits, pixels=pixels)
            shown = self._shown(frame, count, previous)
            check_length(self._name, shown.time, count, self._limits)
            previous = shown.time
            if count == 0:
                # Looking at side data ties a frame into a reference cycle that keeps it in memory: once only.
                self.axes = _axes(frame)
            count += 1
            damaged += bool(frame.is_corrupt)
            if time.monotonic() - reported >= _REPORT_EVERY:
                reported = time.monotonic()
                self._on_progress(Progress("reading video", count, total))
            yield shown
        if count == 0:
            raise MediaError(
                f"No picture of {self._name} could be decoded: it is damaged, cut off, larger than "
                f"{self._limits.pixels / 1e6:.0f} million pixels, or keeps its picture in another file. "
                "Copy it again, or convert it to mp4 first."
            )
        if damaged:
            self.notes = (
                f"{self._name} is damaged: {damaged} pieces could not be decoded cleanly; "
                f"{count} frames up to {previous:.2f} s were read.",
            )
            logger.warning(self.notes[0])

    def _frames(self) -> Iterator["VideoFrame | None"]:
        """Decoded frames; None for each piece that could not be decoded."""
        context = self.stream.codec_context
        # Frame threads keep one decoded picture per thread and more in flight; slices share one.
        context.thread_type = "SLICE"
        context.thread_count = 2
        context.options = {"max_pixels": str(self._limits.pixels)}
        packets = self._container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
                yield from packet.decode()
            except StopIteration:
                return
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                yield None

    def _shown(self, frame: "VideoFrame", count: int, previous: float) -> Shown["VideoFrame"]:
        if self._fps:
            return Shown(count / self._fps, 1.0 / self._fps, frame)
        seconds = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
        if frame.pts is None or frame.time_base is None:
            return Shown(previous + 1.0 / self._rate if count else 0.0, seconds, frame)
        return Shown(float(frame.pts * frame.time_base - self._origin), seconds, frame)


def _upright(pixels: np.ndarray, axes: Axes) -> np.ndarray:
    a, b, c, d = axes
    if abs(a) >= abs(b):
        pixels = pixels[:, ::-1] if a < 0 else pixels
        pixels = pixels[::-1] if d < 0 else pixels
    else:
        pixels = pixels.swapaxes(0, 1)
        pixels = pixels[::-1] if b < 0 else pixels
        pixels = pixels[:, ::-1] if c < 0 else pixels
    return np.ascontiguousarray(pixels)


def _axes(frame: "VideoFrame") -> Axes:
    side_data: Any = frame.side_data
    for item in side_data:
        if item.type.name == "DISPLAYMATRIX":
            matrix = np.frombuffer(bytes(item), dtype=np.int32)
            return int(matrix[0]), int(matrix[1]), int(matrix[3]), int(matrix[4])
    return _AS_STORED
