"""Which stretches of a long video become clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..media.transforms import squash
from ..media.video import stream_frames
from ..progress import ProgressFn, ignore_progress

_RATE, _SIZE = 25.0, 32
# Mean difference of neighbouring pictures, of 255: hand-held motion stays under it, most cuts go far over.
_LEAST_CHANGE = 25.0
# A cut stands out from what happens around it by this factor.
_ABOVE_USUAL = 4.0
_AROUND = 12
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a video, in seconds."""

    start: float
    duration: float


def plan_windows(
    duration: float,
    *,
    window: float,
    shortest: float,
    cuts: Sequence[float] = (),
    onsets: Sequence[float] | None = None,
) -> list[Window]:
    """Stretches of a video, in order, that do not overlap and reach over no cut.

    Args:
        duration: seconds of the video; up to ``window`` it is taken whole, cuts and all.
        window: seconds of a stretch at most.
        shortest: what is left over is dropped under this many seconds.
        cuts: seconds at which the picture changes altogether.
        onsets: seconds of sudden sounds: each window is centred on the first one that no earlier window
            holds, as far as the stretch between two cuts allows; None = one after another.
    """
    if duration <= window + _TOLERANCE:
        return [Window(0.0, duration)]
    inner = sorted(cut for cut in cuts if 0 < cut < duration)
    planned = []
    for begin, end in zip([0.0, *inner], [*inner, duration], strict=True):
        if onsets is None:
            starts = np.arange(begin, end - _TOLERANCE, window).tolist()
        else:
            starts = _centred(begin, end, window, [time for time in onsets if begin <= time < end])
        planned += [Window(round(start, 6), round(min(window, end - start), 6)) for start in starts]
    return [each for each in planned if each.duration >= shortest - _TOLERANCE]


def find_cuts(video: Path, *, on_progress: ProgressFn = ignore_progress) -> tuple[tuple[float, ...], float]:
    """Seconds of the hard cuts in a video, and its length; one decode pass over thumbnails.

    A fade is no hard cut, and a flash of one picture counts as two.

    Raises:
        MediaError: not a video.
    """
    stream = stream_frames(video, {_RATE: partial(squash, size=_SIZE)}, on_progress=on_progress)
    times, changes = [], []
    last = None
    for sample in stream:
        picture = sample.frame.astype(np.int16)
        changes.append(0.0 if last is None else float(np.abs(picture - last).mean()))
        times.append(sample.time)
        last = picture
    return tuple(times[place] for place in _peaks(np.array(changes))), stream.duration


def _peaks(changes: np.ndarray) -> list[int]:
    found = []
    for place in np.flatnonzero(changes > _LEAST_CHANGE).tolist():
        around = np.delete(changes[max(place - _AROUND, 0) : place + _AROUND + 1], min(place, _AROUND))
        if changes[place] > _ABOVE_USUAL * float(np.median(around)):
            found.append(place)
    return found


def _centred(begin: float, end: float, window: float, onsets: Sequence[float]) -> list[float]:
    starts: list[float] = []
    free = begin
    for onset in onsets:
        if onset < free:
            continue
        start = max(min(onset - window / 2, end - window), free)
        starts.append(start)
        free = start + window
    return starts
