"""Blocks of the generator: joint attention over three modalities, then single-stream blocks (SPEC 5).

Shape letters: B batch, N tokens, D model width, H heads, E channels of one head. ``condition`` is (B, 1, D)
where it is the same for every token and (B, N, D) where each token has its own, or ``SharedRows``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .fast_heads import can_split_heads, split_heads
from .layers import ChannelLastConv1d, ConvGatedMLP, GatedMLP, Linear, head_norm, modulate

ROPE_PERIOD = 10000.0

Rope = tuple[Tensor, Tensor]
Heads = tuple[Tensor, Tensor, Tensor]


class SharedRows(NamedTuple):
    """A condition of which several tokens have the same row, which is then computed once.

    Attributes:
        rows: (R, D) different rows.
        row_of: (B * N,) int64 row of each token.
        batch: B.
    """

    rows: Tensor
    row_of: Tensor
    batch: int


Condition = Tensor | SharedRows


def rope_table(
    length: int, head_dim: int, *, scaling: float = 1.0, device: torch.device | None = None
) -> Rope:
    """Cosines and sines of rotary position embedding, each (length, head_dim / 2) float32.

    Args:
        length: number of positions, from 0.
        head_dim: channels of one head; even.
        scaling: factor on every angle, so that tokens of another rate share one time axis.
        device: where the tables are made.

    Source: RoFormer (arXiv:2104.09864), section 3.4.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    frequencies = scaling / ROPE_PERIOD**exponents
    angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequencies)
    return angles.cos(), angles.sin()


