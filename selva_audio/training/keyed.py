"""Random numbers as a function of names: what is drawn at step k depends on nothing that was drawn before.

A run that was resumed, that looks at its validation more often, or that splits its batch otherwise then draws
what it would have drawn anyhow.
"""

from typing import Protocol

import numpy as np
import torch

from ..adapters.layers import stable_seed


class Rng(Protocol):
    """Gives the generator of a stream: ``rng("noise", slot)``."""

    def __call__(self, *names: object) -> torch.Generator:
        """A fresh CPU generator, the same for the same names."""
        ...


def keyed(*key: object) -> torch.Generator:
    """A CPU generator that is a function of ``key``."""
    return torch.Generator("cpu").manual_seed(stable_seed(*key))


def keyed_numpy(*key: object) -> np.random.Generator:
    """Likewise of numpy, for distributions that torch has no generator for."""
    return np.random.Generator(np.random.Philox(stable_seed(*key)))


class ClipOrder:
    """Which clips a step uses: one seeded permutation of all after another.

    After any number of steps the counts of two clips differ by one at most. No clip is twice in one batch, as
    long as there are as many clips as the batch holds.

    Args:
        num_clips: how many there are.
        batch: clips of one update.
        seed: of the permutations.
    """

    def __init__(self, num_clips: int, batch: int, seed: int) -> None:
        self._num_clips = num_clips
        self._batch = batch
        self._seed = seed
        self._epoch = 0
        self._drawn: list[int] = []  # what the epochs up to now gave, from position ``_begin`` on
        self._begin = 0

    def batch(self, step: int) -> list[int]:
        """Indices of the clips of a step; a function of it, whichever was asked for before."""
        first = step * self._batch
        if first < self._begin:
            self._epoch, self._drawn, self._begin = 0, [], 0
        while self._begin + len(self._drawn) < first + self._batch:
            self._extend()
        keep = first - self._begin
        if keep > self._num_clips + self._batch:
            # Only what shares a batch with the next permutation has an influence on it.
            drop = keep // self._batch * self._batch
            self._drawn, self._begin = self._drawn[drop:], self._begin + drop
        place = first - self._begin
        return self._drawn[place : place + self._batch]

    def _extend(self) -> None:
        raw = torch.randperm(self._num_clips, generator=keyed(self._seed, "order", self._epoch)).tolist()
        self._epoch += 1
        started = (self._begin + len(self._drawn)) % self._batch
        taken = set(self._drawn[len(self._drawn) - started :]) if started else set()
        free = [index for index in raw if index not in taken]
        first = free[: self._batch - started]
        chosen = set(first)
        self._drawn += first + [index for index in raw if index not in chosen]
