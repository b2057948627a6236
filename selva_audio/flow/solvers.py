"""Solvers of dx/dt = velocity(t, x) from noise (t = 0) to data (t = 1) on an even float32 grid.

A solver is a function ``(velocity, x0, steps, on_step) -> x1``. It sets no gradient mode and never works in
place, so gradients flow through it. ``velocity`` gets t as a 0-d float32 tensor on the CPU.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..errors import InputError

Velocity = Callable[[Tensor, Tensor], Tensor]
OnStep = Callable[[int, int, Tensor], None]
Solver = Callable[[Velocity, Tensor, int, OnStep | None], Tensor]
Increment = Callable[[Velocity, Tensor, Tensor, Tensor], Tensor]


def sample_euler(velocity: Velocity, x0: Tensor, steps: int, on_step: OnStep | None = None) -> Tensor:
    """Explicit Euler: first order, one velocity per step.

    Args:
        velocity: ``velocity(t, x)``.
        x0: noise, any shape.
        steps: number of equal steps, at least 1.
        on_step: called as ``on_step(steps_done, steps, x)`` after each step; it cancels by raising.

    Returns:
        x1, of the shape and dtype of ``x0``.

    Raises:
        InputError: fewer than one step.
    """
    return _solve(_euler_increment, velocity, x0, steps, on_step)


def sample_midpoint(velocity: Velocity, x0: Tensor, steps: int, on_step: OnStep | None = None) -> Tensor:
    """Explicit midpoint rule: second order, two velocities per step; arguments of ``sample_euler``."""
    return _solve(_midpoint_increment, velocity, x0, steps, on_step)


def sample_heun(velocity: Velocity, x0: Tensor, steps: int, on_step: OnStep | None = None) -> Tensor:
    """Heun's rule: second order, two velocities per step; arguments of ``sample_euler``."""
    return _solve(_heun_increment, velocity, x0, steps, on_step)


SOLVERS: Mapping[str, Solver] = {"euler": sample_euler, "midpoint": sample_midpoint, "heun": sample_heun}


def _solve(
    increment: Increment, velocity: Velocity, x0: Tensor, steps: int, on_step: OnStep | None
) -> Tensor:
    if steps < 1:
        raise InputError(f"A solver needs at least 1 step, not {steps}. 25 is the usual number.")
    # Neighbouring float32 grid values differ by not quite 1 / steps; published numbers use the difference.
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float32, device="cpu")
    x = x0
    for k in range(steps):
        x = x + increment(velocity, times[k], times[k + 1], x)
        if on_step is not None:
            on_step(k + 1, steps, x)
    return x


def _euler_increment(velocity: Velocity, start: Tensor, end: Tensor, x: Tensor) -> Tensor:
    return (end - start) * velocity(start, x)


def _midpoint_increment(velocity: Velocity, start: Tensor, end: Tensor, x: Tensor) -> Tensor:
    half = (end - start) / 2
    return (end - start) * velocity(start + half, x + half * velocity(start, x))


def _heun_increment(velocity: Velocity, start: Tensor, end: Tensor, x: Tensor) -> Tensor:
    dt = end - start
    first = velocity(start, x)
    return dt / 2 * (first + velocity(end, x + dt * first))
