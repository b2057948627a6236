"""Classifier-free guidance of the generator (SPEC 6.3)."""

from torch import Tensor

from ..graphs import Replayed
from ..models.generator import (
    Conditions,
    Generator,
    concatenate_conditions,
    fixed_conditions,
    fixed_tensors,
    share_rows,
)
from .solvers import Velocity


def guided_velocity(
    generator: Generator, conditional: Conditions, unconditional: Conditions, cfg_strength: float
) -> Velocity:
    """Velocity field ``velocity(t, x)`` for a solver: w conditional + (1 - w) unconditional.

    Args:
        generator: the network; its gradient mode is the caller's.
        conditional: conditions of the prompt and video, batch B.
        unconditional: conditions of the empty features or the negative prompt, batch B.
        cfg_strength: w. Under 1 the field is the conditional one alone and costs half; it does not
            interpolate. At exactly 1 both branches run, with the same result up to rounding.

    Returns:
        A function of t (0-d) and x (B, N, C). Both branches go through the generator in one call of 2 B.

    Source: arXiv:2207.12598.
    """
    is_guided = cfg_strength >= 1
    conditions = concatenate_conditions(conditional, unconditional) if is_guided else conditional
    step = Replayed(
        generator,
        _velocity,
        *fixed_tensors(share_rows(conditions)),
        cfg_strength=cfg_strength if is_guided else None,
    )
    return lambda t, x: step(x, _per_item(t, x))


def _velocity(
    generator: Generator, x: Tensor, t: Tensor, *fixed: Tensor, cfg_strength: float | None
) -> Tensor:
    """One step's velocity; without guidance where ``cfg_strength`` is None."""
    conditions = fixed_conditions(fixed)
    if cfg_strength is None:
        return generator.velocity(x, t, conditions)
    with_condition, without = generator.velocity(x, t, conditions, copies=2).chunk(2)
    return cfg_strength * with_condition + (1 - cfg_strength) * without


def _per_item(t: Tensor, x: Tensor) -> Tensor:
    """The time of every item of x, in float32: rounded to 16 bits it would ruin v2's embedding."""
    return t.to(x.device).expand(x.shape[0])
