"""How objects move: hops on a floor, shuttles between two bars, turning at a changing speed.

Heights are in units of the frame side, above the place where the object rests. Times are seconds.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MIN_IMPACT_RATE = 0.75  # impacts per second that every moving object has at least
# Encoders see a window around each moment; an impact nearer to an end of the clip is out of their sight.
QUIET_EDGE = 0.2
_HOP_PERIODS = (0.40, 0.95)
_SHUTTLE_PERIODS = (0.40, 0.80)
_JITTER = 0.25
_REST_SHARE = 0.15
_RESTS = (0.3, 0.8)
_HIGHEST_HOP = 0.52
_TRAVELS = (0.28, 0.42)
TOP_SPEED = 4.0  # turns per second
_SPEED_HOLDS = (0.5, 1.4)
_STOP_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Moves:
    """Moves one after another; each ends in an impact. Between two moves the object rests.

    Attributes:
        kind: "hop" or "shuttle".
        start: (K,) seconds at which each move begins.
        end: (K,) seconds of its impact.
        origin: (K,) height where it begins.
        target: (K,) height where it ends.
        arc: (K,) height of the parabola above the straight line.
        loudness: (K,) of the impact, 0 to 1; it follows the speed.
    """

    kind: Literal["hop", "shuttle"]
    start: Array
    end: Array
    origin: Array
    target: Array
    arc: Array
    loudness: Array

    def heights(self, times: Array) -> Array:
        """Height at each of ``times``."""
        index = np.clip(np.searchsorted(self.start, times, side="right") - 1, 0, None)
        share = np.clip((times - self.start[index]) / (self.end - self.start)[index], 0.0, 1.0)
        straight = self.origin[index] + (self.target - self.origin)[index] * share
        return np.asarray(straight + 4 * self.arc[index] * share * (1 - share))


@dataclass(frozen=True, slots=True)
class Turning:
    """Speed of a wheel, linear between knots.

    Attributes:
        times: (K,) seconds of the knots, from 0 to beyond the end.
        speeds: (K,) turns per second.
    """

    times: Array
    speeds: Array

    def speed(self, times: Array) -> Array:
        """Turns per second at each of ``times``."""
        return np.interp(times, self.times, self.speeds)

    def angle(self, times: Array) -> Array:
        """Turns since time 0: the exact integral of the speed."""
        lengths = np.diff(self.times)
        turned = np.concatenate([[0.0], np.cumsum(lengths * (self.speeds[1:] + self.speeds[:-1]) / 2)])
        index = np.clip(np.searchsorted(self.times, times, side="right") - 1, 0, len(lengths) - 1)
        since = times - self.times[index]
        slope = np.diff(self.speeds)[index] / lengths[index]
        return np.asarray(turned[index] + self.speeds[index] * since + slope * since**2 / 2)


def hops(rng: np.random.Generator, duration: float) -> Moves:
    """Free flights from floor to floor; a longer hop is higher and lands louder."""
    start, end = _schedule(rng, duration, _HOP_PERIODS)
    strength = (end - start) / (_HOP_PERIODS[1] * (1 + _JITTER))
    flat = np.zeros_like(start)
    return Moves("hop", start, end, flat, flat, _HIGHEST_HOP * strength**2, 0.25 + 0.75 * strength)


def shuttles(rng: np.random.Generator, duration: float) -> Moves:
    """Straight runs between two bars; a faster run hits louder."""
    start, end = _schedule(rng, duration, _SHUTTLE_PERIODS)
    travel = rng.uniform(*_TRAVELS)
    is_up = (np.arange(len(start) + 1) + rng.integers(2)) % 2 == 1
    heights = np.where(is_up, travel, 0.0)
    fastest = _SHUTTLE_PERIODS[0] * (1 - _JITTER)
    loudness = np.clip(0.25 + 0.75 * (fastest / (end - start)), 0.0, 1.0)
    return Moves("shuttle", start, end, heights[:-1], heights[1:], np.zeros_like(start), loudness)


def turning(rng: np.random.Generator, duration: float) -> Turning:
    """A speed that wanders between standstill and ``TOP_SPEED``."""
    times, now = [0.0], 0.0
    while now <= duration:
        now += rng.uniform(*_SPEED_HOLDS)
        times.append(now)
    stopped = rng.random(len(times)) < _STOP_SHARE
    speeds = np.where(stopped, 0.0, rng.uniform(0.3, TOP_SPEED, len(times)))
    return Turning(np.array(times), speeds)


def _schedule(rng: np.random.Generator, duration: float, periods: tuple[float, float]) -> tuple[Array, Array]:
    """Starts and ends of moves with at least ``MIN_IMPACT_RATE`` impacts per second."""
    needed = max(1, int(MIN_IMPACT_RATE * duration))
    while True:
        start, end = _draw_schedule(rng, duration, periods)
        if len(end) >= needed:
            return start, end
        # A slow draw with many rests; a quicker one is drawn in its place.
        periods = (periods[0], max(periods[0], periods[1] * 0.95))


def _draw_schedule(
    rng: np.random.Generator, duration: float, periods: tuple[float, float]
) -> tuple[Array, Array]:
    period = rng.uniform(*periods)
    first = rng.uniform(QUIET_EDGE, min(QUIET_EDGE + period, duration - QUIET_EDGE))
    start, end = [first - period], [first]
    while True:
        rest = rng.uniform(*_RESTS) if rng.random() < _REST_SHARE else 0.0
        begin = end[-1] + rest
        impact = begin + period * rng.uniform(1 - _JITTER, 1 + _JITTER)
        if impact > duration - QUIET_EDGE:
            return np.array(start), np.array(end)
        start.append(begin)
        end.append(impact)
