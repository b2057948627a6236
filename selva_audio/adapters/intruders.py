"""Intruder dimensions: leading directions of a changed weight that none of the base's is like.

The count means nothing by itself: a random change of the same size has intruders too, and directions of equal
strength mix without anything being new. Both controls stand beside it.

Letters: R rank of a change, k leading directions that are looked at.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import cast

import torch
from torch import Tensor

from ..models.generator import Generator
from ..progress import Progress, ProgressFn, ignore_progress
from .algebra import spectrum
from .inject import check_fits
from .layers import stable_seed
from .record import Adapter, Delta, dense
from .residual import resolved
from .targets import adaptable_layers

THRESHOLDS = (0.3, 0.5, 0.6, 0.8)
NUM_DIRECTIONS = 10
# Base directions whose strength is this close to one's own can mix into it.
_CLUSTER = 0.1
# Of a survey: a minute and a half on one core. That is every layer of the demo model, and qkv of the small
# and medium ones.
MOST_WORK = 5e10
_QKV = ".attn.qkv"
_PARTS = ("q", "k", "v")


@dataclass(frozen=True, slots=True)
class Side:
    """Left or right singular vectors of the changed weight against those of the base.

    Attributes:
        matches: for each of the leading directions, its largest |cosine| with one of the base's.
        clustered: the same, or the length of its projection on all base directions of nearly its strength,
            whichever is larger: what only mixed is not new.
        counts: threshold -> matches under it.
        clustered_counts: threshold -> clustered matches under it.
        control: threshold -> matches under it for a random change of the same rank and norm.
    """

    matches: tuple[float, ...]
    clustered: tuple[float, ...]
    counts: dict[float, int]
    clustered_counts: dict[float, int]
    control: dict[float, int]


@dataclass(frozen=True, slots=True)
class Intruders:
    """Intruder dimensions of one layer, or of a part of it: left vectors (outputs), then the rest.

    Attributes:
        matches: as in ``Side``, of left vectors, of which the literature speaks.
        clustered: likewise.
        counts: likewise.
        clustered_counts: likewise.
        control: likewise.
        right: the same for right vectors (inputs).
        singular_values: of the changed weight, as many as there are matches; an intruder's position is its
            place here.
        energy: threshold -> share of the changed weight's energy in left intruders.
        ratio: threshold -> left count over that of the control; None where the control has none.
        parts: "q", "k", "v" -> the same for these rows, in a layer that makes all three.
    """

    matches: tuple[float, ...]
    clustered: tuple[float, ...]
    counts: dict[float, int]
    clustered_counts: dict[float, int]
    control: dict[float, int]
    right: Side
    singular_values: tuple[float, ...]
    energy: dict[float, float]
    ratio: dict[float, float | None]
    parts: "dict[str, Intruders]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Survey:
    """Intruder dimensions of a whole adapter: those of its layers, added up.

    Attributes:
        layers: how many were looked at.
        of: how many it has.
        directions: how many leading directions that makes.
        counts: threshold -> left intruders.
        clustered_counts: threshold -> those that are no mixture of directions of equal strength.
        control: threshold -> left intruders of random changes of the same ranks and norms.
        ratio: threshold -> the first over the last; None where that is 0.
    """

    layers: int
    of: int
    directions: int
    counts: dict[float, int]
    clustered_counts: dict[float, int]
    control: dict[float, int]
    ratio: dict[float, float | None]


@dataclass(frozen=True, slots=True)
class Reduction:
    """What a mitigation did to one layer: intruders found, and the share of the change that was cut off."""

    path: str
    intruders: int
    relative_error: float


def find_intruders(
    weight: Tensor,
    delta: Delta,
    *,
    path: str = "",
    count: int = NUM_DIRECTIONS,
    thresholds: Sequence[float] = THRESHOLDS,
    seed: int = 0,
) -> Intruders:
    """Intruder dimensions of one layer, with controls.

    Args:
        weight: (out, in) or (out, in, k) of the base.
        delta: its change.
        path: name of the layer; one that ends in ``attn.qkv`` is looked at as q, k and v too.
        count: leading directions that are looked at.
        thresholds: cosines under which a direction counts as new.
        seed: of the random change.

    Source: arXiv:2410.21228, section 3; the controls are ours.
    """
    base = weight.detach().double().cpu().flatten(1)
    change = dense(delta, weight).flatten(1)
    rank = max(len(spectrum(delta)[1]), 1) if delta.magnitude is None else delta.rank
    found = _find(base, change, rank, count, thresholds, seed)
    if not path.endswith(_QKV):
        return found
    # Rows of one head and channel lie together: q, k, v, q, k, v, ...
    parts = {
        name: _find(base[row::3], change[row::3], rank, count, thresholds, seed)
        for row, name in enumerate(_PARTS)
    }
    return replace(found, parts=parts)


def survey_intruders(
    generator: Generator,
    adapter: Adapter,
    *,
    most_work: float = MOST_WORK,
    on_progress: ProgressFn = ignore_progress,
) -> Survey:
    """Intruder dimensions of an adapter in one count, with its control.

    Args:
        generator: the base.
        adapter: any.
        most_work: largest sum of rows x columns x the smaller of both; layers beyond it are left out, evenly.
        on_progress: called for every layer; cancels by raising.

    Raises:
        CheckpointError: the adapter does not fit the generator.
    """
    check_fits(generator, adapter)
    layers = adaptable_layers(generator)
    deltas = resolved(adapter, generator).deltas
    weights = {path: cast(Tensor, layers[path].weight) for path in deltas}
    chosen = _affordable({path: weight.flatten(1).shape for path, weight in weights.items()}, most_work)
    found = []
    for place, path in enumerate(chosen):
        on_progress(Progress("intruders", place, len(chosen)))
        found.append(find_intruders(weights[path], deltas[path]))
    counts, clustered, control = (
        {limit: sum(getattr(each, name)[limit] for each in found) for limit in THRESHOLDS}
        for name in ("counts", "clustered_counts", "control")
    )
    ratio = {limit: counts[limit] / control[limit] if control[limit] else None for limit in THRESHOLDS}
    directions = sum(len(each.matches) for each in found)
    return Survey(len(found), len(deltas), directions, counts, clustered, control, ratio)


def random_change(change: Tensor, rank: int, seed: int) -> Tensor:
    """A change of the same norm and of this rank, in random directions: (out, in k) float64."""
    random = torch.Generator("cpu").manual_seed(stable_seed(seed, *change.shape))
    u, v = (
        torch.linalg.qr(torch.randn(size, min(rank, *change.shape), generator=random, dtype=torch.float64))[0]
        for size in change.shape
    )
    result: Tensor = float(change.norm()) / math.sqrt(u.shape[1]) * u @ v.T
    return result


def reduce_intruders(
    generator: Generator,
    adapter: Adapter,
    factor: float,
    *,
    threshold: float = 0.5,
    count: int = NUM_DIRECTIONS,
) -> tuple[Adapter, list[Reduction]]:
    """An adapter whose intruders have ``factor`` times their strength in the changed weights.

    Args:
        generator: the base.
        adapter: any; DoRA becomes plain, at its rank.
        factor: 0 takes intruders out, 1 leaves them.
        threshold: left cosine under which a leading direction is an intruder.
        count: leading directions that are looked at.

    Returns:
        The adapter, plain and of the same ranks, and what was done to each layer.

    Raises:
        CheckpointError: the adapter does not fit the generator.

    Source: arXiv:2410.21228, section 5: W + (factor - 1) times the intruders' part of W. PEFT calls the same
    number ``mitigation_lambda``.
    """
    check_fits(generator, adapter)
    layers = adaptable_layers(generator)
    deltas: dict[str, Delta] = {}
    done = []
    for path, delta in resolved(adapter, generator).deltas.items():
        weight = layers[path].weight
        assert isinstance(weight, Tensor)
        base, change = weight.detach().double().cpu().flatten(1), dense(delta, weight).flatten(1)
        before, after = (_svd(each) for each in (base, base + change))
        matches = _matches(before[0], after[0], count)
        new = [place for place, match in enumerate(matches.tolist()) if match < threshold]
        u, sigma, vh = after
        change = change + (factor - 1) * (u[:, new] * sigma[new]) @ vh[new]
        deltas[path], lost = _factored(change, delta)
        done.append(Reduction(path, len(new), lost))
    dropped = ("rank", "alpha", "rank_pattern", "alpha_pattern", "scaling", "use_rslora", "use_dora")
    meta = {key: value for key, value in adapter.meta.items() if key not in dropped}
    return replace(adapter, deltas=deltas, meta=meta, residuals={}, biases={}), done


def _affordable(shapes: Mapping[str, Sequence[int]], most_work: float) -> list[str]:
    """Layers spread evenly over all of them, as many as the work allows; one at least."""
    work = [rows * columns * min(rows, columns) for rows, columns in shapes.values()]
    paths = list(shapes)
    for count in range(len(paths), 1, -1):
        places = [round(number * (len(paths) - 1) / (count - 1)) for number in range(count)]
        if sum(work[place] for place in places) <= most_work:
            return [paths[place] for place in places]
    return paths[:1]


def _find(
    base: Tensor, change: Tensor, rank: int, count: int, thresholds: Sequence[float], seed: int
) -> Intruders:
    before, after = _svd(base), _svd(base + change)
    control = _svd(base + random_change(change, rank, seed))
    left, right = (_side(before, after, control, count, thresholds, side=side) for side in (0, 2))
    sigma = after[1][:count].tolist()
    total = float(after[1].square().sum())
    energy: dict[float, float] = {}
    ratio: dict[float, float | None] = {}
    for limit in thresholds:
        inside = sum(value**2 for value, match in zip(sigma, left.matches, strict=True) if match < limit)
        energy[limit] = inside / total if total else 0.0
        ratio[limit] = left.counts[limit] / left.control[limit] if left.control[limit] else None
    return Intruders(**asdict(left), right=right, singular_values=tuple(sigma), energy=energy, ratio=ratio)


Svd = tuple[Tensor, Tensor, Tensor]


def _svd(matrix: Tensor) -> Svd:
    """(out, R), (R,), (R, in k)."""
    u, sigma, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u, sigma, vh


def _side(
    before: Svd, after: Svd, control: Svd, count: int, thresholds: Sequence[float], *, side: int
) -> Side:
    def vectors(svd: Svd) -> Tensor:
        return svd[side] if side == 0 else svd[side].T

    matches = _matches(vectors(before), vectors(after), count)
    near = (before[1][None] - after[1][:count, None]).abs() <= _CLUSTER * after[1][:count, None]
    cosines = vectors(after)[:, :count].T @ vectors(before)
    clustered = torch.maximum(matches, (cosines.square() * near).sum(dim=1).sqrt().clamp(max=1.0))
    return Side(
        tuple(matches.tolist()),
        tuple(clustered.tolist()),
        _counts(matches, thresholds),
        _counts(clustered, thresholds),
        _counts(_matches(vectors(before), vectors(control), count), thresholds),
    )


def _matches(before: Tensor, after: Tensor, count: int) -> Tensor:
    """(k,) largest |cosine| of each leading column of ``after`` with a column of ``before``."""
    return (after[:, :count].T @ before).abs().amax(dim=1).clamp(max=1.0)


def _counts(matches: Tensor, thresholds: Sequence[float]) -> dict[float, int]:
    return {limit: int((matches < limit).sum()) for limit in thresholds}


def _factored(change: Tensor, delta: Delta) -> tuple[Delta, float]:
    """Best plain change of the rank of ``delta``, and what it loses."""
    u, sigma, vh = _svd(change)
    rank = min(delta.rank * (1 if delta.a0 is None else 2), len(sigma))
    norm = float(sigma.norm())
    lost = float(sigma[rank:].norm()) / norm if norm else 0.0
    root = sigma[:rank].sqrt()
    a = (root[:, None] * vh[:rank]).reshape(rank, *delta.a.shape[1:])
    return Delta(a.float().contiguous(), (u[:, :rank] * root).float().contiguous(), 1.0), lost
