"""The vocoder's activation with random values, and what it computes written out in plain steps."""

import torch

from selva_audio.models.antialias import AntialiasedActivation, downsample2, upsample2


def activation_of(channels, kind="snakebeta", seed=0, *, filters=False):
    """With filters of its own, which are not symmetric, where asked for."""
    random = torch.Generator().manual_seed(seed)
    module = AntialiasedActivation(channels, kind).requires_grad_(False)
    for values in (*module.parameters(), *(module.buffers() if filters else ())):
        values.copy_(torch.randn(values.shape, generator=random) / 2)
    return module


def plain(module, x):
    up, down = module.upsample.filter, module.downsample.lowpass.filter
    return downsample2(module.act(upsample2(x, up)), down)
