"""Settings of DITTO: how the noise that a sound starts from is changed towards a reference."""

from typing import Literal

from pydantic import Field

from .base import Options


class DittoOptions(Options):
    """How noise is optimised; what the sound itself is made with stays as it is."""

    n_opt_steps: int = Field(default=50, ge=1, le=1000, description="Iterations.")
    opt_lr: float = Field(default=0.1, ge=1e-4, le=2, description="Step size of Adam on the noise.")
    n_ode_steps: int = Field(
        default=10, ge=1, le=50, description="Solver steps of the sound that an iteration looks at."
    )
    gradient: Literal["checkpoint", "truncated", "surrogate"] = Field(
        default="checkpoint",
        description="checkpoint: exact; truncated: through the last n_grad_steps alone, faster and "
        "inexact; surrogate: through a sampler of surrogate_steps.",
    )
    n_grad_steps: int = Field(
        default=5, ge=1, le=50, description="Solver steps that a truncated gradient goes through."
    )
    surrogate_steps: int = Field(
        default=2, ge=1, le=10, description="Solver steps of the stand-in for the sampler."
    )
    loss: Literal["mel", "latent"] = Field(
        default="mel",
        description="What is compared with the reference: the log mel, or the latent as in the public pack.",
    )
    style_weight: float = Field(default=1.0, ge=0, le=1000, description="Weight of the style loss.")
    gram_weight: float = Field(
        default=1.0,
        ge=0,
        le=1000,
        description="Within the style loss, weight of how bands go together; that of the mean is 1.",
    )
    timing_weight: float = Field(
        default=10.0,
        ge=0,
        le=1000,
        description="Weight that holds the attacks of the sound where those of the first sound are.",
    )
    anchor_weight: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="Weight that holds the noise to where it started, and with it all of the first sound.",
    )
    shell_weight: float = Field(
        default=1.0, ge=0, le=1000, description="Weight that holds the length of the noise to that of noise."
    )
    renormalize: bool = Field(
        default=True, description="Bring the noise back to its length after each iteration."
    )
    check_every: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Iterations between looks at the sound of the real sampler, by which the best is kept.",
    )
    patience: int = Field(
        default=0, ge=0, le=1000, description="Looks without a better sound before it ends; 0: never."
    )
