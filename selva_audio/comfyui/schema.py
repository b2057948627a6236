"""Node inputs made from the option models: type, default, range, choices and tooltip.

``OVERRIDES`` is where a node differs from the model: what saved workflows use (defaults, ranges) wins here.
"""

import types
import typing
from pathlib import Path
from typing import Any, Literal

from annotated_types import Ge, Le, Lt
from comfy_api.latest import io
from pydantic.fields import FieldInfo

from ..configs import VARIANTS
from ..options import Options

MODEL = io.Custom("SELVA_MODEL")
FEATURES = io.Custom("SELVA_FEATURES")
TEXTUAL_INVERSION = io.Custom("TEXTUAL_INVERSION")
STEERING_VECTORS = io.Custom("STEERING_VECTORS")
VIDEO_INFO = io.Custom("VHS_VIDEOINFO")
AUDIO_PLAYER = io.Custom("AUDIO_UI")
PLAYER_TIP = "The player on the node; nothing to set."

_MAX_SEED = 2**32 - 1
_Overrides = dict[str, dict[str, Any]]

_SAMPLING: _Overrides = {
    "duration": {"max": 30.0, "step": 0.1},
    "steps": {"max": 200},
    "cfg_strength": {"min": 1.0, "max": 20.0, "step": 0.1},
    "seed": {"max": _MAX_SEED, "control_after_generate": True},
    "takes": {"max": 16, "tooltip": "How many different sounds to make; they come as one AUDIO batch."},
    "target_lufs": {"min": -40.0, "max": -6.0, "step": 1.0},
    "true_peak_ceiling": {"step": 0.5},
}
_LOOKING: _Overrides = {
    "duration": {"max": 30.0, "step": 0.1},
    "start": {"max": 600.0, "step": 0.1},
    "mask_strength": {"step": 0.05},
    "fps": {
        "default": 30.0,
        "min": 1.0,
        "max": 120.0,
        "step": 0.001,
        "tooltip": "Frames per second of an IMAGE batch; a VIDEO and video_info bring their own.",
    },
    "cache_dir": {
        "tooltip": "Folder for feature files; relative: below the output folder; empty: selva/cache there."
    },
}
_MIXING: _Overrides = {
    "original_gain_db": {"step": 0.5},
    "duck_db": {"step": 0.5},
}
# Node -> input -> what differs from the option model of that name.
OVERRIDES: dict[str, _Overrides] = {
    "SelvaModelLoader": {
        # "demo_16k" last: it is for trying out, and never taken silently.
        "variant": {"options": [*(name for name in VARIANTS if name != "demo_16k"), "demo_16k"]},
    },
    "SelvaFeatureExtractor": {
        **_LOOKING,
        "prompt": {
            "multiline": True,
            "tooltip": "Names the source to hear. It shapes which motion the model listens to; the sampler's "
            "prompt shapes which sound is made. They should agree: connect the prompt output there.",
        },
    },
    "SelvaSampler": {
        **_SAMPLING,
        "prompt": {
            "multiline": True,
            "tooltip": "Says which sound is made; empty takes the extractor's. The extractor's prompt shapes "
            "which motion is heard. They should agree.",
        },
    },
    "SelvaFoley": {
        **_LOOKING,
        **_SAMPLING,
        **_MIXING,
        "prompt": {
            "multiline": True,
            "tooltip": "Names the source to hear, such as 'a dog barking'. It shapes which motion is heard "
            "and which sound is made.",
        },
    },
    "SelvaHfSmoother": {
        "cutoff_hz": {"step": 500.0},
        "blend": {"step": 0.05},
        "transition_hz": {"step": 100.0},
    },
    "SelvaSpectralMatcher": {"strength": {"step": 0.05}, "max_gain_db": {"step": 1.0}},
    "SelvaHarmonicExciter": {
        "cutoff_hz": {"step": 100.0},
        "drive": {"step": 0.5},
        "mix": {"step": 0.05},
    },
    "SelvaOutputNormalizer": {
        "target_lufs": {"min": -40.0, "max": -6.0, "step": 0.5},
        "true_peak_dbtp": {"min": -6.0, "step": 0.5},
    },
    "SelvaMux": {
        **_MIXING,
        "fps": _LOOKING["fps"],
    },
}


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