def apply_rope(x: Tensor, rope: Rope) -> Tensor:
    """Rotate adjacent channel pairs (2i, 2i + 1) of (B, H, N, E) in float32; keeps the dtype of ``x``."""
    cos, sin = rope
    # A rotation is a product of complex numbers: one pass over the tensor in place of five.
    pairs = torch.view_as_complex(torch.unflatten(_at_least_float32(x), -1, (-1, 2)))
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Scaled dot-product attention of (B, H, N, E), heads merged: (B, N, H E)."""
    # torch's fused attention gives the heads side by side already, so that merging them copies nothing.
    return functional.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Queries, keys and values of one modality; the attention itself is ``attend``.

    Args:
        dim: model width D.
        num_heads: heads H; D is a multiple of it.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(dim, 3 * dim)
        self.q_norm = head_norm(dim // num_heads)
        self.k_norm = head_norm(dim // num_heads)

    def forward(self, x: Tensor, rope: Rope | None) -> Heads:
        """(B, N, D) -> queries, keys, values, each (B, H, N, E); queries and keys normalised and rotated."""
        # The weights were trained with q, k, v innermost, not as three blocks of D.
        qkv = self.qkv(x)
        if can_split_heads(qkv, self.q_norm.weight, self.k_norm.weight):
            return split_heads(qkv, self.q_norm.weight, self.k_norm.weight, rope)
        # One copy takes them apart; what follows works on whole rows.
        apart = qkv.unflatten(-1, (self.num_heads, -1, 3)).movedim(-1, 0).contiguous()
        q, k, v = apart.transpose(2, 3).unbind(0)  # views (B, H, N, E)
        return self._placed(q, self.q_norm, rope), self._placed(k, self.k_norm, rope), v

    @staticmethod
    def _placed(x: Tensor, norm: nn.RMSNorm, rope: Rope | None) -> Tensor:
        """(B, H, N, E) normalised and rotated in float32; keeps the dtype of ``x``."""
        exact, weight = (_at_least_float32(each) for each in (x, norm.weight))
        placed = functional.rms_norm(exact, norm.normalized_shape, weight, norm.eps)
        return (placed if rope is None else apply_rope(placed, rope)).to(x.dtype)


class SingleStreamBlock(nn.Module):
    """Adaptive-norm transformer block of one modality, in two halves so that attention can be joint.

    Args:
        dim: model width D.
        num_heads: attention heads.
        hidden: inner width of the MLP.
        kernel_size: of the output projection and the MLP; 1 makes both of linears.
        pre_only: only queries, keys and values are wanted (last joint block): no output half.

    Source: adaLN-zero of DiT (arXiv:2212.09748); convolutional MLPs of MMAudio (arXiv:2412.15322).
    """

    def __init__(
        self, dim: int, num_heads: int, hidden: int, *, kernel_size: int, pre_only: bool = False
    ) -> None:
        super().__init__()
        self.pre_only = pre_only
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.attn = SelfAttention(dim, num_heads)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Linear(dim, (2 if pre_only else 6) * dim))
        if pre_only:
            return
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.linear1: nn.Module
        self.ffn: nn.Module
        if kernel_size == 1:
            self.linear1 = Linear(dim, dim)
            self.ffn = GatedMLP(dim, hidden)
        else:
            self.linear1 = ChannelLastConv1d(dim, dim, kernel_size)
            self.ffn = ConvGatedMLP(dim, hidden, kernel_size)

    def forward(self, x: Tensor, condition: Condition, rope: Rope | None) -> Tensor:
        """The whole block on its own: (B, N, D) -> (B, N, D)."""
        heads, modulation = self.before_attention(x, condition, rope)
        return self.after_attention(x, attend(*heads), modulation)

    def before_attention(
        self, x: Tensor, condition: Condition, rope: Rope | None
    ) -> tuple[Heads, tuple[Tensor, ...]]:
        """Heads of the modulated input, and the four chunks that ``after_attention`` needs."""
        shift, scale, *rest = chunks_of(self.adaLN_modulation, condition, 2 if self.pre_only else 6)
        return self.attn(modulate(self.norm1(x), shift, scale), rope), tuple(rest)

    def after_attention(self, x: Tensor, attended: Tensor, modulation: Sequence[Tensor]) -> Tensor:
        """Gated output projection and MLP on the residual stream."""
        gate_attention, shift, scale, gate_mlp = modulation
        x = torch.addcmul(x, self.linear1(attended), gate_attention)
        return torch.addcmul(x, self.ffn(modulate(self.norm2(x), shift, scale)), gate_mlp)


def chunks_of(modulation: nn.Module, condition: Condition, count: int) -> list[Tensor]:
    """``count`` chunks of the modulation, each (B, N, D) or (B, 1, D)."""
    if isinstance(condition, Tensor):
        return list(modulation(condition).chunk(count, dim=-1))
    chunks = modulation(condition.rows[None])[0].chunk(count, dim=-1)
    return [each.index_select(0, condition.row_of).unflatten(0, (condition.batch, -1)) for each in chunks]


class JointBlock(nn.Module):
    """Latent, CLIP and text tokens with own weights and one attention over all of them.

    Args:
        dim: model width D.
        num_heads: attention heads.
        hidden: inner width of the MLPs.
        pre_only: last joint block: CLIP and text only serve as keys and values.

    Source: MM-DiT of Stable Diffusion 3 (arXiv:2403.03206).
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, *, pre_only: bool) -> None:
        super().__init__()
        self.pre_only = pre_only
        self.latent_block = SingleStreamBlock(dim, num_heads, hidden, kernel_size=3)
        self.clip_block = SingleStreamBlock(dim, num_heads, hidden, kernel_size=3, pre_only=pre_only)
        self.text_block = SingleStreamBlock(dim, num_heads, hidden, kernel_size=1, pre_only=pre_only)

    def forward(
        self,
        latent: Tensor,
        clip: Tensor,
        text: Tensor,
        *,
        global_condition: Tensor,
        latent_condition: Condition,
        latent_rope: Rope,
        clip_rope: Rope,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """New (latent, clip, text); clip and text are returned as they came where the block is pre-only."""
        blocks = (self.latent_block, self.clip_block, self.text_block)
        streams = (latent, clip, text)
        conditions: tuple[Condition, ...] = (latent_condition, global_condition, global_condition)
        ropes = (latent_rope, clip_rope, None)
        prepared = [
            block.before_attention(x, condition, rope)
            for block, x, condition, rope in zip(blocks, streams, conditions, ropes, strict=True)
        ]
        queries, keys, values = zip(*(heads for heads, _ in prepared), strict=True)
        joint_keys, joint_values = _joined(keys), _joined(values)
        if self.pre_only:
            attended = attend(queries[0], joint_keys, joint_values)
            return self.latent_block.after_attention(latent, attended, prepared[0][1]), clip, text
        attended = attend(_joined(queries), joint_keys, joint_values)
        parts = torch.split(attended, [x.shape[1] for x in streams], dim=1)
        latent, clip, text = (
            block.after_attention(x, part, modulation)
            for block, x, part, (_, modulation) in zip(blocks, streams, parts, prepared, strict=True)
        )
        return latent, clip, text


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Tokens of (B, H, N, E), one after the other, in the order in memory that they come in."""
    return torch.cat([each.transpose(1, 2) for each in parts], dim=1).transpose(1, 2)


class FinalLayer(nn.Module):
    """Adaptive norm and the convolution to the latent width.

    Args:
        dim: model width D.
        latent_dim: latent channels C.
    """

    def __init__(self, dim: int, latent_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Linear(dim, 2 * dim))
        self.conv = ChannelLastConv1d(dim, latent_dim, kernel_size=7)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, C)."""
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=-1)
        velocity: Tensor = self.conv(modulate(self.norm(x), shift, scale))
        return velocity
