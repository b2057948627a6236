"""Adapter files: ours, those of the public pack, plain safetensors, PEFT folders.

| form | what is on disk |
| --- | --- |
| pt | ``{"state_dict": {"<path>.lora_A": ...}, "meta": {...}}``, as users of the public pack have it |
| safetensors | the same tensors, the meta as JSON in the header |
| peft | a folder with ``adapter_model.safetensors`` and ``adapter_config.json`` |

Nothing is unpickled: a file that asks for more than tensors and plain values is refused.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import CheckpointError, InputError, MissingFileError, shown
from ..files import write_text
from ..options.adapter import lora_scale
from ..weights.io import read_metadata, read_object, read_state_dict, write_object, write_safetensors
from .algebra import plain, uniform
from .record import Adapter, Delta

Form = Literal["pt", "safetensors", "peft"]
HEADER_KEY = "selva_adapter"
PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

_PEFT_PREFIX = "base_model.model."
_FACTOR = re.compile(
    r"^(?P<path>.+)\.(?P<name>lora_A0|lora_B0|lora_A|lora_B|dora_m|lora_magnitude_vector)(\.\w+)?$"
)
_RESIDUAL = re.compile(r"^(?P<path>.+?)\.(?:(?:linear|base|base_layer)\.)?(?P<name>weight|bias)$")
_SHOWN = 3


def read_adapter(path: str | Path) -> Adapter:
    """An adapter from any of the forms, in float32 on the CPU.

    Args:
        path: a ``.pt`` or ``.safetensors`` file, or a PEFT folder or a file in it.

    Raises:
        MissingFileError: nothing is there.
        CheckpointError: not an adapter, damaged, or not safe to read.
    """
    path = Path(path)
    if path.is_dir():
        return _read_peft(path)
    if not path.is_file():
        raise MissingFileError(
            f"There is no adapter {path}. Give a .pt or .safetensors file, or a PEFT folder with "
            f"{PEFT_CONFIG}."
        )
    if path.name == PEFT_CONFIG or (path.name in PEFT_WEIGHTS and (path.parent / PEFT_CONFIG).is_file()):
        return _read_peft(path.parent)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return adapter_of(read_object(path), path)


def adapter_of(content: Any, path: Path) -> Adapter:
    """The adapter in the content of a ``.pt`` file; ``path`` is for messages.

    Raises:
        CheckpointError: no adapter.
    """
    if not isinstance(content, Mapping):
        raise _not_one(path, f"it holds a {type(content).__name__}")
    inner = content.get("state_dict")
    if not isinstance(inner, Mapping):
        return _assemble(path, content, {}, "plain")
    meta = content.get("meta", {})
    if not isinstance(meta, Mapping) or not all(isinstance(key, str) for key in meta):
        raise _not_one(path, f"its meta is {shown(meta)} where a mapping is needed")
    meta = dict(meta)
    if "steps" not in meta and isinstance(content.get("step"), int):
        meta["steps"] = content["step"]
    return _assemble(path, inner, meta, _origin(meta))


def write_adapter(path: str | Path, adapter: Adapter, form: Form | None = None) -> Path:
    """Write an adapter, whole or not at all.

    In ``pt`` and ``safetensors`` everything is kept, offsets of PiSSA included. PEFT takes plain changes, so
    that an offset is turned into one of at most twice the rank.

    Args:
        path: file, or folder for "peft".
        adapter: without residual weights; see ``residual.resolved``.
        form: None goes by the ending: .pt, .safetensors, none for "peft".

    Returns:
        The path.

    Raises:
        InputError: an ending that is none of them, or residual weights.
        OutputError: the place cannot be written.
    """
    path = Path(path)
    form = form or form_of(path)
    if adapter.residuals:
        raise InputError(
            "The adapter holds weights of its base. Give the variant, so that they are taken out."
        )
    if form == "peft":
        _write_peft(path, adapter)
    elif form == "pt":
        write_object(path, content_of(adapter))
    else:
        write_safetensors(path, _tensors(adapter), {HEADER_KEY: json.dumps(file_meta(adapter), default=str)})
    return path


def content_of(adapter: Adapter) -> dict[str, Any]:
    """What a ``.pt`` file of an adapter holds."""
    return {"state_dict": _tensors(adapter), "meta": file_meta(adapter)}


def form_of(path: Path) -> Form:
    """Form that the ending of an output asks for.

    Raises:
        InputError: another ending.
    """
    forms: dict[str, Form] = {".pt": "pt", ".safetensors": "safetensors", "": "peft"}
    if path.suffix not in forms:
        raise InputError(
            f"{path.name} ends in {path.suffix}. Adapters end in .pt or .safetensors; a name without an "
            "ending makes a PEFT folder."
        )
    return forms[path.suffix]


def file_meta(adapter: Adapter) -> dict[str, Any]:
    """The meta of a file: always with variant, rank, alpha, target and steps, and true to the tensors."""
    ranks = {path: delta.rank for path, delta in adapter.deltas.items()}
    rank = adapter.rank
    use_rslora = bool(adapter.meta.get("use_rslora", False))
    # alpha of each layer such that the scale is what it is.
    alphas = {
        path: delta.scale / lora_scale(1.0, delta.rank, use_rslora=use_rslora)
        for path, delta in adapter.deltas.items()
    }
    alpha = next(alphas[path] for path, each in ranks.items() if each == rank)
    has_offset = any(delta.a0 is not None for delta in adapter.deltas.values())
    meta = {
        **adapter.meta,
        "format_version": 2,
        "variant": adapter.variant,
        "rank": rank,
        "alpha": alpha,
        "target": adapter.meta.get("target") or sorted({_ending(path) for path in adapter.deltas}),
        "steps": adapter.meta.get("steps", 0),
        "use_rslora": use_rslora,
        "init_mode": "pissa" if has_offset else "standard",
        "clip_conditioning": "on" if adapter.clip_conditioning else "off",
    }
    if adapter.origin != "selva":
        meta["origin"] = adapter.origin
    patterns = {
        "rank_pattern": {path: each for path, each in ranks.items() if each != rank},
        "alpha_pattern": {
            path: each for path, each in alphas.items() if abs(each - alpha) > 1e-9 * abs(alpha)
        },
    }
    for name, pattern in patterns.items():
        meta.pop(name, None)
        if pattern:
            meta[name] = pattern
    return meta


def _origin(meta: Mapping[str, Any]) -> str:
    return str(meta.get("origin", "selva")) if "format_version" in meta else "pack"


def _read_safetensors(path: Path) -> Adapter:
    header = read_metadata(path).get(HEADER_KEY)
    if header is not None:
        meta = _json(path, header)
        return _assemble(path, read_state_dict(path), meta, _origin(meta))
    beside = path.with_name(f"{path.stem}_config.json")
    meta = _peft_meta(_json(beside, _text(beside))) if beside.is_file() else {}
    return _assemble(path, read_state_dict(path), meta, "plain")


def _read_peft(folder: Path) -> Adapter:
    config = folder / PEFT_CONFIG
    weights = next((folder / name for name in PEFT_WEIGHTS if (folder / name).is_file()), None)
    if not config.is_file() or weights is None:
        raise MissingFileError(f"{folder} is no PEFT folder: it needs {PEFT_CONFIG} and {PEFT_WEIGHTS[0]}.")
    values = _json(config, _text(config))
    kind = values.get("peft_type", "LORA")
    if kind != "LORA":
        raise CheckpointError(f"{config} is of a {shown(kind)} adapter; LORA is the one kind that is read.")
    is_ours = weights.suffix == ".safetensors" and HEADER_KEY in read_metadata(weights)
    meta = _peft_meta(values) | (_json(weights, read_metadata(weights)[HEADER_KEY]) if is_ours else {})
    return _assemble(weights, read_state_dict(weights), meta, "peft")


def _peft_meta(values: Mapping[str, Any]) -> dict[str, Any]:
    """Our names for what a PEFT (or PrismAudio) configuration tells."""
    target = values.get("target_modules") or []
    return {
        "variant": values.get("base_model_name_or_path") or "",
        "rank": values.get("r", values.get("rank")),
        "alpha": values.get("lora_alpha", values.get("alpha")),
        "target": [target] if isinstance(target, str) else list(target),
        "use_rslora": bool(values.get("use_rslora", False)),
        "rank_pattern": values.get("rank_pattern") or {},
        "alpha_pattern": values.get("alpha_pattern") or {},
    }


def _assemble(path: Path, state: Mapping[Any, Any], meta: dict[str, Any], origin: str) -> Adapter:
    """Sort tensors by layer, check them, and find the scale of each layer."""
    factors, rest = _sorted(path, state)
    if not factors:
        raise _not_one(path, "no key of it ends in lora_A or lora_B")
    residuals: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    unknown = []
    for key, tensor in rest.items():
        match = _RESIDUAL.match(key)
        if match is None or match["path"] not in factors:
            unknown.append(key)
        else:
            (residuals if match["name"] == "weight" else biases)[match["path"]] = tensor
    if unknown:
        more = ", ..." if len(unknown) > _SHOWN else ""
        raise _not_one(
            path, f"it has {len(unknown)} keys of another kind ({', '.join(unknown[:_SHOWN])}{more})"
        )
    deltas = {module: _delta(path, module, tensors, meta) for module, tensors in sorted(factors.items())}
    adapter = Adapter(deltas, meta, residuals, biases, origin)
    if "rank" not in meta or meta["rank"] is None:
        meta["rank"] = adapter.rank
    return adapter


def _sorted(path: Path, state: Mapping[Any, Any]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Module -> name -> tensor for what belongs to a change, and key -> tensor for the rest."""
    factors: dict[str, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise _not_one(path, f"it holds a {type(value).__name__} under {shown(key)}")
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{path}: {key} holds numbers that are not finite, or no fractions. The training it comes "
                "from failed; use an earlier step."
            )
        tensor = value.detach().to(device="cpu", dtype=torch.float32)
        inner = key.removeprefix(_PEFT_PREFIX).removesuffix(".weight")
        match = _FACTOR.match(inner)
        if match is None:
            rest[key.removeprefix(_PEFT_PREFIX)] = tensor
        else:
            name = "dora_m" if match["name"] == "lora_magnitude_vector" else match["name"]
            factors.setdefault(match["path"], {})[name] = tensor
    return factors, rest


