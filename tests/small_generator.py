"""A small generator with random weights, inputs for it, and adapters that have moved from their start."""

from dataclasses import replace

import pytest
import torch

from selva_audio.adapters import Adapter, adapter_meta, collect, inject, trainable_parameters
from selva_audio.configs import VARIANTS
from selva_audio.models.generator import Generator
from selva_audio.options import AdapterOptions

LATENTS = 10


def make_generator(seed: int = 0) -> Generator:
    config = replace(
        VARIANTS["small_16k"].generator,
        hidden_dim=16,
        num_heads=2,
        mlp_multiple_of=8,
        latent_dim=4,
        num_joint_blocks=2,
        num_fused_blocks=1,
    )
    torch.manual_seed(seed)
    generator = Generator(config)
    with torch.no_grad():
        for parameter in generator.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 10
            parameter.copy_(torch.randn_like(parameter) / fan_in**0.5)
        generator.latent_mean.zero_()
        generator.latent_std.fill_(1)
    return generator.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def generator() -> Generator:
    return make_generator()


@pytest.fixture(scope="session")
def velocity():
    """Function from a generator to its velocity on fixed inputs."""
    random = torch.Generator().manual_seed(3)
    config = VARIANTS["small_16k"].generator
    clip = torch.randn(2, 3, config.clip_dim, generator=random)
    sync = torch.randn(2, 8, config.sync_dim, generator=random)
    text = torch.randn(2, 5, config.text_dim, generator=random)
    latent = torch.randn(2, LATENTS, 4, generator=random)

    def call(generator: Generator) -> torch.Tensor:
        return generator(latent, clip, sync, text, torch.tensor([0.2, 0.7]))

    return call


def moved(generator: Generator, seed: int = 1, amount: float = 0.05, **settings) -> Adapter:
    """An adapter as training would leave it: its values moved by noise."""
    options = AdapterOptions.parse(**{"rank": 3, **settings})
    adapted, _ = inject(generator, options)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_parameters(adapted).values():
            parameter.add_(amount * torch.randn(parameter.shape, generator=random))
    meta = adapter_meta(options, variant="small_16k", steps=7, clip_conditioning="off")
    return collect(adapted, meta)
