"""Classifier-free guidance of the generator (SPEC 6.3)."""

from torch import Tensor

from ..models.generator import Conditions, Generator, concatenate_conditions, share_rows
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
    if cfg_strength < 1:
        alone = share_rows(conditional)
        return lambda t, x: generator.velocity(x, _per_item(t, x), alone)
    both = share_rows(concatenate_conditions(conditional, unconditional))

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        with_condition, without = generator.velocity(x, _per_item(t, x), both, copies=2).chunk(2)
        return cfg_strength * with_condition + (1 - cfg_strength) * without

    return velocity


def _per_item(t: Tensor, x: Tensor) -> Tensor:
    """The time of every item of x, in float32: rounded to 16 bits it would ruin v2's embedding."""
    return t.to(x.device).expand(x.shape[0])
