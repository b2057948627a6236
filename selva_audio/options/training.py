"""Settings of training: of the loop itself, and of LoRA adapters.

The number format is that of the loaded model (``LoadOptions.precision``); what is trained is always float32.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from .adapter import AdapterOptions
from .base import Options
from .features import ClipConditioning

Schedule = Literal["constant", "cosine", "linear"]
TimestepMode = Literal["uniform", "logit_normal", "curriculum"]
Uncond = Literal["train", "preserve", "none"]

# Measured on the demo model, where twice as much as 1e-3 was better: 1.9e-3. Users of the large models report
# 1e-4 to 3e-4.
_LR_TIMES_WIDTH = 2e-4 * 896


class FitOptions(Options):
    """How long, how fast and how carefully the loop runs; the same for everything that is trained."""

    steps: int = Field(default=1000, ge=1, le=1_000_000, description="Updates in all.")
    lr: float = Field(default=1e-4, gt=0, le=1, description="Highest learning rate.")
    batch_size: int = Field(default=4, ge=1, le=1024, description="Clips in memory at once.")
    grad_accum: int = Field(
        default=1, ge=1, le=1024, description="Batches that make one update; as one batch of all of them."
    )
    warmup_steps: int = Field(
        default=100, ge=0, le=1_000_000, description="Updates over which the learning rate rises."
    )
    lr_schedule: Schedule = Field(
        default="constant", description="What the learning rate does after the warm-up."
    )
    clip_norm: float = Field(default=1.0, gt=0, le=1e6, description="Largest norm of all gradients together.")
    ema_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Keep a running average of the weights too, such as 0.999; 0 = none.",
    )
    save_every: int = Field(
        default=250,
        ge=1,
        le=1_000_000,
        description="Updates between checkpoints, with validation and a sample.",
    )
    keep_last: int = Field(
        default=0, ge=0, le=10_000, description="Delete all step files but the last ones; 0 = keep all."
    )
    patience: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="End after so many validations in a row that were no better; 0 = never.",
    )
    min_delta: float = Field(
        default=0.0, ge=0, le=10, description="By how much a validation must be better to count."
    )
    grad_checkpoint: bool = Field(
        default=False, description="Compute activations twice instead of keeping them: slower, less memory."
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of everything that is drawn.")


class LoraOptions(FitOptions, AdapterOptions):
    """A LoRA adapter of the generator: what is adapted, the objective, and how clips are used."""

    # 1000 bring the loss to its floor; the spectra of what is made go on falling: see benchmarks/lora.py.
    steps: int = Field(default=1500, ge=1, le=1_000_000, description="Updates in all.")
    lr: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Highest learning rate; 0: by the width of the model, 2e-4 at 896 channels.",
    )
    lr_schedule: Schedule = Field(
        default="cosine", description="What the learning rate does after the warm-up."
    )
    lora_plus_ratio: float = Field(
        default=1.0, gt=0, le=64, description="Learning rate of B over that of A (LoRA+, which uses 16)."
    )
    max_norm: float = Field(
        default=0.0, ge=0, le=1e6, description="Largest norm of the change of each layer; 0 = any."
    )
    timestep_mode: TimestepMode = Field(
        default="logit_normal",
        description="How times on the path are drawn; curriculum: logit_normal first, then uniform.",
    )
    logit_normal_mean: float = Field(
        default=0.0, ge=-3, le=3, description="Over 0, times nearer to the data are drawn more often."
    )
    logit_normal_sigma: float = Field(default=1.0, ge=0.1, le=3, description="Spread of logit_normal.")
    curriculum_switch: float = Field(
        default=0.6, ge=0, le=1, description="Share of the steps after which a curriculum turns uniform."
    )
    stratified: bool = Field(
        default=True, description="Spread the times of one update evenly over their distribution."
    )
    timestep_shift: float = Field(
        default=1.0, ge=0.1, le=10, description="Over 1, all times are moved towards the noise."
    )
    weighting: Literal["none", "min_snr"] = Field(
        default="none", description="Weight of a time in the loss; min_snr: less near noise and near data."
    )
    min_snr_gamma: float = Field(default=5.0, gt=0, le=100, description="Where min_snr turns down again.")
    huber_delta: float = Field(
        default=0.0, ge=0, le=10, description="Errors over this count linearly, not squared; 0 = none do."
    )
    latent_mode: Literal["sample", "mode"] = Field(
        default="sample",
        description="Draw each clip's latent anew from the VAE, or take its most likely one.",
    )
    pad: Literal["zero", "loop", "reflect"] = Field(
        default="zero", description="What follows a sound that is shorter than 8 seconds."
    )
    loss_mask: Literal["valid", "none"] = Field(
        default="valid", description="Leave what follows a short sound out of the loss, or learn it too."
    )
    clip_conditioning: ClipConditioning = Field(
        default="auto",
        description="Train with CLIP features of the picture; auto: as the variant was trained.",
    )
    video_dropout: float = Field(
        default=0.1, ge=0, le=1, description="Share of samples that are trained without video features."
    )
    text_dropout: float = Field(
        default=0.1, ge=0, le=1, description="Share of samples that are trained without the prompt."
    )
    uncond: Uncond = Field(
        default="train",
        description="What a sample without any condition learns: its sound, or what the base does "
        "(preserve); none: conditions are never left out.",
    )
    prior_preservation: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Weight of a second batch on which the adapter must do what the base does; 0 = none.",
    )
    prior_dir: str = Field(
        default="",
        description="Data set of other sounds for prior_preservation; empty: the clips without conditions.",
    )
    latent_mixup_alpha: float = Field(
        default=0.0, ge=0, le=1, description="Mix the latents of two clips, by Beta(alpha, alpha); 0 = none."
    )
    latent_noise_sigma: float = Field(
        default=0.0, ge=0, le=1, description="Noise on latents, as a share of their standard deviation."
    )
    val_fraction: float = Field(
        default=0.2,
        ge=0,
        le=0.9,
        description="Share of the recordings kept for validation, where the data set does not say which.",
    )
    surgery: bool = Field(
        default=True,
        description="Try other singular values at the end (Spectral Surgery), and take them if they are "
        "better on at least 4 clips for validation.",
    )
    sample_steps: int = Field(
        default=25,
        ge=0,
        le=1000,
        description="Solver steps of the sample at each checkpoint; 0 = no samples.",
    )

    def lr_for(self, width: int) -> float:
        """The learning rate, or what 0 stands for in a model of so many channels.

        Source: the best rate of Adam goes as 1 / width (arXiv:2203.03466).
        """
        return self.lr or _LR_TIMES_WIDTH / width

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.max_norm and self.init_mode == "pissa":
            raise ValueError("max_norm needs init_mode standard: a start that is taken off cannot be scaled")
        if self.prior_dir and not self.prior_preservation:
            raise ValueError("prior_dir is given, but prior_preservation is 0; give it a weight such as 1")
        return self
