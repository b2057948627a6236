"""Settings of the selectivity benchmark."""

import re

from pydantic import Field, field_validator

from .base import Options
from .generate import GenerateOptions


class SelectivityOptions(Options):
    """Which drawn scenes are scored, and how their sounds are made."""

    scenes: int = Field(default=24, ge=1, le=10_000, description="How many scenes, of two and three objects.")
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="Which scenes; always of the split that is kept for tests."
    )
    generation_seeds: str = Field(
        default="0",
        max_length=200,
        description="Seeds of the noise, joined by commas; each makes the sounds of all scenes.",
    )
    materials: str = Field(
        default="",
        max_length=200,
        description="Materials to be prompted, joined by commas; default: all whose sound was trained.",
    )
    steps: int = GenerateOptions.model_fields["steps"]  # type: ignore[assignment]
    cfg_strength: float = GenerateOptions.model_fields["cfg_strength"]  # type: ignore[assignment]
    controls: bool = Field(
        default=True, description="Also score what must succeed or fail, and what was never trained."
    )

    @field_validator("generation_seeds")
    @classmethod
    def _whole_numbers(cls, value: str) -> str:
        if not re.fullmatch(r"\d{1,18}(,\d{1,18})*", value):
            raise ValueError("give whole numbers joined by commas, such as 0,1,2")
        return value

    @property
    def noise_seeds(self) -> tuple[int, ...]:
        """The generation seeds, each once."""
        return tuple(dict.fromkeys(int(seed) for seed in self.generation_seeds.split(",")))

    @property
    def material_names(self) -> tuple[str, ...]:
        """The materials, each once."""
        names = (name.strip() for name in self.materials.split(","))
        return tuple(dict.fromkeys(name for name in names if name))
