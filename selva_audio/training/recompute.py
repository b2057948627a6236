"""Gradient checkpointing: the activations of a block are computed again when its gradient is needed."""

from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from ..models.generator import Generator


def recompute_blocks(generator: Generator) -> None:
    """Have every transformer block keep its input alone, in a generator that nothing else uses."""
    for blocks in (generator.joint_blocks, generator.fused_blocks):
        for place, block in enumerate(blocks):
            blocks[place] = Recomputed(block)


class Recomputed(nn.Module):
    """A part of a model that keeps its input alone."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *streams: Any, **settings: Any) -> Any:
        """As the block."""
        # No global random state is used: dropout masks are functions of keys.
        return checkpoint(self.block, *streams, use_reentrant=False, preserve_rng_state=False, **settings)
