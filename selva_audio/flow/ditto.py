"""Optimising the noise that a sound starts from, through the sampler (DITTO); weights stay as they are.

``x0`` is noise at t = 0. What is wanted of the sound comes as functions: this file knows neither mels nor
files. Letters: N latent tokens, C channels.

Source: DITTO (arXiv:2401.12179); the surrogate is DITTO-2's (arXiv:2405.20289), less its distillation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..errors import GenerationError
from ..options.ditto import DittoOptions
from ..progress import Cancelled, Progress, ProgressFn, ignore_progress
from .solvers import Velocity, sample_euler

_BETAS = (0.9, 0.99)
# Under it a sound has the style already, and a gradient of zero is no fault.
_NO_LOSS = 1e-9


@dataclass(frozen=True, slots=True)
class Iterate:
    """One iteration.

    Attributes:
        step: from 0, the noise that it began with.
        loss: style loss of the sound that the gradient was taken of; None for the last noise.
        true_loss: that of the real sampler, where it was looked at.
        norm: |x0|^2 / n; 1 for noise.
    """

    step: int
    loss: float | None
    true_loss: float | None
    norm: float


@dataclass(frozen=True, slots=True, eq=False)
class OptimisedNoise:
    """What came of it.

    Attributes:
        noise: (N, C) with the least true loss.
        step: iteration that it is of; 0 is the noise it began with.
        before: true loss of the noise it began with.
        after: true loss of ``noise``.
        norm: |noise|^2 / n.
        kurtosis: largest excess kurtosis of a channel, 0 for noise.
        history: all iterations.
        status: "done", "patience" or "cancelled".
    """

    noise: Tensor
    step: int
    before: float
    after: float
    norm: float
    kurtosis: float
    history: tuple[Iterate, ...]
    status: str


def solve_with_gradient(velocity: Velocity, x0: Tensor, steps: int, options: DittoOptions) -> Tensor:
    """x1 of Euler's rule, through which a gradient reaches ``x0``; memory of activations is that of one step.

    With ``options.gradient`` "truncated" the first steps run without gradient, and what they give is bridged
    to ``x0`` as if they were the identity: without the bridge no gradient would arrive at all.

    Args:
        velocity: ``velocity(t, x)``; called again for each step in the backward pass.
        x0: noise, any shape.
        steps: solver steps.
        options: for ``gradient`` and ``n_grad_steps``.
    """

    def checked(t: Tensor, x: Tensor) -> Tensor:
        out: Tensor = checkpoint(velocity, t, x, use_reentrant=False, preserve_rng_state=False)
        return out

    free = steps - options.n_grad_steps if options.gradient == "truncated" else 0
    if free <= 0:
        return sample_euler(checked, x0, steps)
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float32, device="cpu")
    x = x0.detach()
    with torch.no_grad():
        for k in range(free):
            x = x + (times[k + 1] - times[k]) * velocity(times[k], x)
    x = x + (x0 - x0.detach())
    for k in range(free, steps):
        x = x + (times[k + 1] - times[k]) * checked(times[k], x)
    return x


def optimise_noise(
    x0: Tensor,
    loss: Callable[[Tensor], tuple[Tensor, Tensor]],
    true_loss: Callable[[Tensor], float],
    options: DittoOptions,
    *,
    on_progress: ProgressFn = ignore_progress,
) -> OptimisedNoise:
    """Descend from ``x0``; the iterate whose sound is best under the real sampler is kept.

    Deterministic. If ``on_progress`` cancels, the best so far is returned: this, and not the sampling after
    it, is where cancelling is no loss.

    Args:
        x0: (N, C) noise; left as it is.
        loss: style loss of the sound of a noise, and how far its timing is from the first sound's; both
            differentiable.
        true_loss: style loss of the sound that the real sampler makes of a noise.
        options: iterations, step size, weights, patience.
        on_progress: told of each iteration, with ``loss`` and ``true_loss``; cancels by raising ``Cancelled``
            or ``KeyboardInterrupt``.

    Raises:
        GenerationError: a loss or gradient that is not finite, or a gradient that does not arrive.
    """
    start = x0.detach()
    x = start.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=options.opt_lr, betas=_BETAS)
    history: list[Iterate] = []
    best, best_step, least, since, status = start, 0, math.inf, 0, "done"
    try:
        for step in range(options.n_opt_steps + 1):
            true, now = None, x.detach().clone()
            if step % options.check_every == 0 or step == options.n_opt_steps:
                true = true_loss(now)
                since += 1
                if true < least:
                    best, best_step, least, since = now, step, true, 0
            is_last = step == options.n_opt_steps or 0 < options.patience <= since
            value = None if is_last else _descend(x, start, loss, adam, options)
            history.append(Iterate(step, value, true, shell(now)))
            metrics = {"true_loss": least} | ({} if value is None else {"loss": value})
            on_progress(Progress("optimising", step, options.n_opt_steps, metrics))
            if is_last:
                status = "done" if step == options.n_opt_steps else "patience"
                break
    except (Cancelled, KeyboardInterrupt):
        if not history:
            raise  # nothing was found yet
        status = "cancelled"
    before = history[0].true_loss
    assert before is not None
    return OptimisedNoise(
        best, best_step, before, least, shell(best), _kurtosis(best), tuple(history), status
    )


def shell(x: Tensor) -> float:
    """|x|^2 / n: 1 on the shell where Gaussian noise lies."""
    return float(x.double().square().mean())


def _descend(
    x: Tensor,
    start: Tensor,
    loss: Callable[[Tensor], tuple[Tensor, Tensor]],
    adam: torch.optim.Adam,
    options: DittoOptions,
) -> float:
    """One step of Adam on ``x``; returns the style loss before it."""
    with torch.enable_grad():
        style, timing = loss(x)
        value, weighted = float(style.detach()), options.style_weight * style + options.timing_weight * timing
        (of_sound,) = torch.autograd.grad(weighted, x, allow_unused=True)
        if not math.isfinite(value) or (of_sound is not None and not bool(of_sound.isfinite().all())):
            raise GenerationError(
                "The style loss or its gradient is not finite. Try --precision fp32, or a smaller opt_lr."
            )
        is_lost = of_sound is None or not bool(of_sound.any())
        if options.style_weight > 0 and value > _NO_LOSS and is_lost:
            raise GenerationError(
                f"The style loss is {value:.3g}, but no gradient of it reaches the noise, so that "
                "nothing would be optimised. Use gradient checkpoint, or another prompt."
            )
        held = options.shell_weight * (x.square().mean() - 1).square()
        held = held + options.anchor_weight * (x - start).square().mean()
        (of_held,) = torch.autograd.grad(held, x)
    x.grad = of_held if of_sound is None else of_sound + of_held
    adam.step()
    if options.renormalize:
        with torch.no_grad():
            x.mul_(start.norm() / x.norm())
    return value


def _kurtosis(x: Tensor) -> float:
    """Largest excess kurtosis of a channel of (N, C)."""
    centred = x.double() - x.double().mean(dim=0)
    variance = centred.square().mean(dim=0)
    excess = centred.pow(4).mean(dim=0) / variance.square().clamp(min=1e-12) - 3
    return float(excess[excess.abs().argmax()])
