"""Settings of steering vectors: how they are found, and how they are applied."""

import re
from typing import Literal

from pydantic import Field, field_validator

from .base import Options

_BLOCKS = re.compile(r"\d{1,3}(-\d{1,3})?(,\d{1,3}(-\d{1,3})?)*")


class SteeringOptions(Options):
    """How steering vectors act on a sound."""

    steering_strength: float = Field(
        default=0.1,
        ge=-20,
        le=20,
        description="Factor on the vectors; 0 changes nothing, under 0 steers away.",
    )
    steering_mode: Literal["auto", "relative", "raw"] = Field(
        default="auto",
        description="relative: a strength of 1 moves each activation by its own length; raw: by the "
        "vector's; auto: relative, and raw for files of the public pack.",
    )
    steering_branch: Literal["auto", "both", "cond"] = Field(
        default="auto",
        description="Steer both branches of guidance, or the prompt's alone, where guidance amplifies it; "
        "auto: both, and cond for files of the public pack.",
    )
    steering_blocks: str = Field(
        default="all",
        max_length=200,
        description="Blocks to steer, counted from 0, joint before fused, as 2-5 or 0,3,7; or all.",
    )

    @field_validator("steering_blocks")
    @classmethod
    def _ranges(cls, value: str) -> str:
        if value != "all" and not _BLOCKS.fullmatch(value):
            raise ValueError("give all, or numbers and ranges joined by commas, such as 2-5 or 0,3,7")
        return value

    @property
    def block_numbers(self) -> frozenset[int] | None:
        """The blocks, or None for all of them."""
        if self.steering_blocks == "all":
            return None
        numbers: set[int] = set()
        for part in self.steering_blocks.split(","):
            first, _, last = part.partition("-")
            numbers.update(range(int(first), int(last or first) + 1))
        return frozenset(numbers)


class SteeringExtractionOptions(Options):
    """How steering vectors are found."""

    n_samples: int = Field(
        default=16,
        ge=1,
        le=256,
        description="Clips to look at; the set is gone through again if it has fewer.",
    )
    seed: int = Field(default=42, ge=0, lt=2**63, description="Seed of the noise and of the order of clips.")
    time_bins: int = Field(
        default=8, ge=1, le=32, description="Vectors along the way from noise to sound; 1: one for all of it."
    )
    prompt: str = Field(
        default="",
        max_length=4000,
        description="Prompt for the style's clips in place of their own.",
    )
    contrast_prompt: str = Field(
        default="",
        max_length=4000,
        description="Prompt for the other side in place of its own; without another set, the style's "
        "clips are then contrasted with themselves under this prompt.",
    )
