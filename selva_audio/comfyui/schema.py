"""Node inputs made from the option models: type, default, range, choices and tooltip.

``overrides`` is where a node differs from the model.
"""

import types
import typing
from pathlib import Path
from typing import Any, Literal

from annotated_types import Ge, Le, Lt
from comfy_api.latest import io
from pydantic.fields import FieldInfo

from ..options import Options
from .overrides import OVERRIDES

MODEL = io.Custom("SELVA_MODEL")
FEATURES = io.Custom("SELVA_FEATURES")
TEXTUAL_INVERSION = io.Custom("TEXTUAL_INVERSION")
STEERING_VECTORS = io.Custom("STEERING_VECTORS")
AUDIO_DATASET = io.Custom("AUDIO_DATASET")
VIDEO_INFO = io.Custom("VHS_VIDEOINFO")
AUDIO_PLAYER = io.Custom("AUDIO_UI")
MODEL_TIP = "From SelVA Model Loader."
DATASET_TIP = "From SelVA Dataset Loader or another dataset node."
PLAYER_TIP = "The player on the node; nothing to set."
MODELS_FIRST = "Relative: looked for in ComfyUI's models folder, then in output, its own folder and input."
OUTPUT_FIRST = "Relative: looked for in ComfyUI's output folder, then in models, its own folder and input."


def widgets(node: str, options: type[Options], *names: str, optional: bool = False) -> list[io.Input]:
    """Inputs for fields of an option model, in the order named."""
    return [widget(node, options, name, optional=optional) for name in names]


def widget(
    node: str, options: type[Options], name: str, *, field: str = "", optional: bool = False
) -> io.Input:
    """One input for a field of an option model; ``field`` names it where the input is called otherwise."""
    info = options.model_fields[field or name]
    kind, settings = _kind(info)
    settings = {"default": _default(info), "tooltip": info.description, **settings}
    settings |= OVERRIDES.get(node, {}).get(name, {})
    if "options" in settings and kind is io.String:
        kind = io.Combo
        del settings["multiline"]
    return kind.Input(name, optional=optional, **settings)


def filled(node: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with the node's own defaults where a prompt over HTTP left widgets out."""
    own = {name: each["default"] for name, each in OVERRIDES[node].items() if "default" in each}
    return own | settings


def strength(name: str, default: float, maximum: float, *, of: str) -> io.Input:
    """How strongly what comes in at the socket ``of`` is applied."""
    tip = f"How strongly {of} is applied."
    return io.Float.Input(name, optional=True, default=default, min=0.0, max=maximum, step=0.05, tooltip=tip)


def _kind(info: FieldInfo) -> tuple[Any, dict[str, Any]]:
    annotation = info.annotation
    if typing.get_origin(annotation) is Literal:
        return io.Combo, {"options": list(typing.get_args(annotation))}
    if annotation is bool:
        return io.Boolean, {}
    if annotation is str or _is_path(annotation):
        return io.String, {"multiline": False}
    number = float if annotation is float else int
    settings: dict[str, Any] = {}
    for limit in info.metadata:
        if isinstance(limit, Ge):
            settings["min"] = number(typing.cast(float, limit.ge))
        elif isinstance(limit, Le):
            settings["max"] = number(typing.cast(float, limit.le))
        elif isinstance(limit, Lt):
            settings["max"] = number(typing.cast(float, limit.lt)) - 1
    return (io.Float if number is float else io.Int), settings


def _is_path(annotation: Any) -> bool:
    return isinstance(annotation, types.UnionType) and Path in typing.get_args(annotation)


def _default(info: FieldInfo) -> Any:
    return "" if info.default is None else info.default
