"""Adapters in a generator: a new generator that shares every tensor of the base, which stays as it is."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, InputError
from ..models.generator import Generator
from ..options.adapter import AdapterOptions
from .layers import Adapted, LowRank, stable_seed
from .record import Adapter, Delta
from .residual import resolved
from .targets import TargetReport, adaptable_layers, select_targets, target_names

Some = TypeVar("Some", bound=nn.Module)
_SHOWN = 4


def adapt(generator: Generator, adapter: Adapter, strength: float = 1.0) -> Generator:
    """A generator with one more adapter; the given one is left as it is and shares its tensors.

    Args:
        generator: base, or already adapted: changes add up, in any order.
        adapter: as read from a file.
        strength: factor on the change; may be negative, and 0 gives the base's output, bit for bit.

    Raises:
        CheckpointError: layers that the generator lacks, or of another size.
        InputError: a strength that is no number.
    """
    (strength,) = strengths([adapter], [strength])
    check_fits(generator, adapter)
    adapter = resolved(adapter, generator)
    new = share(generator)
    for path, delta in adapter.deltas.items():
        layer = LowRank(delta, strength=strength, path=path).requires_grad_(False).eval()
        _attach(new, path, layer)
    return new


def inject(generator: Generator, options: AdapterOptions) -> tuple[Generator, TargetReport]:
    """A generator with a new adapter to be trained; nothing else in it wants gradients.

    Args:
        generator: the base.
        options: targets, rank, scale, start, dropout.

    Returns:
        The generator, and what the targets matched.

    Raises:
        InputError: a target that matches nothing, or a rank over what PiSSA can take from a layer.
    """
    report = select_targets(generator, options.target)
    layers = adaptable_layers(generator)
    new = share(generator)
    dropout = (options.lora_dropout, options.rank_dropout, options.module_dropout)
    for target in report.targets:
        weight = cast(Tensor, layers[target.path].weight)
        delta = initial_delta(weight, target.path, options)
        _attach(new, target.path, LowRank(delta, dropout=dropout, path=target.path))
    return new, report


def initial_delta(weight: Tensor, path: str, options: AdapterOptions) -> Delta:
    """Starting values for one layer; they change nothing yet. Other layers have no influence on them.

    Raises:
        InputError: PiSSA with a rank over that of the weight.
    """
    base = weight.detach().float().cpu()
    magnitude = base.flatten(1).norm(dim=1) if options.use_dora else None
    if options.init_mode == "pissa":
        a, b = principal_factors(base, options.rank, options.scale, path)
        return Delta(a, b, options.scale, a.clone(), b.clone(), magnitude)
    random = torch.Generator("cpu").manual_seed(stable_seed(options.seed, path))
    bound = 1 / math.sqrt(base[0].numel())
    a = torch.empty(options.rank, *base.shape[1:]).uniform_(-bound, bound, generator=random)
    return Delta(a, torch.zeros(base.shape[0], options.rank), options.scale, magnitude=magnitude)


def principal_factors(weight: Tensor, rank: int, scale: float, path: str = "") -> tuple[Tensor, Tensor]:
    """A and B whose product, times the scale, is the best approximation of the weight of this rank.

    Source: PiSSA (arXiv:2404.02948), with the scale divided out of both factors. The largest entry of each
    left vector is positive, so that a start can be had again.
    """
    flat = weight.flatten(1)
    if rank > min(flat.shape):
        raise InputError(
            f"PiSSA cannot take rank {rank} from {path or 'a layer'}, whose weight has rank "
            f"{min(flat.shape)}. Choose a lower rank, or leave the layer out."
        )
    u, s, vh = torch.linalg.svd(flat, full_matrices=False)
    u, s, vh = u[:, :rank], s[:rank], vh[:rank]
    signs = u.gather(0, u.abs().argmax(dim=0, keepdim=True)).sign()
    root = (s / scale).sqrt()
    a = (root[:, None] * vh * signs.T).reshape(rank, *weight.shape[1:])
    return a.contiguous(), (u * signs * root).contiguous()


def collect(generator: nn.Module, meta: Mapping[str, Any]) -> Adapter:
    """The adapter being trained, as numbers; ``meta`` is of ``adapter_meta``."""
    deltas = {layer.path: layer.delta() for layer in _trained(generator)}
    if not deltas:
        raise InputError("There is no adapter to be trained in this generator. Make one with inject().")
    return Adapter(deltas, dict(meta))


def adapter_meta(options: AdapterOptions, *, variant: str, steps: int, **more: Any) -> dict[str, Any]:
    """What a file tells about an adapter; ``more`` takes plain values such as ``clip_conditioning="off"``."""
    return {
        "format_version": 2,
        "variant": variant,
        "rank": options.rank,
        "alpha": options.effective_alpha,
        "target": target_names(options.target),
        "steps": steps,
        "use_rslora": options.use_rslora,
        "init_mode": options.init_mode,
        "use_dora": options.use_dora,
        "scaling": "alpha/sqrt(r)" if options.use_rslora else "alpha/r",
        "lora_dropout": options.lora_dropout,
        "seed": options.seed,
        **more,
    }


def trainable_parameters(generator: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of the adapter being trained, by the names that files use."""
    return {
        f"{layer.path}.{name}": parameter
        for layer in _trained(generator)
        for name, parameter in layer.named_parameters()
    }


