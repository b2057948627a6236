"""Spectral Surgery: a finished adapter keeps its directions and gets other singular values.

It moves magnitude from directions that the loss does not feel to those it does. It needs no training, and it
may help or harm: ``operate`` tries it beside random edits and adopts it only where held-out losses say so.
Writing files is left to the trainer.

Letters: R singular values of one layer.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..adapters import Adapter, Delta, adapt, resolved
from ..adapters.algebra import spectrum
from ..adapters.layers import LowRank, stable_seed
from ..errors import InputError, SelVAError
from ..models.generator import Generator
from ..progress import Progress, ProgressFn, ignore_progress
from .validation import ValidationLosses, paired_difference

Policy = Literal["identity", "abs_select", "smooth_abs", "signed", "random"]
Energy = Literal["l1", "l2", "none"]
Losses = Callable[[Generator], Iterable[Tensor]]
Validate = Callable[[Generator], Tensor | ValidationLosses]

POLICIES: tuple[Policy, ...] = ("abs_select", "signed")
CONTROLS = 3
# With fewer clips, all of them better happens by chance more often than 1 time in 10.
LEAST_CLIPS = 4
_SHARE = 0.2
_AMPLIFY, _SUPPRESS = 1.25, 0.8
_TEMPERATURE = 0.35
_ETA_SUPPRESS, _ETA_ENHANCE = 2.0, 0.2
# What an edit can fail of without being wrong; a cancel is none of them.
_EXPECTED = (SelVAError, torch.linalg.LinAlgError, torch.OutOfMemoryError)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Trial:
    """One edit on the validation clips.

    Attributes:
        policy: how it was made; a number follows the random ones.
        loss: mean validation loss.
        difference: mean of its losses minus those of the unedited adapter, clip by clip; below 0 is better.
        low: lower 90 % bound of the difference, by bootstrap over clips.
        high: upper bound.
    """

    policy: str
    loss: float
    difference: float = 0.0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class SurgeryResult:
    """What an operation came to.

    Attributes:
        status: "adopted", "kept" (the unedited adapter is as good or better), or "failed".
        reason: one sentence.
        original: the adapter as it was.
        edited: the best edit, adopted or not; None where the operation failed.
        trials: the unedited adapter first, then the edits, then the random ones.
    """

    status: Literal["adopted", "kept", "failed"]
    reason: str
    original: Adapter
    edited: Adapter | None = None
    trials: tuple[Trial, ...] = field(default=())

    @property
    def adapter(self) -> Adapter:
        """The adapter to use."""
        return self.edited if self.status == "adopted" and self.edited is not None else self.original

    def as_json(self) -> dict[str, Any]:
        """Status, reason and table, for a summary or the meta of a file."""
        return {
            "status": self.status,
            "reason": self.reason,
            "trials": [asdict(trial) for trial in self.trials],
        }


def operate(
    generator: Generator,
    adapter: Adapter,
    losses: Losses,
    validate: Validate,
    *,
    policies: Sequence[Policy] = POLICIES,
    energy: Energy = "l1",
    seed: int = 0,
    on_progress: ProgressFn = ignore_progress,
) -> SurgeryResult:
    """Try edits beside three random ones, and adopt the best edit where it wins on validation.

    Args:
        generator: the base, without this adapter; stays as it is.
        adapter: as trained; stays as it is. DoRA has no edit, which the result tells.
        losses: gives calibration losses of a generator, one scalar per batch, of training clips with fixed
            noise and t and without dropout. Their gradients must reach the generator's parameters.
        validate: gives losses (clips, t, noise) of a generator on clips that ``losses`` does not use, the
            same noise for each generator.
        policies: the edits that are tried; see ``edit``.
        energy: what stays the same in each layer: the sum of the singular values, that of their squares, or
            nothing.
        seed: of the random edits, which are shown and never adopted.
        on_progress: progress and cancel.

    Returns:
        Both adapters with the table. What goes wrong with the numbers is told in it, not raised.

    Source: arXiv:2603.03995; the gate and its controls are ours (FINETUNING 4).
    """
    edits: dict[str, Adapter] = {}
    total = len(policies) + CONTROLS + 1
    try:
        felt = sensitivities(generator, adapter, losses, on_progress=on_progress)
        for policy in policies:
            edits[policy] = edit(generator, adapter, felt, policy, energy=energy)
        for number in range(1, CONTROLS + 1):
            chance = stable_seed(seed, number)
            edits[f"random {number}"] = edit(generator, adapter, felt, "random", energy=energy, seed=chance)
        on_progress(Progress("surgery", 0, total))
        before = _validated(generator, adapter, validate)
        trials = [Trial("none", float(before.mean()))]
        for number, (name, edited) in enumerate(edits.items(), 1):
            on_progress(Progress("surgery", number, total))
            after = _validated(generator, edited, validate)
            trials.append(Trial(name, float(after.mean()), *paired_difference(after, before)))
    except _EXPECTED as error:
        # A training that is done is worth more than its edit.
        return SurgeryResult("failed", str(error), adapter)
    on_progress(Progress("surgery", total, total))
    best = min(trials[1 : len(policies) + 1], key=lambda trial: trial.difference)
    is_better, reason = _verdict(best, len(before))
    edited = edits[best.policy]
    edited = replace(edited, meta={**edited.meta, "surgery": asdict(best)})
    return SurgeryResult("adopted" if is_better else "kept", reason, adapter, edited, tuple(trials))


def sensitivities(
    generator: Generator, adapter: Adapter, losses: Losses, *, on_progress: ProgressFn = ignore_progress
) -> dict[str, Tensor]:
    """How the calibration loss changes with each singular value of each layer: path -> (R,) float64, signed.

    Args:
        generator: the base, without this adapter.
        adapter: plain or PiSSA.
        losses: see ``operate``; their gradients are added up over all batches, with their signs.
        on_progress: called before each batch.

    Raises:
        InputError: a DoRA adapter, no calibration batch, or gradients that are not finite.
    """
    adapter = _editable(generator, adapter)
    vectors = {path: spectrum(delta) for path, delta in adapter.deltas.items()}
    # The change as B = U diag(sigma), A = V^T: the gradient of sigma is that of B along the columns of U.
    changes = {
        path: Delta(_rows(vh, adapter.deltas[path]), (u * sigma).float(), 1.0)
        for path, (u, sigma, vh) in vectors.items()
        if len(sigma)
    }
    probe = adapt(generator, Adapter(changes))
    layers = {module.path: module for module in probe.modules() if isinstance(module, LowRank)}
    mine = {path: layers[path].lora_B.requires_grad_(True) for path in changes}
    count = 0
    with torch.enable_grad():
        for count, loss in enumerate(losses(probe), 1):
            on_progress(Progress("calibration", count, 0))
            loss.backward()  # type: ignore[no-untyped-call]
    if not count:
        raise InputError("Surgery needs calibration losses, and there is none. Give it training clips.")
    felt = {}
    for path, (u, sigma, _) in vectors.items():
        gradient = mine[path].grad if path in mine else None
        g = torch.zeros_like(sigma) if gradient is None else (gradient.double().cpu() * u).sum(dim=0)
        if not bool(g.isfinite().all()):
            raise InputError(f"The calibration loss has no finite gradient in {path}. Use float32.")
        felt[path] = g
    return felt


def edit(
    generator: Generator,
    adapter: Adapter,
    sensitivity: Mapping[str, Tensor],
    policy: Policy = "abs_select",
    *,
    energy: Energy = "l1",
    seed: int = 0,
) -> Adapter:
    """The adapter with the same directions and other singular values.

    Args:
        generator: the base; only what a file of the residual kind lacks is taken from it.
        adapter: plain or PiSSA; a plain one keeps ranks and scales, an offset gives twice the rank at most.
        sensitivity: of ``sensitivities``.
        policy: how values follow from it; "identity" changes nothing, "random" takes as many values as
            "abs_select", but any.
        energy: see ``operate``.
        seed: of "random".

    Raises:
        InputError: a DoRA adapter.
    """
    adapter = _editable(generator, adapter)
    deltas = {}
    for path, delta in adapter.deltas.items():
        u, sigma, vh = spectrum(delta)
        gates = _gates(sensitivity[path], policy, stable_seed(seed, path)) if len(sigma) else sigma
        deltas[path] = _from_values(delta, u, _kept_energy(sigma, (sigma * gates).clamp(min=0), energy), vh)
    if all(delta.is_plain for delta in adapter.deltas.values()):
        return replace(adapter, deltas=deltas)
    dropped = ("rank", "alpha", "rank_pattern", "alpha_pattern")
    return replace(adapter, deltas=deltas, meta={k: v for k, v in adapter.meta.items() if k not in dropped})


def _gates(g: Tensor, policy: Policy, seed: int) -> Tensor:
    """(R,) factors on the singular values."""
    size = g.abs()
    felt = size / size.mean() if bool(size.any()) else torch.ones_like(size)
    if policy == "identity" or not bool(size.any()):
        return torch.ones_like(g)
    if policy == "signed":
        eta = torch.where(g > 0, _ETA_SUPPRESS, _ETA_ENHANCE)
        return torch.exp(-eta * g.sign() * felt)
    if policy == "smooth_abs":
        low, middle, high = (float(felt.quantile(share)) for share in (_SHARE, 0.5, 1 - _SHARE))
        if high <= low:
            return torch.ones_like(g)
        width, share = _TEMPERATURE * (high - low), (1 - _SUPPRESS) / (_AMPLIFY - _SUPPRESS)
        centre = middle - width * math.log(share / (1 - share))  # the median stays as it is
        return _SUPPRESS + (_AMPLIFY - _SUPPRESS) * torch.sigmoid((felt - centre) / width)
    if policy == "random":
        order = torch.randperm(len(g), generator=torch.Generator("cpu").manual_seed(seed))
    else:
        order = felt.argsort(descending=True, stable=True)
    top, bottom = max(1, round(_SHARE * len(g))), round(_SHARE * len(g))
    gates = torch.ones_like(g)
    gates[order[:top]] = _AMPLIFY
    gates[order[len(g) - bottom :]] = _SUPPRESS
    return gates


def _kept_energy(before: Tensor, after: Tensor, energy: Energy) -> Tensor:
    if energy == "none" or not len(before) or not bool(after.any()):
        return after
    order = 1 if energy == "l1" else 2
    kept: Tensor = after * (before.norm(p=order) / after.norm(p=order))
    return kept


def _from_values(delta: Delta, u: Tensor, sigma: Tensor, vh: Tensor) -> Delta:
    """Balanced factors at the scale of ``delta``; a plain change keeps its rank, filled with zeros."""
    rank = delta.rank if delta.is_plain else max(len(sigma), 1)
    root = (sigma / delta.scale).sqrt()
    a = torch.zeros(rank, vh.shape[1], dtype=vh.dtype)
    b = torch.zeros(u.shape[0], rank, dtype=u.dtype)
    a[: len(sigma)] = root[:, None] * vh
    b[:, : len(sigma)] = u * root
    return Delta(_rows(a, delta), b.float(), delta.scale)


def _rows(a: Tensor, delta: Delta) -> Tensor:
    """(r, in k) as float32 in the shape of the layer's own A."""
    return a.reshape(len(a), *delta.a.shape[1:]).float().contiguous()


def _editable(generator: Generator, adapter: Adapter) -> Adapter:
    if any(delta.magnitude is not None for delta in adapter.deltas.values()):
        raise InputError("A DoRA adapter has no singular values of its own, so that surgery has no edit.")
    return resolved(adapter, generator)


def _validated(generator: Generator, adapter: Adapter, validate: Validate) -> Tensor:
    found = validate(adapt(generator, adapter))
    losses = (found.losses if isinstance(found, ValidationLosses) else found).detach().double().cpu()
    if not bool(losses.isfinite().all()):
        raise InputError("A validation loss of the operated adapter is not finite, so it was not used.")
    return losses


def _verdict(best: Trial, num_clips: int) -> tuple[bool, str]:
    told = f"{best.policy} changes the validation loss by {best.difference:+.3g}"
    bounds = f"90 % bounds {best.low:+.3g} to {best.high:+.3g}"
    if num_clips < LEAST_CLIPS:
        return False, f"{told} on {num_clips} clips; {LEAST_CLIPS} are needed to tell that from chance."
    if best.high < 0:
        return True, f"{told} ({bounds}), which is better than no edit."
    return False, f"{told} ({bounds}), which is not surely better than no edit."
