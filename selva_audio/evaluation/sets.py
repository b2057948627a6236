"""How far two sets of sounds are apart: the kernel distance of their mels, and the spread of each set.

Letters: W windows of one sound, D numbers of a window, A and B windows of two sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .diversity import diversity
from .intervals import Interval, bounds, interval
from .sounds import Sound
from .spectra import DESCRIPTORS, IN_HERTZ, ltas_distance
from .timbre import mel_gram_distance

Array = NDArray[np.float64]

_SHUFFLES = 300


@dataclass(frozen=True, slots=True)
class KernelDistance:
    """Unbiased squared maximum mean discrepancy; around 0, also below, for sets of one kind.

    Attributes:
        value: the distance.
        low: lower 90 % bound, by bootstrap over the sounds of the first set.
        high: upper bound.
        null: bounds between which it lies in 90 % of the cases if both sets are of one kind.
    """

    value: float
    low: float
    high: float
    null: tuple[float, float]


def set_metrics(made: Sequence[Sound], real: Sequence[Sound]) -> dict[str, Interval]:
    """Distances of a set of sounds from a set of recordings; the sets need not be paired.

    Returns:
        ``ltas_distance``, ``mel_gram_distance``, and the distance of each descriptor, in octaves where it is
        in hertz and in dB else (``centroid_distance``, ...); with bounds by bootstrap over the sounds made.
    """
    spectra, grams = [each.spectrum for each in real], [each.gram for each in real]
    found = {
        "ltas_distance": interval(
            len(made), lambda chosen: ltas_distance([made[i].spectrum for i in chosen], spectra)
        ),
        "mel_gram_distance": interval(
            len(made), lambda chosen: mel_gram_distance([made[i].gram for i in chosen], grams)
        ),
    }
    for name in DESCRIPTORS:
        values, wanted = _values(made, name), _values(real, name)
        if len(values) and len(wanted):
            found[f"{name}_distance"] = _shift(values, float(wanted.mean()))
    return found


def kernel_distance(made: Sequence[Array], real: Sequence[Array]) -> KernelDistance | None:
    """Distance of sounds (W, D) each from the reference, with what chance alone gives.

    The kernel is Gaussian, as wide as the median distance within the reference. Windows of one sound are not
    compared with each other, because they are alike whatever the sets are. None for fewer than two sounds.

    Source: KAD (arXiv:2502.15602) without its factor of 1000; the null by exchanging sounds between the sets.
    """
    if min(len(made), len(real)) < 2:
        return None
    kernel = _kernel(np.concatenate([*made, *real]), np.concatenate(list(real)))
    owner = np.repeat(np.arange(len(made) + len(real)), [len(each) for each in (*made, *real)])
    apart = np.where(owner[:, None] == owner[None], 0.0, kernel)
    reference = (owner >= len(made)).astype(np.float64)

    def value(sounds: NDArray[np.int64]) -> float:
        counts = np.bincount(sounds, minlength=len(made) + len(real)).astype(np.float64)
        return _discrepancy(kernel, apart, owner, counts[owner], reference)

    random = np.random.default_rng(0)
    shuffled = []
    for _ in range(_SHUFFLES):
        first = np.zeros(len(made) + len(real))
        first[random.permutation(len(first))[: len(made)]] = 1
        shuffled.append(_discrepancy(kernel, apart, owner, first[owner], (1 - first)[owner]))
    found = interval(len(made), value)
    return KernelDistance(found.value, found.low, found.high, bounds(shuffled))


def spread(sounds: Sequence[Sound]) -> float | None:
    """Mean log-mel distance of all pairs of sounds, over the shortest one's length; None for a single one."""
    if len(sounds) < 2:
        return None
    length = min(len(each.waveform) for each in sounds)
    waves = np.stack([each.waveform[:length] for each in sounds])
    return diversity(torch.from_numpy(waves), sounds[0].scale.mel)


def _values(sounds: Sequence[Sound], name: str) -> Array:
    """A descriptor of each sound that has it, in octaves or dB."""
    values = np.array([each.metrics[name] for each in sounds if each.metrics.get(name) is not None])
    return np.log2(np.maximum(values, 1.0)) if name in IN_HERTZ else values


def _shift(values: Array, wanted: float) -> Interval:
    return interval(len(values), lambda chosen: abs(float(values[chosen].mean()) - wanted))


def _kernel(items: Array, reference: Array) -> Array:
    upper = np.triu_indices(len(reference), k=1)
    width = float(np.median(np.sqrt(_squared_distances(reference)[upper])))
    return np.asarray(np.exp(-_squared_distances(items) / (2 * max(width, 1e-12) ** 2)))


def _squared_distances(items: Array) -> Array:
    norms = np.square(items).sum(axis=1)
    return np.asarray(np.maximum(norms[:, None] + norms[None] - 2 * items @ items.T, 0))


def _discrepancy(kernel: Array, apart: Array, owner: NDArray[np.int64], first: Array, second: Array) -> float:
    """Of two sets by how often each window is in them; NaN where a set has the windows of one sound alone.

    ``apart`` is the kernel with zeros where both windows are of one sound.
    """
    terms = []
    for weights in (first, second):
        sums = np.bincount(owner, weights)
        pairs = float(weights.sum() ** 2 - np.square(sums).sum())
        terms.append(float(weights @ apart @ weights) / pairs if pairs else np.nan)
    across = float(first @ kernel @ second) / float(first.sum() * second.sum())
    return sum(terms) - 2 * across
