"""What users and other programs build on, as one file: a change to it is a change to the contract.

Write it anew with ``python -m pytest tests/surface --update-surface`` and look at the difference.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cyclopts import App

import selva_audio
from selva_audio import options
from selva_audio.cli.app import app
from selva_audio.configs import VARIANTS
from selva_audio.features import VideoFeatures, save_features
from selva_audio.options import FeatureOptions, GenerateOptions, OutputOptions
from selva_audio.tasks.recipe import build_recipe, short_recipe

RECORDED = Path(__file__).with_name("surface.json")


def commands(tree: App, prefix: str = "") -> dict[str, Any]:
    """Flags of every command: names, default, choices."""
    found: dict[str, Any] = {}
    for name in sorted(tree):
        if name.startswith("-"):
            continue
        command, path = tree[name], f"{prefix} {name}".strip()
        found |= commands(command, path)
        if command.default_command is None:
            continue
        found[path] = {}
        for argument in command.assemble_argument_collection(parse_docstring=False):
            field = argument.field_info
            label = ", ".join(argument.names) or field.name
            entry: dict[str, Any] = {}
            if argument.required:
                entry["required"] = True
            elif field.default is not inspect.Parameter.empty:
                entry["default"] = field.default
            if argument.get_choices():
                entry["choices"] = list(argument.get_choices())
            if argument.parse and not argument.children:
                found[path][label] = entry
    return found


def public_names() -> dict[str, Any]:
    """Name -> kind, and of a function its parameters with their defaults."""
    found: dict[str, Any] = {}
    for name in selva_audio.__all__:
        value = getattr(selva_audio, name)
        if inspect.isfunction(value):
            found[name] = [parameter(each) for each in inspect.signature(value).parameters.values()]
        else:
            found[name] = "class" if inspect.isclass(value) else type(value).__name__
    return found


def parameter(each: inspect.Parameter) -> str:
    name = each.name + (" (keyword)" if each.kind is each.KEYWORD_ONLY else "")
    if each.default is each.empty:
        return name
    return f"{name} = {getattr(each.default, '__name__', repr(each.default))}"


def option_fields() -> dict[str, Any]:
    """Field -> type, default, range and choices, without words."""
    found = {}
    for name in options.__all__:
        fields = getattr(options, name).model_json_schema().get("properties", {})
        found[name] = {
            field: {key: value for key, value in schema.items() if key not in ("title", "description")}
            for field, schema in fields.items()
        }
    return found


def keys_of(value: Any) -> Any:
    return {key: keys_of(each) for key, each in value.items()} if isinstance(value, dict) else None


def surface(model: Any, folder: Path) -> dict[str, Any]:
    features = VideoFeatures(torch.zeros(1, 1, 4), torch.zeros(1, 8, 4))
    with np.load(save_features(folder / "x.npz", features)) as arrays:
        npz = {key: str(arrays[key].dtype.kind) for key in arrays.files}
    parts = {"features": FeatureOptions(), "options": GenerateOptions(), "output": OutputOptions()}
    account = {"path": "", "sha256": ""}
    recipe = build_recipe(model, source=account, mask=account, **parts)
    return {
        "commands": commands(app),
        "public names": public_names(),
        "options": option_fields(),
        "variants": list(VARIANTS),
        "npz keys": npz,
        "recipe keys": keys_of(recipe | {"duration": 1.0, "take": 0}),
        "short recipe keys": sorted(json.loads(short_recipe(recipe, 0))),
    }


def test_the_public_surface_is_the_recorded_one(
    demo_model, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    found = json.loads(json.dumps(surface(demo_model, tmp_path), default=str))
    if request.config.getoption("--update-surface"):
        RECORDED.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    recorded = json.loads(RECORDED.read_text())
    for part in sorted({*found, *recorded}):
        assert found.get(part) == recorded.get(part), f"{part} changed; see the module's docstring"
