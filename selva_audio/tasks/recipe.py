"""The account of a run, full as a JSON sidecar and short in the file's tags.

A recipe holds everything that decides the samples: source and mask by path and SHA-256, all options,
variant, weights, device and precision. ``tasks.replay`` makes the sound again from it.
"""

import contextlib
import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from ..errors import InputError, MissingFileError, SelVAError
from ..files import write_text
from ..options import FeatureOptions, GenerateOptions, OutputOptions
from ..options.base import describe
from ..runtime import num_threads

if TYPE_CHECKING:
    from ..bundle import SelVAModel, Steers, TextEdit

FORMAT = "selva-recipe/1"
_DECISIVE = (
    "variant",
    "precision",
    "device",
    "weights",
    "steering",
    "textual_inversion",
    "noise",
    "source",
    "mask",
    "features",
    "generate",
    "output",
)


class _Account(BaseModel):
    path: str
    sha256: str


class _Adapter(_Account):
    strength: float


class _Input(_Account):
    options: dict[str, Any]


class _Fields(BaseModel):
    """What a replay reads; the options are checked by their own models."""

    variant: str
    precision: str
    device: str
    threads: int = Field(ge=1, le=1024)
    take: int = Field(ge=0, lt=64)
    weights: dict[str, str]
    source: _Account | None
    mask: _Account | None
    adapters: list[_Adapter] = Field(default=[], max_length=64)
    steering: _Input | None = None
    textual_inversion: _Input | None = None
    vocoder: _Account | None = None
    noise: _Account | None = None
    features: dict[str, Any]
    generate: dict[str, Any]
    output: dict[str, Any]


def sidecar_path(output: Path) -> Path:
    """Where the recipe of ``output`` is: the same name with .json added."""
    return output.with_name(output.name + ".json")


def write_sidecar(output: Path, recipe: Mapping[str, Any]) -> Path:
    """Write ``recipe`` beside ``output``; returns the path."""
    path = sidecar_path(output)
    write_text(path, json.dumps(recipe, indent=2, sort_keys=True) + "\n")
    return path


@contextlib.contextmanager
def recorded(output: Path, recipe: Mapping[str, Any]) -> Iterator[None]:
    """Write ``output`` inside the block; ``recipe`` is beside it afterwards.

    If the block is left early, no recipe of an older result is left beside a newer one.
    """
    before = _stamp(output)
    try:
        yield
        write_sidecar(output, recipe)
    except BaseException:
        if _stamp(output) != before:
            with contextlib.suppress(OSError):
                sidecar_path(output).unlink(missing_ok=True)
        raise


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe in ``path``, or beside it when it is a result.

    Raises:
        MissingFileError: neither the file nor its sidecar is there.
        InputError: the file is no recipe of this format.
    """
    source = path if path.suffix == ".json" else sidecar_path(path)
    if not source.is_file():
        raise MissingFileError(
            f"There is no recipe {source}. Give a result of `selva generate` with its .json beside it."
        )
    try:
        recipe = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{source} is not readable as JSON ({error}).") from error
    if not isinstance(recipe, dict) or recipe.get("format") != FORMAT:
        raise InputError(f"{source} is not a recipe of this program (format {FORMAT}).")
    try:
        _Fields.model_validate(recipe)
    except ValidationError as error:
        raise InputError(f"The recipe {source} cannot be used. {describe(_Fields, error)}") from None
    return recipe


def build_recipe(
    model: "SelVAModel",
    *,
    source: Mapping[str, Any] | None,
    mask: Mapping[str, Any] | None,
    noise: Mapping[str, Any] | None = None,
    features: FeatureOptions,
    options: GenerateOptions,
    output: OutputOptions,
) -> dict[str, Any]:
    """Full account of one run, known before it starts."""
    import torch

    from .. import __version__

    return {
        "format": FORMAT,
        "selva_audio": __version__,
        "torch": torch.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": num_threads(),
        "variant": model.config.name,
        "precision": model.policy.precision,
        "device": model.policy.device,
        "weights": model.identities(),
        "adapters": [dict(each) for each in model.adapters],
        "steering": _input(model.inputs.steering),
        "textual_inversion": _input(model.inputs.textual_inversion),
        "vocoder": dict(model.tuned_vocoder) if model.tuned_vocoder else None,
        "noise": noise,
        "source": source,
        "mask": mask,
        "features": features.model_dump(mode="json", exclude={"cache_dir", "name"}),
        "generate": options.model_dump(mode="json"),
        "output": output.model_dump(mode="json"),
    }


def same_run(output: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether ``output`` exists and its sidecar tells of the very run that ``recipe`` plans."""
    if not output.is_file():
        return False
    try:
        done = read_recipe(output)
    except SelVAError:
        return False
    return all(_content(done.get(key)) == _content(recipe[key]) for key in _DECISIVE)


def _stamp(path: Path) -> tuple[int, int] | None:
    if not path.exists():
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _content(value: Any) -> Any:
    """A file by its digest and not its place: moving it does not change the run."""
    if isinstance(value, Mapping) and "sha256" in value:
        return {key: each for key, each in value.items() if key != "path"}
    return value


def _input(found: "TextEdit | Steers | None") -> dict[str, Any] | None:
    return None if found is None else dict(found.account)


def short_recipe(recipe: Mapping[str, Any], take: int) -> str:
    """One line for the comment tag of a file."""
    generate = recipe["generate"]
    prompt = generate["prompt"] or recipe["features"]["prompt"]
    return json.dumps(
        {
            "selva_audio": recipe["selva_audio"],
            "variant": recipe["variant"],
            "prompt": prompt,
            "negative_prompt": generate["negative_prompt"] or recipe["features"]["negative_prompt"],
            "seed": generate["seed"] + take,
            "steps": generate["steps"],
            "cfg_strength": generate["cfg_strength"],
            "solver": generate["solver"],
        },
        ensure_ascii=False,
        sort_keys=True,
    )
