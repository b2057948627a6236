"""Settings of making a data set out of videos."""

from typing import Literal

from pydantic import Field

from .base import Options
from .features import CLIP_CONDITIONING_HELP, ClipConditioning


class DatasetOptions(Options):
    """How videos become clips, and how the clips are split."""

    window: float = Field(
        default=8.0, ge=1, le=60, description="Seconds of a clip; longer videos become several clips."
    )
    windows: Literal["consecutive", "onsets"] = Field(
        default="consecutive",
        description="Clips of a long video one after another, or each centred on a sudden sound.",
    )
    shortest: float = Field(
        default=1.0, ge=0.1, le=60, description="Seconds under which a clip is too short to be used."
    )
    split_at_cuts: bool = Field(
        default=True, description="Let no clip of a long video reach over a hard cut of the picture."
    )
    recordings: Literal["name", "file"] = Field(
        default="name",
        description="What is one recording: videos whose names differ in a last _NUMBER only, or each file.",
    )
    val_fraction: float = Field(
        default=0.2, ge=0, le=0.9, description="Share of the recordings kept for validation."
    )
    split_seed: int = Field(
        default=0, ge=0, le=2**32 - 1, description="Chooses which recordings are for validation."
    )
    keep_video: bool = Field(default=True, description="Keep the picture of every clip in the data set.")
    keep_frames: bool = Field(default=False, description="Keep the pictures of every clip as PNG files too.")
    clip_conditioning: ClipConditioning = Field(default="auto", description=CLIP_CONDITIONING_HELP)
