"""Settings of the measurement of speed."""

from pydantic import Field

from .base import Options
from .generate import GenerateOptions


class BenchOptions(Options):
    """What is made to measure how long it takes."""

    duration: float = Field(default=8.0, ge=1, le=60, description="Seconds of video that are used.")
    size: int = Field(
        default=256,
        ge=64,
        le=1024,
        multiple_of=2,
        description="Width and height of the drawn clip in pixels, an even number.",
    )
    steps: int = GenerateOptions.model_fields["steps"]  # type: ignore[assignment]
    cfg_strength: float = GenerateOptions.model_fields["cfg_strength"]  # type: ignore[assignment]
    repeats: int = Field(default=1, ge=1, le=100, description="Runs of the whole job; the median counts.")
