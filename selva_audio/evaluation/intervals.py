"""How sure a number is: bootstrap over clips.

Letters: K clips.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.9
DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with the bounds between which it lies in 90 % of the resampled sets of clips."""

    value: float
    low: float
    high: float


def mean_interval(values: ArrayLike) -> Interval:
    """Mean of (K,) with its bounds; deterministic."""
    numbers = np.asarray(values, dtype=np.float64)
    means = numbers[resamples(len(numbers))].mean(axis=1)
    return Interval(float(numbers.mean()), *bounds(means))


def interval(count: int, statistic: Callable[[NDArray[np.int64]], float]) -> Interval:
    """A number of a set of clips with its bounds.

    Args:
        count: K.
        statistic: gives the number of the clips whose indices (K,) it gets; some of them come repeatedly.
    """
    drawn = [statistic(indices) for indices in resamples(count)]
    return Interval(statistic(np.arange(count)), *bounds(drawn))


def resamples(count: int) -> NDArray[np.int64]:
    """(DRAWS, K) indices, drawn with replacement; the same at each call."""
    return np.random.default_rng(0).integers(0, count, (DRAWS, count))


def bounds(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Between which the middle 90 % of those ``values`` lie that are numbers; NaN where none is."""
    tail = (1 - LEVEL) / 2
    numbers = np.asarray(values, dtype=np.float64)
    low, high = np.quantile(numbers[np.isfinite(numbers)], [tail, 1 - tail])
    return float(low), float(high)
