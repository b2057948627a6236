"""How much the picture of a video changes, in one decode pass over thumbnails, and what that tells.

Letters: T video frames, L samples.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..media.transforms import squash
from ..media.video import stream_frames
from ..progress import ProgressFn, ignore_progress

Array = NDArray[np.float64]

_RATE, _SIZE = 25.0, 32
# Mean difference of neighbouring pictures, of 255: hand-held motion stays under it, most cuts go far over.
_LEAST_CHANGE = 25.0
# A cut stands out from what happens around it by this factor.
_ABOVE_USUAL = 4.0
_AROUND = 12
# Sound and picture are compared within this many frames of each other, if there are so many in all.
_REACH, _LEAST_FRAMES = 25, 75
# The change of motion is seen this many frames after it happened: median over 40 drawn scenes.
_SEEN_LATE = 1.5
# A lag counts that fits this well, and so much better than any other that is further than this from it.
_LEAST_FIT, _AHEAD, _NEIGHBOURS = 0.25, 1.5, 3
_LEAST_RISES, _RISE_SHARE = 3, 0.3
_FLOOR = 1e-7


@dataclass(frozen=True, slots=True)
class Motion:
    """What a pass over a video saw, at 25 pictures per second.

    Attributes:
        times: (T,) seconds.
        changes: (T,) mean difference to the picture before, of 255.
        duration: seconds of picture.
    """

    times: Array
    changes: Array
    duration: float


def see_motion(video: Path, *, on_progress: ProgressFn = ignore_progress) -> Motion:
    """One decode pass.

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
    return Motion(np.array(times), np.array(changes), stream.duration)


def find_cuts(motion: Motion) -> tuple[float, ...]:
    """Seconds of the hard cuts in a video.

    A fade is no hard cut, and a flash of one picture counts as two.
    """
    changes = motion.changes
    found = []
    for place in np.flatnonzero(changes > _LEAST_CHANGE).tolist():
        around = np.delete(changes[max(place - _AROUND, 0) : place + _AROUND + 1], min(place, _AROUND))
        if changes[place] > _ABOVE_USUAL * float(np.median(around)):
            found.append(float(motion.times[place]))
    return tuple(found)


def sound_offset(motion: Motion, wave: NDArray[np.float32], sample_rate: int) -> float | None:
    """Seconds by which the sound comes after the motion; below zero: before it.

    What moves changes its motion when it sounds: hits, claps, steps, barks. The lag of up to a second at
    which sudden changes of motion and sudden rises of the level fit best is the offset. None where nothing is
    sudden, or no lag fits clearly better than all others, as in steady sounds and in regular ones.

    Args:
        motion: of the picture.
        wave: (L,).
        sample_rate: hertz.
    """
    count = min(len(motion.changes), int(len(wave) * _RATE / sample_rate))
    if count < _LEAST_FRAMES:
        return None
    # A cut is a change of everything at once, and says nothing of what moves.
    changes = np.minimum(motion.changes[:count], _LEAST_CHANGE)
    turns = np.abs(np.diff(changes, prepend=changes[:1]))
    rises = _rises(wave, sample_rate, count)
    if (rises > _RISE_SHARE * rises.max()).sum() < _LEAST_RISES or not turns.any():
        return None
    fits = np.array([_fit(turns, rises, lag) for lag in range(-_REACH, _REACH + 1)])
    best = int(fits.argmax())
    others = fits[np.abs(np.arange(len(fits)) - best) > _NEIGHBOURS]
    if fits[best] < _LEAST_FIT or fits[best] < _AHEAD * others.max():
        return None
    return (best - _REACH + _SEEN_LATE) / _RATE


def _rises(wave: NDArray[np.float32], sample_rate: int, count: int) -> Array:
    """(count,) by how many decibels the level rises from picture to picture; 0 where it falls."""
    edges = np.round(np.arange(count) * sample_rate / _RATE).astype(int)
    power = np.add.reduceat(np.square(wave, dtype=np.float64), edges) * _RATE / sample_rate
    levels = 10 * np.log10(power + _FLOOR)
    return np.asarray(np.maximum(np.diff(levels, prepend=levels[:1]), 0))


def _fit(turns: Array, rises: Array, lag: int) -> float:
    """Correlation of the two where the sound is ``lag`` pictures late."""
    count = len(turns)
    first, second = turns[max(0, -lag) : count - max(0, lag)], rises[max(0, lag) : count - max(0, -lag)]
    spread = float(first.std() * second.std())
    if spread == 0:
        return 0.0
    return float(((first - first.mean()) * (second - second.mean())).mean()) / spread
