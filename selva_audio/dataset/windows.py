"""Which stretches of a long video become clips."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
