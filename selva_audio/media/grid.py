"""Which source frame stands at which point of a constant-rate grid.

One rule for files and for image batches: every grid time takes the *first frame at or after* it.
The grid time is accumulated by float addition, as in the published code: the sum of 1/25 exceeds
n/25 by an ulp at some n, and there a 25 fps source gives the next frame.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

F = TypeVar("F")


class Shown(NamedTuple, Generic[F]):
    """A source frame, when it appears, and for how many seconds (0 = not known)."""

    time: float
    seconds: float
    frame: F


@dataclass(frozen=True, slots=True)
class Sample(Generic[F]):
    """A frame that was picked.

    Attributes:
        rate: the grid, in frames per second.
        index: number on that grid; its time is ``start + index / rate``.
        time: seconds at which the source frame appears.
        source: number of the source frame, counted from the first one.
        frame: the frame itself.
    """

    rate: float
    index: int
    time: float
    source: int
    frame: F


class GridSampler(Generic[F]):
    """Iterate over the samples of one pass through the frames.

    Args:
        frames: in order of time.
        rates: frames per second of each grid; samples of one frame come in this order.
        start: grids begin here; frames before it are skipped.
        end: frames later than this are not looked at.
        repeat_last: after the last frame, give it again at the grid times that are left before the
            end of the picture (or before ``end``, if that comes first). False stops with the frames.
        frame_seconds: how long the last frame is shown if neither it nor the gap before it says so.

    Attributes:
        end_time: seconds at which the sampled part ends; known after the iteration.
        num_frames: source frames seen.

    Source: SelVA ``load_video`` (SPEC 8.2 to 8.5); ``start`` above 0 and ``repeat_last`` are ours.
    """

    def __init__(
        self,
        frames: Iterable[Shown[F]],
        rates: Sequence[float],
        *,
        start: float = 0.0,
        end: float = float("inf"),
        repeat_last: bool = False,
        frame_seconds: float = 0.04,
    ) -> None:
        self.end_time = 0.0
        self.num_frames = 0
        self._frames = frames
        self._rates = list(rates)
        self._start = start
        self._end = end
        self._repeat_last = repeat_last
        self._frame_seconds = frame_seconds

    def __iter__(self) -> Iterator[Sample[F]]:
        next_times = [0.0] * len(self._rates)
        indices = [0] * len(self._rates)
        last: Shown[F] | None = None
        picture_end = 0.0
        for shown in self._frames:
            if shown.time > self._end:
                picture_end = max(picture_end, shown.time)
                break
            gap = shown.time - last.time if last is not None else 0.0
            picture_end = max(picture_end, shown.time + self._shown_seconds(shown.seconds, gap))
            last, source = shown, self.num_frames
            self.num_frames += 1
            if shown.time < self._start:
                continue
            for slot, rate in enumerate(self._rates):
                while shown.time - self._start >= next_times[slot]:
                    yield Sample(rate, indices[slot], shown.time, source, shown.frame)
                    indices[slot] += 1
                    next_times[slot] += 1 / rate
        self.end_time = min(picture_end, self._end)
        if last is None or not self._repeat_last:
            return
        # A grid time within a microsecond of the end is at the end: sums of 1/rate carry rounding.
        length = self.end_time - self._start - 1e-6
        while next_times and min(next_times) < length:
            slot = next_times.index(min(next_times))
            rate = self._rates[slot]
            yield Sample(rate, indices[slot], last.time, self.num_frames - 1, last.frame)
            indices[slot] += 1
            next_times[slot] += 1 / rate

    def _shown_seconds(self, seconds: float, gap: float) -> float:
        return shown_seconds(seconds, gap, self._frame_seconds)


def shown_seconds(seconds: float, gap: float, default: float) -> float:
    """How long a last frame stays: as its file says, else as the one before it, else ``default``.

    Some demuxers report one tick of the clock (VP9 in mp4): less than a tenth of a usual frame is no answer.
    """
    if seconds >= default / 10:
        return seconds
    return gap if gap > 0 else default
