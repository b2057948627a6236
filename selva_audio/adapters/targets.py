"""Which layers of a generator are adapted: names of groups, endings of paths, report of what matched."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from ..errors import InputError, unknown_name
from ..models.layers import ChannelLastConv1d
from .layers import Adapted

_IN_BLOCKS = re.compile(r"^(joint|fused)_blocks\.")
# Name -> (what it stands for, test of path and module).
PRESETS: dict[str, tuple[str, Callable[[str, nn.Module], bool]]] = {
    "qkv": ("queries, keys and values of every block", lambda path, _: path.endswith(".attn.qkv")),
    "conv": (
        "every convolution of the blocks",
        lambda path, layer: isinstance(layer, nn.Conv1d) and bool(_IN_BLOCKS.match(path)),
    ),
    "linear1": ("output projection of the attention", lambda path, _: path.endswith(".linear1")),
    "mlp": ("gated MLP of every block", lambda path, _: re.search(r"\.ffn\.w[123]$", path) is not None),
    "modulation": ("adaptive norms", lambda path, _: path.endswith(".adaLN_modulation.1")),
    "input": ("projections of latent and features", lambda path, _: "_input_proj." in path),
    "final": ("convolution to the latent", lambda path, _: path == "final_layer.conv"),
    "all": ("every linear layer and convolution", lambda path, _: True),
}


@dataclass(frozen=True, slots=True)
class Target:
    """One layer that is adapted.

    Attributes:
        path: its name in the generator.
        kind: "linear" or "conv".
        shape: of its weight.
        asked_by: the name that selected it first.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    asked_by: str

    def num_parameters(self, rank: int) -> int:
        """Of a plain adapter of this rank."""
        fan_in = self.shape[1] * (self.shape[2] if len(self.shape) == 3 else 1)
        return rank * (self.shape[0] + fan_in)


@dataclass(frozen=True, slots=True)
class TargetReport:
    """What the asked names selected, in the order of the generator."""

    targets: tuple[Target, ...]
    counts: dict[str, int]

    def num_parameters(self, rank: int) -> int:
        """Of plain adapters of this rank on all of them."""
        return sum(target.num_parameters(rank) for target in self.targets)

    def lines(self, rank: int) -> list[str]:
        """A summary, then one line for each layer: path, kind, shape, rank, parameters."""
        found = ", ".join(f"{name}: {count}" for name, count in self.counts.items())
        total = (
            f"{len(self.targets)} layers ({found}), {self.num_parameters(rank):,} parameters at rank {rank}"
        )
        return [total] + [
            f"{each.path} {each.kind} {'x'.join(map(str, each.shape))} rank {rank}: "
            f"{each.num_parameters(rank):,} parameters"
            for each in self.targets
        ]


def select_targets(generator: nn.Module, asked: str | Sequence[str]) -> TargetReport:
    """Layers that a list of names selects.

    Args:
        generator: base or adapted generator.
        asked: names of ``PRESETS`` or endings of module paths ("attn.qkv", "fused_blocks.3.linear1"); a text
            is split at spaces and commas.

    Raises:
        InputError: a name that selects nothing, even when others do.
    """
    names = target_names(asked) if isinstance(asked, str) else list(asked)
    if not names:
        raise InputError(f"No target is given. Choose from {', '.join(PRESETS)}, or a module's path.")
    layers = adaptable_layers(generator)
    chosen: dict[str, str] = {}
    counts: dict[str, int] = {}
    for name in dict.fromkeys(names):
        matched = [path for path, layer in layers.items() if _matches(name, path, layer)]
        if not matched:
            raise InputError(f"The target matches no layer. {unknown_name('target', name, _known(layers))}")
        counts[name] = len(matched)
        for path in matched:
            chosen.setdefault(path, name)
    targets = tuple(
        Target(path, "conv" if isinstance(layer, nn.Conv1d) else "linear", _shape(layer), chosen[path])
        for path, layer in layers.items()
        if path in chosen
    )
    return TargetReport(targets, counts)


def target_names(asked: str) -> list[str]:
    """The names in a text, split at spaces and commas."""
    return [name for name in re.split(r"[\s,]+", asked) if name]


def adaptable_layers(generator: nn.Module) -> dict[str, nn.Module]:
    """Every linear layer and length-keeping convolution by path, the same for base and adapted generators."""
    found: dict[str, nn.Module] = {}
    for path, module in generator.named_modules():
        layer = module.base if isinstance(module, Adapted) else module
        if isinstance(layer, nn.Linear | ChannelLastConv1d) and not _is_inside(path, found):
            found[path] = layer
    return found


def _is_inside(path: str, found: dict[str, nn.Module]) -> bool:
    return path.removesuffix(".base") in found


def _matches(name: str, path: str, layer: nn.Module) -> bool:
    if name in PRESETS:
        return PRESETS[name][1](path, layer)
    return path == name or path.endswith(f".{name}")


def _known(layers: dict[str, nn.Module]) -> list[str]:
    endings = {re.sub(r"^.*\.(?=(attn|ffn)\.)|^.*_blocks\.\d+\.(\w+_block\.)?", "", path) for path in layers}
    return [*PRESETS, *sorted(endings)]


def _shape(layer: nn.Module) -> tuple[int, ...]:
    assert isinstance(layer, nn.Linear | nn.Conv1d)
    return tuple(layer.weight.shape)
