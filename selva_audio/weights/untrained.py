"""Weights of the right shapes that know nothing, to measure speed and memory where no file is at hand."""

import math

import torch
from torch import Tensor, nn

from ..configs import ModelConfig
from .components import expected_shapes, load_component
from .tokenizers import T5Bytes

# Where a gain of 1 and a bias of 0 would be wrong.
_CONSTANTS = {"latent_std": 1.0, "data_mean": -3.3, "data_std": 0.8}
_BLOCK = 1 << 20


def untrained_component(component: str, config: ModelConfig, *, image_tower: bool = True) -> nn.Module:
    """One part of a model with such weights, in float32 on the CPU. T5 reads bytes: its own table is a file.

    Args:
        component: as ``load_component`` names it.
        config: of the variant.
        image_tower: False leaves CLIP's image weights out.
    """
    state = untrained_state(component, config, image_tower=image_tower)
    tokenizer = T5Bytes(config.t5.max_length) if component == "t5" else None
    return load_component(component, config, state, tokenizer=tokenizer, image_tower=image_tower)


def untrained_state(component: str, config: ModelConfig, *, image_tower: bool = True) -> dict[str, Tensor]:
    """State dict of one part: unit gains, zero biases, weights of variance 1 / fan-in, always the same.

    Args:
        component: as ``load_component`` names it.
        config: of the variant.
        image_tower: False leaves CLIP's image weights out.
    """
    # One block of noise over and over: a billion fresh numbers would take longer than what is measured.
    noise = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0))
    state = {}
    for key, shape in expected_shapes(component, config, image_tower=image_tower).items():
        last = key.rpartition(".")[2]
        if last in _CONSTANTS:
            state[key] = torch.full(shape, _CONSTANTS[last])
        elif len(shape) > 1 and last != "filter":
            count = math.prod(shape)
            values = noise.repeat(-(-count // _BLOCK))[:count].reshape(shape)
            state[key] = values / math.sqrt(math.prod(shape[1:]))
        elif last != "filter":
            state[key] = torch.full(shape, 1.0 if last == "weight" else 0.0)
    return state
