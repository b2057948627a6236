"""Learned tokens and steering vectors: what travels on their wires, and the model that samples with them.

A wire carries the place of a file that a loader has read and found good. What is read is decided by the file,
and a file that was changed makes its loader run again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..errors import InputError, shown
from ..options import InversionOptions, SteeringOptions
from .schema import STEERING_VECTORS, TEXTUAL_INVERSION, strength

_STEERING, _TOKENS = 0.1, 1.0  # usual strengths


@dataclass(frozen=True, slots=True)
class TokensFile:
    """TEXTUAL_INVERSION: a file of learned tokens."""

    path: Path


@dataclass(frozen=True, slots=True)
class VectorsFile:
    """STEERING_VECTORS: a file of steering vectors.

    Attributes:
        path: of the file.
        settings: mode, branch and blocks, as ``SteeringOptions`` names them.
    """

    path: Path
    settings: Mapping[str, Any] = field(default_factory=dict)


def steering_inputs() -> list[io.Input]:
    """The socket for steering vectors, and how strongly they act."""
    tip = "From SelVA Activation Steering Loader."
    return [
        STEERING_VECTORS.Input("steering_vectors", optional=True, tooltip=tip),
        strength("steering_strength", _STEERING, 2.0, of="steering_vectors"),
    ]


def token_inputs() -> list[io.Input]:
    """The socket for learned tokens, and how strongly they act."""
    tip = "From SelVA Textual Inversion Loader."
    return [
        TEXTUAL_INVERSION.Input("textual_inversion", optional=True, tooltip=tip),
        strength("ti_strength", _TOKENS, 1.0, of="textual_inversion"),
    ]


def apply_styles(model: Any, settings: Mapping[str, Any]) -> tuple[Any, dict[str, Any], list[str]]:
    """The model with what the style inputs of a node say; the given one stays as it is.

    Args:
        model: of a wire.
        settings: all that a node was given.

    Returns:
        The model, the settings of other inputs, and sentences about strengths of what is not connected.

    Raises:
        InputError: something else on a wire, or a strength that is none.
        CheckpointError: a file for another variant or other weights.
    """
    from ..tasks.style import with_steering, with_textual_inversion

    rest = dict(settings)
    vectors = _on_wire(rest.pop("steering_vectors", None), VectorsFile, "steering_vectors")
    tokens = _on_wire(rest.pop("textual_inversion", None), TokensFile, "textual_inversion")
    steering = {"steering_strength": rest.pop("steering_strength", _STEERING)}
    inversion = InversionOptions.parse(ti_strength=rest.pop("ti_strength", _TOKENS))
    notes = []
    if vectors is not None:
        model = with_steering(model, vectors.path, SteeringOptions.parse(**vectors.settings, **steering))
    elif SteeringOptions.parse(**steering).steering_strength != _STEERING:
        notes.append(_idle("steering_vectors", "steering_strength"))
    if tokens is not None:
        model = with_textual_inversion(model, tokens.path, inversion)
    elif inversion.ti_strength != _TOKENS:
        notes.append(_idle("textual_inversion", "ti_strength"))
    return model, rest, notes


def _on_wire(value: Any, kind: type, socket: str) -> Any:
    if value is None or isinstance(value, kind):
        return value
    loaders = {"steering_vectors": "Activation Steering", "textual_inversion": "Textual Inversion"}
    raise InputError(f"{socket} is {shown(value)}. Connect SelVA {loaders[socket]} Loader of this pack.")


def _idle(socket: str, widget: str) -> str:
    return f"Without effect, because nothing is connected to {socket}: {widget}."
