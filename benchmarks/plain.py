"""The generator as one would write it first, from its description: what the fast forms are compared with.

No arithmetic is saved and nothing is fused; tensors, names of weights and results are the generator's own.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from selva_audio.adapters import Delta
from selva_audio.adapters.inject import share
from selva_audio.models.generator import Generator
from selva_audio.models.layers import ChannelLastConv1d
from selva_audio.models.transformer import Heads, Rope, SelfAttention, SingleStreamBlock


def plain_generator(generator: Generator) -> Generator:
    """A generator with the same tensors that computes in plain steps."""
    new = share(generator)
    kinds = {
        ChannelLastConv1d: PlainConv,
        SelfAttention: PlainAttention,
        SingleStreamBlock: PlainBlock,
    }
    for module in new.modules():
        module.__class__ = kinds.get(type(module), type(module))
    return new


def plain_adapters(generator: Generator, deltas: dict[str, Delta]) -> Generator:
    """A plain generator with a layer for each change, whose matrices want gradients."""
    new = plain_generator(generator)
    for path, delta in deltas.items():
        parent, _, name = path.rpartition(".")
        owner = new.get_submodule(parent)
        owner._modules[name] = PlainLora(owner.get_submodule(name), delta)
    return new


class PlainConv(ChannelLastConv1d):
    """Convolution along the tokens, by way of the order that ``Conv1d`` wants."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, in) -> (B, N, out)."""
        made = functional.conv1d(x.transpose(1, 2), self.weight, self.bias, padding=self.padding)
        return made.transpose(1, 2)


class PlainAttention(SelfAttention):
    """Queries, keys and values in plain steps."""

    def forward(self, x: Tensor, rope: Rope | None) -> Heads:
        """As of the class above."""
        q, k, v = rearrange(self.qkv(x), "b n (h e j) -> j b h n e", h=self.num_heads, j=3)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = _rotated(q, rope), _rotated(k, rope)
        return q, k, v.contiguous()


class PlainBlock(SingleStreamBlock):
    """A modulated block in plain steps."""

    def before_attention(
        self, x: Tensor, condition: Tensor, rope: Rope | None
    ) -> tuple[Heads, tuple[Tensor, ...]]:
        """As of the class above, for a condition that is a tensor."""
        shift, scale, *rest = self.adaLN_modulation(condition).chunk(2 if self.pre_only else 6, dim=-1)
        return self.attn(self.norm1(x) * (1 + scale) + shift, rope), tuple(rest)

    def after_attention(self, x: Tensor, attended: Tensor, modulation: Sequence[Tensor]) -> Tensor:
        """As of the class above."""
        gate_attention, shift, scale, gate_mlp = modulation
        x = x + self.linear1(attended) * gate_attention
        return x + self.ffn(self.norm2(x) * (1 + scale) + shift) * gate_mlp


class PlainLora(nn.Module):
    """A layer, and beside it one that goes down to the rank and one that goes up again."""

    def __init__(self, base: nn.Module, delta: Delta) -> None:
        super().__init__()
        self.base, self.scale = base, delta.scale
        self.down, self.up = nn.Parameter(delta.a.clone()), nn.Parameter(delta.b.clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, in) -> (B, N, out)."""
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        if down.ndim == 3:
            low = functional.conv1d(x.transpose(1, 2), down, padding=down.shape[2] // 2).transpose(1, 2)
        else:
            low = functional.linear(x, down)
        y: Tensor = self.base(x)
        return y + self.scale * functional.linear(low, up)


def _rotated(x: Tensor, rope: Rope) -> Tensor:
    even, odd = rearrange(x.float(), "... (i pair) -> pair ... i", pair=2)
    cos, sin = rope
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)