def _delta(path: Path, module: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Delta:
    missing = [name for name in ("lora_A", "lora_B") if name not in tensors]
    if missing or ("lora_A0" in tensors) != ("lora_B0" in tensors):
        raise _not_one(path, f"{module} has {', '.join(tensors)} alone; matrices come in pairs")
    a = tensors["lora_A"]
    b = tensors["lora_B"].flatten(1) if tensors["lora_B"].ndim == 3 else tensors["lora_B"]
    rank = a.shape[0] if a.ndim else 0
    if a.ndim not in (2, 3) or b.ndim != 2 or b.shape[1] != rank or 0 in (*a.shape, *b.shape):
        raise _not_one(
            path, f"the shapes of {module}, {tuple(a.shape)} and {tuple(b.shape)}, do not multiply"
        )
    a0, b0 = tensors.get("lora_A0"), tensors.get("lora_B0")
    if a0 is not None and b0 is not None and (a0.shape != a.shape or b0.shape != b.shape):
        raise _not_one(path, f"the start of {module} has another shape than its values")
    magnitude = tensors.get("dora_m")
    if magnitude is not None and magnitude.numel() != b.shape[0]:
        raise _not_one(path, f"the lengths of {module} are {magnitude.numel()} where {b.shape[0]} are needed")
    told = _number(path, meta, "rank", module, rank)
    if told != rank:
        raise _not_one(path, f"{module} has rank {rank} where its meta tells {told:g}")
    # Files of the first version leave alpha out where it is the rank.
    alpha = _number(path, meta, "alpha", module, rank)
    scale = lora_scale(alpha, rank, use_rslora=bool(meta.get("use_rslora", False)))
    return Delta(a, b, scale, a0, b0, None if magnitude is None else magnitude.flatten())


def _number(path: Path, meta: Mapping[str, Any], name: str, module: str, default: float) -> float:
    """Rank or alpha of one module: by pattern, else the file's."""
    pattern = meta.get(f"{name}_pattern") or {}
    if not isinstance(pattern, Mapping):
        raise _not_one(path, f"its {name}_pattern is {shown(pattern)} where a mapping is needed")
    value = next(
        (each for key, each in pattern.items() if module == key or module.endswith(f".{key}")), meta.get(name)
    )
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise _not_one(path, f"its {name} is {shown(value)} where a positive number is needed")
    return float(value)


def _tensors(adapter: Adapter) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path, delta in adapter.deltas.items():
        parts = {
            "lora_A": delta.a,
            "lora_B": delta.b,
            "lora_A0": delta.a0,
            "lora_B0": delta.b0,
            "dora_m": delta.magnitude,
        }
        tensors |= {f"{path}.{name}": each.contiguous() for name, each in parts.items() if each is not None}
    return tensors


def _write_peft(folder: Path, adapter: Adapter) -> None:
    if folder.is_file():
        raise InputError(f"{folder} is a file. PEFT adapters are folders; choose another name.")
    has_magnitudes = any(delta.magnitude is not None for delta in adapter.deltas.values())
    ready = uniform(adapter if has_magnitudes else plain(adapter))
    if any(delta.a0 is not None for delta in ready.deltas.values()):
        raise InputError("PEFT has no form for DoRA that starts from PiSSA. Write .pt or .safetensors.")
    tensors: dict[str, Tensor] = {}
    for path, delta in ready.deltas.items():
        name = _PEFT_PREFIX + path
        tensors[f"{name}.lora_A.weight"] = delta.a.contiguous()
        tensors[f"{name}.lora_B.weight"] = delta.b[:, :, None] if delta.a.ndim == 3 else delta.b
        if delta.magnitude is not None:
            tensors[f"{name}.lora_magnitude_vector"] = (
                delta.magnitude[None, :, None] if delta.a.ndim == 3 else delta.magnitude
            )
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": ready.variant or None,
        "r": ready.rank,
        "lora_alpha": next(iter(ready.deltas.values())).scale * ready.rank,
        "target_modules": list(ready.deltas),
        "use_rslora": False,
        "use_dora": has_magnitudes,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    # In the header of the weights: PEFT warns of keys in its configuration that it does not know.
    kept = {key: ready.meta[key] for key in ("steps", "clip_conditioning") if key in ready.meta}
    write_safetensors(
        folder / PEFT_WEIGHTS[0], tensors, {HEADER_KEY: json.dumps({"clip_conditioning": "on"} | kept)}
    )
    write_text(folder / PEFT_CONFIG, json.dumps(config, indent=2) + "\n")


def _ending(path: str) -> str:
    """Last name of a path, with the one above it where that says more."""
    return ".".join(path.split(".")[-2:]) if ".attn." in path or ".ffn." in path else path.split(".")[-1]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as text ({error}). Make the adapter anew.") from error


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"The account in {path} is no JSON ({error}). Make the adapter anew."
        ) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"The account in {path} is {shown(values)} where an object is needed.")
    return values


def _not_one(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a LoRA adapter as we know them: {reason}. Give a file that a LoRA trainer wrote."
    )
