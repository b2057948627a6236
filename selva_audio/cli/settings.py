"""The option models as the command line shows them: groups, short names, one prompt for both halves."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter

from ..options import (
    FeatureOptions,
    GenerateOptions,
    InversionOptions,
    LoadOptions,
    Options,
    OutputOptions,
    SteeringOptions,
)

Chosen = TypeVar("Chosen", bound=Options)


def _declared(name: str) -> Any:
    """A field of ``FeatureOptions`` as it is declared there, to be shown under another name."""
    return FeatureOptions.model_fields[name]


class SoundFields(GenerateOptions, FeatureOptions):
    """Feature extraction and generation in one command."""

    prompt: Annotated[str, Parameter(name=("--prompt", "-p"))] = _declared("prompt")
    negative_prompt: str = _declared("negative_prompt")
    duration: float = _declared("duration")
    # Numbered feature files are what `selva features` is for.
    name: Annotated[str, Parameter(parse=False)] = ""


class FeatureFields(FeatureOptions):
    """Feature extraction with the short name of the prompt."""

    prompt: Annotated[str, Parameter(name=("--prompt", "-p"))] = _declared("prompt")


SoundSettings = Annotated[SoundFields, Parameter(name="*", group="Sound")]
FeatureSettings = Annotated[FeatureFields, Parameter(name="*", group="Features")]
ModelSettings = Annotated[LoadOptions, Parameter(name="*", group="Model")]
WriteSettings = Annotated[OutputOptions, Parameter(name="*", group="Writing")]
Adapters = Annotated[
    tuple[Path, ...],
    Parameter(
        name="--adapter",
        negative=(),
        help="LoRA adapter: .pt, .safetensors or a PEFT folder; once for each of several.",
    ),
]
Strengths = Annotated[
    tuple[float, ...],
    Parameter(
        name="--adapter-strength",
        negative=(),
        help="How much of an adapter is heard, once for each or once for all; default 1, may be negative.",
    ),
]

TextualInversion = Annotated[
    Path | None,
    Parameter(name="--textual-inversion", help="Learned tokens of `selva train textual-inversion`."),
]
InversionSettings = Annotated[InversionOptions, Parameter(name="*")]
Vocoder = Annotated[
    Path | None,
    Parameter(name="--vocoder", help="Tuned vocoder of `selva train vocoder`, or a BigVGAN generator."),
]

Steering = Annotated[
    Path | None, Parameter(name="--steering", help="Steering vectors of `selva steer extract`.")
]
SteeringSettings = Annotated[SteeringOptions, Parameter(name="*", group="Steering")]

INVERSION, STEERING = InversionOptions(), SteeringOptions()
SOUND, FEATURES, MODEL, WRITE = SoundFields(), FeatureFields(), LoadOptions(), OutputOptions()


def pick(settings: Options, model: type[Chosen], *, leave: Collection[str] = ()) -> Chosen:
    """The fields of ``model`` out of ``settings``; those in ``leave`` keep their defaults."""
    values = settings.model_dump(include=set(model.model_fields) - set(leave))
    return model.parse(**values)
