"""Settings of loading a model and of generating sound with it."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ..configs import MAX_DURATION
from .base import Options
from .features import CLIP_CONDITIONING_HELP, ClipConditioning

Device = str
Precision = Literal["bf16", "fp16", "fp32"]
Offload = Literal["auto", "keep_in_vram", "offload_to_cpu"]
Solver = Literal["euler", "midpoint", "heun"]
Loudness = Literal["rms", "lufs", "peak", "none"]


class LoadOptions(Options):
    """Which model, where its files are, and how it is kept in memory."""

    variant: str = Field(
        default="small_16k", description="Model variant; `selva models list` shows them all."
    )
    device: Device = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps.")
    precision: Precision = Field(default="bf16", description="Number format of the weights.")
    offload: Offload = Field(
        default="auto",
        description="Keep all parts on the GPU, or bring each in for its stage; auto: keep from 16 GB. "
        "On a CPU, keep_in_vram keeps parts in memory after their stage.",
    )
    models_dir: Path | None = Field(
        default=None, description="Folder with the weight files; looked at first."
    )
    offline: bool | None = Field(
        default=None,
        description="Never download, and fail with the command that would; default: as HF_HUB_OFFLINE says.",
    )


class GenerateOptions(Options):
    """How the sound is made from features."""

    prompt: str = Field(
        default="", max_length=4000, description="Sentence for the sound; empty = the features' own."
    )
    negative_prompt: str = Field(
        default="", max_length=4000, description="Sentence to steer away from; empty = the features' own."
    )
    duration: float = Field(
        default=0.0, ge=0, le=MAX_DURATION, description="Seconds of sound; 0 = the features' own."
    )
    steps: int = Field(default=25, ge=1, le=1000, description="Solver steps.")
    cfg_strength: float = Field(
        default=4.5, ge=0, le=50, description="Classifier-free guidance; under 1 = none."
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of the noise; take k uses seed + k.")
    takes: int = Field(default=1, ge=1, le=64, description="How many different sounds to make.")
    solver: Solver = Field(
        default="euler", description="Integration rule; midpoint and heun call twice a step."
    )
    normalize: bool = Field(default=True, description="Bring the sound to the target level.")
    loudness: Loudness = Field(
        default="rms", description="What target_lufs means: dBFS RMS, LUFS or dBFS peak."
    )
    target_lufs: float = Field(
        default=-27.0, ge=-70, le=0, description="Target level, in the unit of the mode."
    )
    true_peak_ceiling: float = Field(
        default=-1.0,
        ge=-20,
        le=0,
        description="Highest true peak in dBTP; the whole sound is turned down to it.",
    )
    clip_conditioning: ClipConditioning = Field(default="auto", description=CLIP_CONDITIONING_HELP)
