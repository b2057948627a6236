"""Adapters as files: tell about them, merge, convert, resize, and put them into a loaded model."""

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ..adapters import (
    Adapter,
    adapt,
    concatenate,
    plain,
    read_adapter,
    resize,
    resolved,
    strengths,
    write_adapter,
)
from ..adapters import merge as merge_into
from ..adapters.extract import extract
from ..adapters.formats import PEFT_CONFIG, PEFT_WEIGHTS, file_meta, form_of
from ..adapters.inject import check_fits
from ..adapters.inspect import compare_changes, report_layer
from ..adapters.intruders import Reduction, find_intruders, reduce_intruders
from ..adapters.targets import adaptable_layers
from ..bundle import SelVAModel
from ..configs import VARIANTS, get_config
from ..errors import CheckpointError, InputError
from ..files import file_digest
from ..models.generator import Generator
from ..progress import Progress, ProgressFn, ignore_progress
from ..weights import load_component
from ..weights.io import read_state_dict, write_safetensors
from ..weights.store import WeightStore

logger = logging.getLogger(__name__)

MERGED_KEY = "selva_merged"


def adapter_info(
    path: str | Path,
    *,
    variant: str | None = None,
    models_dir: str | Path | None = None,
    intruders: bool = False,
    on_progress: ProgressFn = ignore_progress,
) -> dict[str, Any]:
    """What an adapter file holds.

    Args:
        path: a file or a PEFT folder.
        variant: base to compare with; None tells what the file alone shows.
        models_dir: folder with the weight files, looked at first.
        intruders: also count intruder dimensions with their control; needs the base, and takes a while.
        on_progress: progress and cancel.

    Raises:
        InputError: ``intruders`` without a variant.
        CheckpointError: no adapter, or of another model.
    """
    adapter = read_adapter(path)
    if intruders and variant is None:
        raise InputError("Intruder dimensions are measured against the base. Give its --variant too.")
    needs_base = bool(adapter.residuals)
    layers: dict[str, Any] = {}
    if variant is not None:
        base = load_generator(variant, models_dir, on_progress)
        check_fits(base, adapter)
        adapter = resolved(adapter, base)
        layers = adaptable_layers(base)
    rows = []
    for number, (name, delta) in enumerate(adapter.deltas.items()):
        on_progress(Progress("layers", number, len(adapter.deltas)))
        weight = layers[name].weight if name in layers else None
        row = asdict(report_layer(name, delta, None if needs_base and weight is None else weight))
        if needs_base and weight is None:
            row |= {"norm": None, "stable_rank": None}
        if intruders:
            row["intruders"] = asdict(find_intruders(layers[name].weight, delta, path=name))
        rows.append(row)
    norms = [row["norm"] for row in rows]
    return {
        "path": str(path),
        "origin": adapter.origin,
        "variant": adapter.variant,
        "rank": adapter.rank,
        "targets": file_meta(adapter)["target"],
        "layers": len(rows),
        "parameters": sum(delta.a.numel() + delta.b.numel() for delta in adapter.deltas.values()),
        "norm": None if None in norms else math.hypot(*norms),
        "clip_conditioning": "on" if adapter.clip_conditioning else "off",
        "needs_base": needs_base,
        "meta": adapter.meta,
        "notes": list(adapter.notes),
        "modules": rows,
    }


