"""One LoRA update of ours beside a plain loop: upstream's generator with plain low-rank layers."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from selva_audio.adapters import Delta
from selva_audio.options import LoraOptions
from selva_audio.training.keyed import keyed
from selva_audio.training.lora import LoraTraining
from selva_audio.weights import load_component

from ..lora_memory import random_clips
from ..plain import PlainLora
from .files import VARIANT, given
from .measure import in_turn, ratio
from .upstream import Upstream

_CLIPS = 8


def measure_training(
    upstream: Upstream | None, work: Path, dtype: torch.dtype, *, repeats: int, batch: int = 4
) -> dict[str, Any]:
    """Seconds of a step with weights in ``dtype``, ratio, and the largest difference of a gradient."""
    options = LoraOptions(batch_size=batch, lr=1e-4, latent_mode="mode")
    state = torch.load(work / "weights" / "generator_small_16k_sup_5.pth", weights_only=True)
    generator = load_component("generator", VARIANT, state).requires_grad_(False).to(dtype)
    training = LoraTraining(
        generator,
        random_clips(VARIANT, _CLIPS),
        options,
        variant=VARIANT,
        base="rule",
        clip_conditioning=False,
    )
    layers = {path: generator_layer(training.generator, path) for path in _paths(training)}
    for path, layer in layers.items():
        # B starts at zero; with zeros, A would have no gradient to compare.
        layer.lora_B.data = given(f"{path}.b", tuple(layer.lora_B.shape), scale=0.01)

    def own(run: int) -> float:
        training.generator.zero_grad()
        total = 0.0
        for part in training.loss(run, partial(keyed, 0, run)):
            part.backward()
            total += float(part.detach())
        return total

    if upstream is None:
        _, ours = in_turn(None, own, repeats=repeats, count=True)
        return {"batch": batch, "layers": len(layers), "ours": ours.numbers()}
    net = upstream.generator
    plain = {path: _wrap(net, path, delta) for path, delta in training.adapter(0).deltas.items()}

    def theirs(run: int) -> float:
        net.zero_grad()
        drawn = training._draw(run, partial(keyed, 0, run))
        t = drawn.t[:, None, None]
        x = (1 - t) * drawn.x0 + t * drawn.x1
        features = (each.to(dtype) for each in (x, *training._conditions(drawn)))
        loss = (net(*features, drawn.t.to(dtype)).float() - (drawn.x1 - drawn.x0)).square().mean()
        loss.backward()
        return float(loss.detach())

    a, b = in_turn(theirs, own, repeats=repeats, count=True)
    differences = []
    for path, layer in layers.items():
        for mine, other in ((layer.lora_A, plain[path].down), (layer.lora_B, plain[path].up)):
            differences.append(float((mine.grad - other.grad).norm() / other.grad.norm()))
    return {
        "batch": batch,
        "layers": len(layers),
        "upstream": a.numbers() | {"loss": a.result},
        "ours": b.numbers() | {"loss": b.result},
        "gradients": max(differences),
        **ratio(a, b),
    }


def _paths(training: LoraTraining) -> list[str]:
    return [target.path for target in training.report.targets]


def generator_layer(generator: nn.Module, path: str) -> nn.Module:
    """The change that is trained at a layer."""
    return generator.get_submodule(path).deltas[0]


def _wrap(net: nn.Module, path: str, delta: Delta) -> PlainLora:
    parent, _, name = path.rpartition(".")
    owner = net.get_submodule(parent)
    wrapped = PlainLora(getattr(owner, name), delta)
    setattr(owner, name, wrapped)
    return wrapped
