"""Settings of writing a result: what happens to the original sound, and how the new one is coded."""

from typing import Literal

from pydantic import Field

from .base import Options


class OutputOptions(Options):
    """How the sound is written or joined with the picture."""

    original_audio: Literal["replace", "mix", "duck"] = Field(
        default="replace", description="Drop the video's own sound, keep it under the new one, or duck it."
    )
    original_gain_db: float = Field(
        default=0.0, ge=-60, le=20, description="Gain of the video's own sound when it is kept."
    )
    duck_db: float = Field(
        default=12.0,
        ge=0,
        le=60,
        description="How far the video's own sound is turned down where the new one plays.",
    )
    codec: Literal["aac", "lossless"] = Field(
        default="aac", description="Sound in a video: AAC, or lossless (ALAC in mp4/mov, FLAC in mkv)."
    )
    bitrate_kbps: int = Field(default=192, ge=32, le=512, description="AAC bit rate in kbit/s.")
    sample_format: Literal["pcm16", "pcm24", "float32"] = Field(
        default="pcm24", description="Samples of a sound file; flac takes 16 or 24 bits."
    )
