"""Untrained weights for the demo variant, until its trained ones ship in ``assets/demo``.

They have the right names and shapes and go through the ordinary loader, so that every stage runs; the
sound means nothing, and whatever shows it must say so (``SelVAModel.placeholder``).
"""

import math

import torch
from torch import Tensor

from ..configs import ModelConfig
from .components import expected_shapes

_SEED = 2016
_CONSTANTS = {"latent_std": 1.0, "data_mean": -3.3, "data_std": 0.8}


def placeholder_state(component: str, config: ModelConfig) -> dict[str, Tensor]:
    """State dict of one part: unit gains, zero biases, weights of variance 1 / fan-in, under a fixed seed."""
    noise = torch.Generator().manual_seed(_SEED)
    state = {}
    for key, shape in expected_shapes(component, config).items():
        last = key.rpartition(".")[2]
        if last in _CONSTANTS:
            state[key] = torch.full(shape, _CONSTANTS[last])
        elif len(shape) > 1 and not key.endswith("filter"):
            fan_in = math.prod(shape[1:])
            state[key] = torch.randn(shape, generator=noise) / math.sqrt(fan_in)
        elif not key.endswith("filter"):
            state[key] = torch.full(shape, 1.0 if last == "weight" else 0.0)
    return state
