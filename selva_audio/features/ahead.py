"""Samples of a video that another thread reads, ahead of the encoders."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..media.grid import Sample
from ..media.video import FrameStream, VideoInfo

# About 17 s of sync frames; what a longer video has more is read as room is made.
_MOST_BYTES = 64 * 2**20
_TICK = 0.2


class Pictures(Protocol):
    """What ``encode_video`` reads: a ``FrameStream``, or a ``ReadAhead`` of one."""

    @property
    def info(self) -> VideoInfo:
        """The headers."""
        ...

    @property
    def duration(self) -> float:
        """Seconds of picture; known when the iteration is over."""
        ...

    def __iter__(self) -> "Pictures": ...

    def __next__(self) -> Sample[np.ndarray]: ...


class ReadAhead:
    """The samples of a stream, which one thread reads (``fill``) and another takes.

    What reading raises is raised where the samples are taken.

    Args:
        open_stream: opens the video, in the thread that reads.
        most_bytes: of frames that wait to be taken, give or take one; then the reading waits.
    """

    def __init__(self, open_stream: Callable[[], FrameStream], *, most_bytes: int = _MOST_BYTES) -> None:
        self._open = open_stream
        self._most_bytes = most_bytes
        self._samples: deque[Sample[np.ndarray]] = deque()
        self._bytes = 0
        self._stream: FrameStream | None = None
        self._error: BaseException | None = None
        self._is_over = self._is_closed = False
        self._changed = threading.Condition()

    def fill(self) -> None:
        """Read to the end, or until nobody wants more; returns then, whatever happened."""
        try:
            stream = self._open()
            try:
                with self._changed:
                    self._stream = stream
                    self._changed.notify_all()
                for sample in stream:
                    if not self._give(sample):
                        break
            finally:
                stream.close()
        except BaseException as error:
            self._error = error
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody takes any more; the reading ends with its present frame."""
        with self._changed:
            self._is_closed = True
            self._samples.clear()
            self._changed.notify_all()

    @property
    def info(self) -> VideoInfo:
        """The headers.

        Raises:
            SelVAError: what opening the video raised.
        """
        with self._changed:
            self._wait(lambda: self._stream is not None or self._is_over)
            if self._stream is None:
                assert self._error is not None
                raise self._error
            return self._stream.info

    @property
    def duration(self) -> float:
        """Seconds of picture; known when the iteration is over."""
        assert self._stream is not None
        return self._stream.duration

    def __iter__(self) -> "ReadAhead":
        return self

    def __next__(self) -> Sample[np.ndarray]:
        with self._changed:
            self._wait(lambda: bool(self._samples) or self._is_over)
            if self._samples:
                sample = self._samples.popleft()
                self._bytes -= sample.frame.nbytes
                self._changed.notify_all()
                return sample
        if self._error is not None:
            raise self._error
        raise StopIteration

    def _give(self, sample: Sample[np.ndarray]) -> bool:
        """Hand over a sample as soon as there is room; False where nobody takes it."""
        with self._changed:
            self._wait(lambda: self._bytes < self._most_bytes or self._is_closed)
            if self._is_closed:
                return False
            self._samples.append(sample)
            self._bytes += sample.frame.nbytes
            self._changed.notify_all()
            return True

    def _wait(self, is_ready: Callable[[], bool]) -> None:
        # In pieces: where a lock cannot be interrupted, Ctrl-C is heard between them.
        while not is_ready():
            self._changed.wait(_TICK)
