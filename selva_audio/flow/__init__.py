"""Flow matching: the path from noise to data, the solvers along it, guidance, and reproducible noise.

``x0`` is noise, ``x1`` is data, and t runs from 0 to 1: the reverse of most diffusion code. Nothing here
sets the gradient mode or works in place, so every function can be differentiated through.
"""

from .guidance import guided_velocity
from .noise import latent_noise
from .path import interpolate, target_velocity, velocity_loss
from .solvers import SOLVERS, OnStep, Solver, Velocity, sample_euler, sample_heun, sample_midpoint

__all__ = [
    "SOLVERS",
    "OnStep",
    "Solver",
    "Velocity",
    "guided_velocity",
    "interpolate",
    "latent_noise",
    "sample_euler",
    "sample_heun",
    "sample_midpoint",
    "target_velocity",
    "velocity_loss",
]
