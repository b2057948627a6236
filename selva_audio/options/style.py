"""Settings of textual inversion, and of tuning a vocoder."""

from typing import Literal, Self

from pydantic import Field, model_validator

from .base import Options
from .features import ClipConditioning
from .training import FitOptions, Schedule

TOKEN_LR, FEATURE_LR = 5e-3, 2e-2
SNAKE_LR, WHOLE_LR = 1e-4, 1e-5


class InversionOptions(Options):
    """How a textual inversion acts on a sound."""

    ti_strength: float = Field(
        default=1.0, ge=0, le=1, description="How much of the learned tokens is heard; 0 changes nothing."
    )


class TextualInversionOptions(FitOptions):
    """Learned tokens for the sound of a few clips; the model stays as it is."""

    n_tokens: int = Field(default=4, ge=1, le=16, description="Learned tokens.")
    space: Literal["token", "feature"] = Field(
        default="token",
        description="Learn words that CLIP reads (token), or rows of what CLIP gives (feature).",
    )
    inject_mode: Literal["suffix", "prefix"] = Field(
        default="suffix", description="Rows that space feature replaces: the last ones, or the first ones."
    )
    template: str = Field(
        default="{} <prompt>",
        max_length=200,
        description="Where the words of space token stand: {} for them, <prompt> for the prompt.",
    )
    init_text: str = Field(
        default="", max_length=4000, description="Words to start from; empty: the mean of all."
    )
    lr: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Highest learning rate; 0: 5e-3 in space token, 2e-2 in space feature.",
    )
    steps: int = Field(default=600, ge=1, le=1_000_000, description="Updates in all.")
    warmup_steps: int = Field(
        default=20, ge=0, le=1_000_000, description="Updates over which the learning rate rises."
    )
    lr_schedule: Schedule = Field(
        default="cosine", description="What the learning rate does after the warm-up."
    )
    timestep_mode: Literal["uniform", "logit_normal"] = Field(
        default="logit_normal", description="How times on the path are drawn."
    )
    clip_conditioning: ClipConditioning = Field(
        default="auto",
        description="Train with CLIP features of the picture; auto: as the variant was trained.",
    )
    pad: Literal["zero", "loop", "reflect"] = Field(
        default="zero", description="What follows a sound that is shorter than 8 seconds."
    )
    val_fraction: float = Field(
        default=0.2,
        ge=0,
        le=0.9,
        description="Share of the recordings kept for validation, where the data set does not say which.",
    )
    sample_steps: int = Field(
        default=25,
        ge=0,
        le=1000,
        description="Solver steps of the sample at each checkpoint; 0 = no samples.",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.template.count("{}") != 1 or self.template.count("<prompt>") > 1:
            raise ValueError("it needs {} once and <prompt> at most once, as in '{} <prompt>'")
        return self

    @property
    def effective_lr(self) -> float:
        """``lr``, or what 0 stands for."""
        return self.lr or (TOKEN_LR if self.space == "token" else FEATURE_LR)


class VocoderOptions(FitOptions):
    """A vocoder tuned on a folder of sounds."""

    train_mode: Literal["snake_alpha_only", "snake_alpha_beta", "all_params"] = Field(
        default="snake_alpha_only",
        description="What is trained: frequencies of the activations, also their magnitudes, or everything.",
    )
    lr: float = Field(
        default=0.0, ge=0, le=1, description="Highest learning rate; 0: 1e-4, for all_params 1e-5."
    )
    steps: int = Field(default=2000, ge=1, le=1_000_000, description="Updates in all.")
    warmup_steps: int = Field(
        default=20, ge=0, le=1_000_000, description="Updates over which the learning rate rises."
    )
    clip_norm: float = Field(
        default=10.0, gt=0, le=1e6, description="Largest norm of all gradients together."
    )
    save_every: int = Field(
        default=500,
        ge=1,
        le=1_000_000,
        description="Updates between checkpoints, with validation and a sample.",
    )
    segment_seconds: float = Field(
        default=1.0, ge=0.25, le=30, description="Seconds of the stretches that a step hears."
    )
    loss: Literal["auto", "mel", "multi_mel", "feature_matching"] = Field(
        default="auto",
        description="Distance to the recording: its mel, mels of seven windows, or what a discriminator "
        "hears; auto: the last with a discriminator, else mel.",
    )
    lambda_stft: float = Field(
        default=1.0, ge=0, le=100, description="Weight of the distance of magnitudes at three windows."
    )
    lambda_phase: float = Field(
        default=0.0, ge=0, le=100, description="Weight of the distance of complex spectra at three windows."
    )
    lambda_l2sp: float = Field(
        default=1e-3,
        ge=0,
        le=1e30,
        description="Weight of the squared distance to the vocoder it starts from, as a sum.",
    )
    discriminator_path: str = Field(
        default="", description="bigvgan_discriminator_optimizer.pt of the same rate, for feature_matching."
    )
    use_gafilter: bool = Field(
        default=False, description="Train a short filter after each activation too, one per channel."
    )
    gafilter_kernel_size: int = Field(default=9, ge=3, le=31, description="Taps of these filters; odd.")
    lora_adapter: str = Field(
        default="",
        description="Train on the mels that the model generates with this adapter; each sound needs its "
        "features (.npz) beside it.",
    )
    val_fraction: float = Field(
        default=0.1, ge=0, le=0.9, description="Share of the recordings kept for validation."
    )
    grad_checkpoint: bool = Field(
        default=True, description="Compute activations twice instead of keeping them: slower, less memory."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.loss == "feature_matching" and not self.discriminator_path:
            raise ValueError("loss feature_matching needs a discriminator_path")
        if self.loss in ("mel", "multi_mel") and self.discriminator_path:
            raise ValueError(f"discriminator_path has no use with loss {self.loss}; leave one of them out")
        if self.gafilter_kernel_size % 2 == 0:
            raise ValueError(f"gafilter_kernel_size is {self.gafilter_kernel_size}; it must be odd")
        return self

    @property
    def effective_lr(self) -> float:
        """``lr``, or what 0 stands for."""
        return self.lr or (WHOLE_LR if self.train_mode == "all_params" else SNAKE_LR)

    @property
    def effective_loss(self) -> str:
        """``loss``, or what auto stands for."""
        if self.loss != "auto":
            return self.loss
        return "feature_matching" if self.discriminator_path else "mel"

    @property
    def kernel_size(self) -> int:
        """Taps of the filters; 0 without them."""
        return self.gafilter_kernel_size if self.use_gafilter else 0