def parameter_groups(generator: nn.Module, lr: float, *, plus_ratio: float = 1.0) -> list[dict[str, Any]]:
    """Two groups for an optimiser: B at ``plus_ratio`` times the rate, and all the rest.

    Source: LoRA+ (arXiv:2402.12354), which uses a ratio of 16.
    """
    named = trainable_parameters(generator)
    b = [parameter for name, parameter in named.items() if name.endswith(".lora_B")]
    rest = [parameter for name, parameter in named.items() if not name.endswith(".lora_B")]
    return [{"params": rest, "lr": lr}, {"params": b, "lr": lr * plus_ratio}]


def draw_dropout(generator: nn.Module, key: int | Sequence[int]) -> None:
    """Choose the dropout masks of the adapter being trained: the same key, the same masks.

    Args:
        generator: adapted.
        key: of the next batch; or one of each of its items, whose masks then depend on no other item.
    """
    for layer in _trained(generator):
        layer.key = key


def share(module: Some) -> Some:
    """The same module tree with the same tensors; replacing a part of one leaves the other as it is.

    Parameters that want gradients are shared by their storage and want none in the copy.
    """
    copied = {
        name: value.copy() if isinstance(value, dict | set) else value
        for name, value in module.__dict__.items()
    }
    new = object.__new__(type(module))
    new.__dict__.update(copied)
    new._parameters = {name: _frozen(each) for name, each in module._parameters.items()}
    new._modules = {name: None if child is None else share(child) for name, child in module._modules.items()}
    return new


def check_fits(generator: nn.Module, adapter: Adapter) -> None:
    """Compare paths and shapes.

    Raises:
        CheckpointError: a layer that the generator lacks, or of another size; all of them are refused.
    """
    layers = adaptable_layers(generator)
    problems = []
    for path, delta in adapter.deltas.items():
        found = layers.get(path)
        shape = tuple(cast(Tensor, found.weight).shape) if found is not None else None
        if shape is None:
            problems.append(f"{path} is not in the generator")
        elif shape != delta.weight_shape:
            problems.append(f"{path} is made for a weight of {delta.weight_shape} where there is {shape}")
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        trained = f" It was trained on {adapter.variant}." if adapter.variant else ""
        raise CheckpointError(
            f"The adapter does not fit this generator: {'; '.join(problems[:_SHOWN])}{more}.{trained} "
            "Choose the variant it was trained on."
        )


def _frozen(parameter: nn.Parameter | None) -> nn.Parameter | None:
    # A parameter object that both own moves between devices once, not twice.
    if parameter is None or not parameter.requires_grad:
        return parameter
    return nn.Parameter(parameter.detach(), requires_grad=False)


def _attach(generator: nn.Module, path: str, layer: LowRank) -> None:
    parent, _, name = path.rpartition(".")
    owner = generator.get_submodule(parent)
    found = owner.get_submodule(name)
    if not isinstance(found, Adapted):
        found = Adapted(cast(nn.Linear | nn.Conv1d, found)).train(owner.training)
        owner._modules[name] = found
    found.deltas.append(layer.to(found.base.weight.device))


def _trained(generator: nn.Module) -> Iterator[LowRank]:
    for module in generator.modules():
        if isinstance(module, LowRank) and module.lora_A.requires_grad:
            yield module


def strengths(adapters: Sequence[object], given: Sequence[float]) -> list[float]:
    """One strength for each adapter: none given means 1, a single one counts for all.

    Raises:
        InputError: another number of them, or one that is not finite.
    """
    for each in given:
        if not math.isfinite(each):
            raise InputError(f"The strength {each} is no finite number. Use 1 for the adapter as trained.")
    if len(given) in (0, 1):
        return [float(given[0]) if given else 1.0] * len(adapters)
    if len(given) != len(adapters):
        raise InputError(
            f"{len(given)} strengths were given for {len(adapters)} adapters. Give one for each, or one for "
            "all."
        )
    return [float(each) for each in given]
