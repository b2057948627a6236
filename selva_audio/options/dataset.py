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
    fix: bool = Field(
        default=False,
        description="Mend the sounds: no constant part, the model's sample rate, -23 LUFS under -1 dBTP.",
    )
    clip_conditioning: ClipConditioning = Field(default="auto", description=CLIP_CONDITIONING_HELP)


class AugmentOptions(Options):
    """How variants of sounds are made."""

    variants_per_clip: int = Field(default=2, ge=1, le=20, description="Variants made of every sound.")
    gain_range_db: float = Field(
        default=3.0, ge=0, le=12, description="Level up or down by at most this many decibels."
    )
    seed: int = Field(default=42, ge=0, le=2**32 - 1, description="Another seed, other variants.")
    pitch_range_semitones: float = Field(
        default=0.0, ge=0, le=4, description="Pitch up or down by at most this much; the length stays."
    )
    time_stretch_range: float = Field(
        default=0.0,
        ge=0,
        le=0.3,
        description="Length changed by at most this share. Events move, so such variants get no features.",
    )
    keep_originals: bool = Field(
        default=True, description="Keep the sounds themselves beside their variants."
    )


class InspectOptions(Options):
    """What a sound is rejected for."""

    skip_rejected: bool = Field(default=True, description="Leave rejected sounds out of the result.")
    min_snr_db: float = Field(
        default=15.0,
        ge=0,
        le=60,
        description="Least distance from the background in pauses; steady sounds have none and pass.",
    )
    check_codec_artifacts: bool = Field(
        default=True, description="Reject spectra that end like a wall, as after lossy coding."
    )
    max_silence_fraction: float = Field(
        default=0.5, ge=0, le=1, description="Largest share of the length under -60 dBFS."
    )
