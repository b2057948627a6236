"""Settings of the selectivity benchmark, and of the comparison of adapters."""

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ..errors import InputError, shown, unknown_name
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


class Candidate(Options):
    """One adapter to be compared, or the base."""

    id: str = Field(min_length=1, max_length=100, description="Its name, and that of its folder of sounds.")
    path: str = Field(
        default="", description="Adapter: .pt, .safetensors or a PEFT folder; empty: the base without one."
    )
    strength: float = Field(default=1.0, description="How much of the adapter is heard; may be negative.")
    description: str = Field(default="", description="Note for people.")


class ComparisonOptions(Options):
    """Which adapters are compared, on which clips, and how their sounds are made."""

    name: str = Field(default="", max_length=200, description="Name of the comparison.")
    description: str = Field(default="", description="Note for people.")
    data_dir: str = Field(min_length=1, description="Data set with the reference clips.")
    output_dir: str = Field(min_length=1, description="Folder for sounds, summary and figure.")
    adapters: tuple[Candidate, ...] = Field(min_length=1, description="What is compared, in order.")
    split: Literal["", "train", "val"] = Field(
        default="", description="Side of the data set whose clips are used; empty: all clips."
    )
    max_clips: int = Field(default=0, ge=0, le=10_000, description="Clips at most, in order; 0: all.")
    steps: int = GenerateOptions.model_fields["steps"]  # type: ignore[assignment]
    cfg_strength: float = GenerateOptions.model_fields["cfg_strength"]  # type: ignore[assignment]
    seed: int = Field(
        default=42,
        ge=0,
        lt=2**63,
        description="Noise of the first clip; every clip has its own.",
    )
    takes: int = Field(
        default=1, ge=1, le=16, description="Sounds per clip and adapter; diversity needs two or more."
    )
    train_dir: str = Field(
        default="",
        description="Data set the adapters were trained on, to find copies of its clips; empty: the clips of "
        "data_dir that are marked for training.",
    )
    forgetting_dir: str = Field(
        default="",
        description="Data set of other sounds, to tell what the adapters made worse; empty: not told.",
    )

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        names = [each.id.casefold() for each in self.adapters]
        twice = next((each.id for each in self.adapters if names.count(each.id.casefold()) > 1), None)
        if twice is not None:
            raise ValueError(f"two adapters have the id {twice!r}; give each one of its own")
        if "reference" in names:
            raise ValueError("the id 'reference' is the name of the folder of recordings; choose another")
        return self

    @classmethod
    def read(cls, content: object) -> Self:
        """From the content of a JSON file; ``group`` and keys that begin with ``_`` are passed over.

        Raises:
            InputError: not such an object, an unknown key, or a value out of range.
        """
        values = _known(content, cls, "a comparison")
        listed = values.get("adapters")
        if isinstance(listed, list):
            values["adapters"] = [
                _known(each, Candidate, f"adapter {number}") for number, each in enumerate(listed, 1)
            ]
        return cls.parse(**values)


def _known(content: object, model: type[Options], what: str) -> dict[str, Any]:
    """The values of an object without notes and nulls.

    Raises:
        InputError: not an object, or an unknown key.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{what[:1].upper()}{what[1:]} must be a JSON object, not {shown(content)}.")
    values = {}
    for key, value in content.items():
        if str(key).startswith("_") or key == "group":
            continue
        if key not in model.model_fields:
            raise InputError(f"In {what}: {unknown_name('key', str(key), model.model_fields)}")
        if value is not None:
            values[str(key)] = value
    return values
