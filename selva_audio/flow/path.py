"""The straight path of conditional flow matching: ``x0`` noise at t = 0, ``x1`` data at t = 1.

Source: flow matching (arXiv:2210.02747) with sigma_min = 0, that is rectified flow (arXiv:2209.03003).
"""

from torch import Tensor


def interpolate(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    """Point of the path: (1 - t) x0 + t x1, with x0 and x1 (B, N, C) and t (B,)."""
    t = t[:, None, None]
    return (1 - t) * x0 + t * x1


def target_velocity(x0: Tensor, x1: Tensor) -> Tensor:
    """What the generator learns to predict anywhere on the path: x1 - x0."""
    return x1 - x0


def velocity_loss(predicted: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
    """Mean squared error of a predicted velocity, one number per item: (B,)."""
    return (predicted - target_velocity(x0, x1)).square().mean(dim=(1, 2))
