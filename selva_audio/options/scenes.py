"""Settings of drawn scenes that are written as files."""

from typing import Literal

from pydantic import Field

from .base import Options


class SceneOptions(Options):
    """Which scenes are drawn, how many, and how large."""

    materials: str = Field(
        default="",
        max_length=200,
        description="Materials to be prompted, joined by commas, one per scene in turn; default: all.",
    )
    count: int = Field(default=12, ge=1, le=10_000, description="Number of scenes.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of the scenes.")
    split: Literal["train", "val", "test"] = Field(
        default="train", description="Family of scenes; no seed gives a scene of another family."
    )
    objects: int = Field(
        default=0, ge=0, le=3, description="Objects in every scene; 0 draws 1 to 3 for each scene."
    )
    duration: float = Field(default=8.0, ge=1, le=60, description="Seconds of every clip.")
    size: int = Field(
        default=256, ge=64, le=1024, multiple_of=2, description="Width and height in pixels, an even number."
    )
