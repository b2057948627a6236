"""Settings of the audio tools: what is done to a sound that exists already."""

from typing import Literal

from pydantic import Field

from .base import Options

_CEILING_HELP = "Highest true peak in dBTP; the whole sound is turned down to it."


class SmoothOptions(Options):
    """How high frequencies are turned down."""

    cutoff_hz: float = Field(
        default=12000.0, ge=2000, le=20000, description="Frequency from which on the sound is turned down."
    )
    blend: float = Field(
        default=0.7, ge=0, le=1, description="How much is taken away: 0 nothing, 0.7 10.5 dB, 1 everything."
    )
    transition_hz: float = Field(
        default=1000.0, ge=100, le=1900, description="Width of the slope that ends at the cutoff."
    )


class MatchOptions(Options):
    """How a sound's spectrum is brought towards that of the VAE's training sounds."""

    mode: Literal["44k", "16k"] = Field(
        default="44k", description="Which VAE's training sounds to come near to."
    )
    strength: float = Field(
        default=0.8, ge=0, le=1, description="Share of the difference that is taken away; 0 = nothing."
    )
    max_gain_db: float = Field(
        default=12.0, ge=1, le=30, description="No frequency is boosted or cut by more than this."
    )
    keep_level: bool = Field(
        default=False,
        description="Bring the RMS level back to what it was; else it moves as with any equalizer.",
    )


class ExciteOptions(Options):
    """How overtones are added."""

    cutoff_hz: float = Field(
        default=3000.0, ge=500, le=16000, description="Frequency from which on overtones are made."
    )
    drive: float = Field(
        default=2.0, ge=1, le=10, description="Gain into the saturation: more drive, more overtones."
    )
    mix: float = Field(default=0.15, ge=0, le=1, description="How much is added; 0 = nothing.")


class NormalizeOptions(Options):
    """Which level a sound is brought to."""

    target_lufs: float = Field(
        default=-14.0, ge=-60, le=0, description="Target level, in the unit of the mode."
    )
    true_peak_dbtp: float = Field(default=-1.0, ge=-20, le=0, description=_CEILING_HELP)
    loudness: Literal["lufs", "rms", "peak"] = Field(
        default="lufs", description="What target_lufs means: LUFS, dBFS RMS or dBFS peak."
    )


class CompressOptions(Options):
    """How what is loud is turned down."""

    threshold_db: float = Field(
        default=-18.0, ge=-40, le=-6, description="Level in dBFS from which on the sound is turned down."
    )
    ratio: float = Field(
        default=2.5, ge=1.5, le=4, description="Decibels above the threshold that become one."
    )
    attack_ms: float = Field(default=10.0, ge=1, le=100, description="How quickly it is turned down.")
    release_ms: float = Field(default=100.0, ge=20, le=500, description="How quickly it comes back.")
    mix: float = Field(
        default=0.4, ge=0, le=1, description="Share of the compressed sound beside the sound as it was."
    )


class ResampleOptions(Options):
    """Which sample rate a sound gets."""

    target_sr: int = Field(default=44100, ge=8000, le=192000, description="Sample rate in hertz.")


class RoundtripOptions(Options):
    """What is measured of a way through the VAE and back."""

    split: bool = Field(
        default=False,
        description="Also measure the VAE alone and the vocoder alone, to see which loses what.",
    )