def merge_adapters(
    paths: Sequence[str | Path],
    output: str | Path,
    *,
    strength: Sequence[float] = (),
    into: Literal["weights", "adapter"] = "weights",
    rank: int | None = None,
    variant: str | None = None,
    models_dir: str | Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> dict[str, Any]:
    """Put adapters into the weights of a generator, or several adapters into one.

    Args:
        paths: adapters of one variant.
        output: .safetensors for weights; for an adapter as ``convert_adapter``.
        strength: one for each adapter, or one for all; none means 1.
        into: "weights" writes a whole generator file; "adapter" one adapter whose rank is the sum of theirs.
        rank: largest rank of a layer of such an adapter; None keeps the sum, which loses nothing.
        variant: the base; None takes what the files tell.
        models_dir: folder with the weight files, looked at first.
        on_progress: progress and cancel.

    Raises:
        InputError: nothing to merge, a wrong number of strengths, an output that is an input.
        CheckpointError: an adapter that does not fit.
    """
    if not paths:
        raise InputError("There is nothing to merge. Give one adapter at least.")
    if rank is not None and into == "weights":
        raise InputError("Whole weights have no rank. Leave --rank out, or merge --into adapter.")
    output = _output(output, paths)
    amounts = strengths(paths, strength)
    adapters = [read_adapter(path) for path in paths]
    account = [
        {"file": Path(path).name, "sha256": adapter_digest(path), "strength": amount}
        for path, amount in zip(paths, amounts, strict=True)
    ]
    if into == "adapter":
        form_of(output)
        ready = [_without_residuals(each, variant, models_dir, on_progress) for each in adapters]
        joined = concatenate(ready, amounts)
        joined = replace(joined, meta={**joined.meta, "merged_from": account})
        joined, kept = (joined, []) if rank is None else resize(joined, rank)
        write_adapter(output, joined)
        told = {"output": str(output), "into": into, "rank": joined.rank, "layers": len(joined.deltas)}
        return told | {"least_energy": min((each.energy for each in kept), default=1.0)}
    if output.suffix != ".safetensors":
        raise InputError(f"{output.name} must end in .safetensors: that is how whole weights are written.")
    variant = _variant(adapters, variant)
    base = load_generator(variant, models_dir, on_progress)
    state = merge_into(base, adapters, amounts)
    before = base.state_dict()
    changed = [key for key, tensor in state.items() if not torch.equal(tensor, before[key])]
    told = {"variant": variant, "adapters": account}
    write_safetensors(output, state, {MERGED_KEY: json.dumps(told)})
    return {"output": str(output), "into": into, "variant": variant, "changed": changed}


def convert_adapter(
    path: str | Path,
    output: str | Path,
    *,
    intruder_strength: float | None = None,
    variant: str | None = None,
    models_dir: str | Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> dict[str, Any]:
    """Write an adapter in another form, as plain LoRA where it is not DoRA.

    Args:
        path: a file or a PEFT folder.
        output: .pt, .safetensors, or a name without ending for a PEFT folder.
        intruder_strength: what intruder dimensions keep of their strength, 0 takes them out; needs the base,
            and makes DoRA plain. None leaves the change as it is.
        variant: the base, where it is needed; None takes what the file tells.
        models_dir: folder with the weight files, looked at first.
        on_progress: progress and cancel.

    Raises:
        InputError: an ending that is none of them, an output that is the input, or a strength that is none.
        CheckpointError: no adapter.
    """
    output = _output(output, [path])
    form = form_of(output)
    adapter = read_adapter(path)
    reduced: list[Reduction] = []
    if intruder_strength is None:
        adapter = _without_residuals(adapter, variant, models_dir, on_progress)
    else:
        if not 0 <= intruder_strength <= 1:
            raise InputError(f"The strength {intruder_strength} of intruders is no share. Give 0 to 1.")
        base = load_generator(_variant([adapter], variant), models_dir, on_progress)
        adapter, reduced = reduce_intruders(base, adapter, intruder_strength)
    if not any(delta.magnitude is not None for delta in adapter.deltas.values()):
        adapter = plain(adapter)
    write_adapter(output, adapter)
    return {
        "output": str(output),
        "form": form,
        "rank": adapter.rank,
        "layers": len(adapter.deltas),
        "notes": list(adapter.notes),
        "reduced": [asdict(each) for each in reduced if each.intruders],
    }


def resize_adapter(
    path: str | Path,
    output: str | Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    variant: str | None = None,
    models_dir: str | Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> dict[str, Any]:
    """Write the best approximation of an adapter at a lower rank, and tell what each layer keeps.

    Args:
        path: a file or a PEFT folder.
        output: as ``convert_adapter``.
        rank: largest rank of a layer.
        energy: share of the energy that each layer keeps at least, while ``rank`` allows.
        variant: base of a residual PiSSA file; None takes what the file tells.
        models_dir: folder with the weight files, looked at first.
        on_progress: progress and cancel.

    Raises:
        InputError: neither rank nor energy, or a DoRA adapter.
        CheckpointError: no adapter.
    """
    output = _output(output, [path])
    form_of(output)
    adapter = _without_residuals(read_adapter(path), variant, models_dir, on_progress)
    smaller, kept = resize(adapter, rank, energy=energy)
    write_adapter(output, smaller)
    modules = [{**asdict(each), "relative_error": each.relative_error} for each in kept]
    return {
        "output": str(output),
        "rank_before": adapter.rank,
        "rank": smaller.rank,
        "least_energy": min(each.energy for each in kept),
        "modules": modules,
    }


def compare_adapters(
    first: str | Path,
    second: str | Path,
    *,
    variant: str | None = None,
    models_dir: str | Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> dict[str, Any]:
    """How unlike the changes of two adapters are: as a whole, and in each layer.

    Args:
        first: a file or a PEFT folder.
        second: likewise.
        variant: base of residual PiSSA files; None takes what they tell.
        models_dir: folder with the weight files, looked at first.
        on_progress: progress and cancel.

    Returns:
        ``relative_difference`` is the norm of the difference over that of the first; ``cosine`` is 1 for
        changes of one direction, and None where one of the two changes nothing.

    Raises:
        InputError: DoRA, or adapters of different models.
        CheckpointError: no adapter.
    """
    ready = [
        _without_residuals(read_adapter(path), variant, models_dir, on_progress) for path in (first, second)
    ]
    rows = compare_changes(*ready)
    norms = [math.hypot(*(row.norms[place] for row in rows)) for place in (0, 1)]
    difference = math.hypot(*(row.difference for row in rows))
    product = (norms[0] ** 2 + norms[1] ** 2 - difference**2) / 2
    return {
        "first": str(first),
        "second": str(second),
        "norms": norms,
        "relative_difference": difference / norms[0] if norms[0] else None,
        "cosine": product / (norms[0] * norms[1]) if all(norms) else None,
        "modules": [asdict(row) for row in rows],
    }


def extract_adapter(
    path: str | Path,
    output: str | Path,
    *,
    variant: str,
    rank: int = 64,
    models_dir: str | Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> dict[str, Any]:
    """Make an adapter of what a full fine-tuning of a generator changed.

    Args:
        path: the tuned generator as a whole: .safetensors, or .pth as published.
        output: as ``convert_adapter``.
        variant: the base that it was tuned from.
        rank: largest rank of a layer.
        models_dir: folder with the weight files, looked at first.
        on_progress: progress and cancel.

    Raises:
        InputError: nothing differs, a rank under 1, or an output that is the input.
        MissingFileError, CheckpointError: no file, or not of this variant.
    """
    output = _output(output, [path])
    form_of(output)
    path = Path(path)
    tuned = load_component("generator", variant, read_state_dict(path)).state_dict()
    base = load_generator(variant, models_dir, on_progress)
    on_progress(Progress("extracting", 0, 1))
    found = extract(base, tuned, rank)
    told = {"extracted_from": {"file": path.name, "sha256": file_digest(path)}}
    uses_clip = "on" if get_config(variant).clip_conditioning else "off"
    meta = {"format_version": 2, "variant": variant, "clip_conditioning": uses_clip, **told}
    write_adapter(output, replace(found.adapter, meta=meta))
    return {
        "output": str(output),
        "rank": found.adapter.rank,
        "layers": len(found.adapter.deltas),
        "least_energy": min(each.energy for each in found.kept),
        "left_out": list(found.left_out),
        "modules": [{**asdict(each), "relative_error": each.relative_error} for each in found.kept],
    }


def with_adapters(
    model: SelVAModel, paths: Sequence[str | Path], strength: Sequence[float] = ()
) -> SelVAModel:
    """A model with adapters in its generator; the given one, and all base tensors, stay as they are.

    Args:
        model: bundle of ``load_model``.
        paths: adapters, which add up in any order.
        strength: one for each, or one for all; none means 1; may be negative.

    Raises:
        MissingFileError: an adapter is not there.
        CheckpointError: an adapter that cannot be read, or of another variant.
        InputError: a wrong number of strengths.
    """
    if not paths:
        if strength:
            raise InputError("A strength was given without an adapter. Give --adapter too, or leave it out.")
        return model
    amounts = strengths(paths, strength)
    adapters = [read_adapter(path) for path in paths]
    with torch.device("meta"):
        shapes = Generator(model.config.generator)
    for path, adapter in zip(paths, adapters, strict=True):
        if adapter.variant and adapter.variant != model.config.name:
            raise CheckpointError(
                f"{path} was trained on {adapter.variant}, and this is {model.config.name}. Choose that "
                "variant, or another adapter."
            )
        check_fits(shapes, adapter)
        for note in adapter.notes:
            logger.warning("%s: %s", path, note)

    def build(generator: Generator) -> Generator:
        for adapter, amount in zip(adapters, amounts, strict=True):
            generator = adapt(generator, adapter, amount)
        return generator

    accounts = [
        {"path": str(Path(path).absolute()), "sha256": adapter_digest(path), "strength": amount}
        for path, amount in zip(paths, amounts, strict=True)
    ]
    return model.adapted(
        build, accounts, clip_conditioning=any(adapter.clip_conditioning for adapter in adapters)
    )


def describe_adapter(path: str | Path) -> str:
    """What an adapter is and what to know before trusting it, in a line or two."""
    adapter = read_adapter(path)
    origin = f"trained on {adapter.variant}" if adapter.variant else "of a model that it does not tell"
    steps = adapter.meta.get("steps")
    told = [f"rank {adapter.rank} on {len(adapter.deltas)} layers", origin, f"{steps} steps" if steps else ""]
    return "\n".join([", ".join(filter(None, told)), *adapter.notes])


def adapter_digest(path: str | Path) -> str:
    """SHA-256 of an adapter file; of a PEFT folder, over those of its account and its weights."""
    path = Path(path)
    if not path.is_dir():
        return file_digest(path)
    parts = [path / name for name in (PEFT_CONFIG, *PEFT_WEIGHTS) if (path / name).is_file()]
    return hashlib.sha256("".join(map(file_digest, parts)).encode()).hexdigest()


def load_generator(
    variant: str, models_dir: str | Path | None = None, on_progress: ProgressFn = ignore_progress
) -> Generator:
    """The generator of a variant alone, in float32 on the CPU.

    Raises:
        InputError: unknown variant.
        MissingFileError: its file is nowhere.
    """
    config = get_config(variant)
    store = WeightStore(models_dir, on_progress=on_progress)
    state = store.read(config.files["generator"], "generator", config)
    module = load_component("generator", config, state).requires_grad_(False)
    assert isinstance(module, Generator)
    return module


def _without_residuals(
    adapter: Adapter, variant: str | None, models_dir: str | Path | None, on_progress: ProgressFn
) -> Adapter:
    """The adapter as a change; only a residual file needs the base for that."""
    if not adapter.residuals:
        return adapter
    base = load_generator(_variant([adapter], variant), models_dir, on_progress)
    check_fits(base, adapter)
    return resolved(adapter, base)


def _variant(adapters: Sequence[Adapter], given: str | None) -> str:
    """The base: as given, or as all files tell.

    Raises:
        InputError: the files tell none, or several.
        CheckpointError: one was trained on another variant than the given one.
    """
    told = {adapter.variant for adapter in adapters if adapter.variant}
    if given is not None:
        if told - {given}:
            raise CheckpointError(
                f"An adapter was trained on {', '.join(sorted(told - {given}))}, not on {given}. "
                "Choose its variant."
            )
        return given
    if len(told) != 1 or not told <= set(VARIANTS):
        found = f"they tell {', '.join(sorted(told))}" if told else "they do not tell it"
        raise InputError(f"The variant of the adapters is needed, and {found}. Give --variant.")
    return told.pop()


def _output(output: str | Path, inputs: Sequence[str | Path]) -> Path:
    output = Path(output)
    if any(output.absolute() == Path(path).absolute() for path in inputs):
        raise InputError(f"{output} is an input; inputs are never changed. Choose another output.")
    return output
