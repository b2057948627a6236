"""TextSynch: sync features of the source that a text names.

A Synchformer whose patch tokens attend to the T5 text, led by learned [SUP] tokens, before their aggregation.
The text encoder itself is ``t5``.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ..configs import VideoEncoderConfig
from ..errors import InputError
from ..graphs import Replayed
from . import synchformer
from .layers import GatedMLP, Linear, head_norm, hidden_width
from .synchformer import (
    Motionformer,
    check_segments,
    chunk_segments,
    cut_segments,
    join_segments,
    segments_at_once,
)

CROSS_NORM_EPS = 1e-5


class TextMemory(NamedTuple):
    """Keys and values of the text for the cross-attention: (B, heads, L, d) each; mask (B, 1, 1, L)."""

    key: Tensor
    value: Tensor
    mask: Tensor


class TextSynch(nn.Module):
    """Text-conditioned video encoder.

    Args:
        config: sizes; ``num_sup_tokens`` learned tokens precede the text.

    Source: SelVA (arXiv:2512.02650).
    """

    def __init__(self, config: VideoEncoderConfig) -> None:
        super().__init__()
        self.config = config
        hidden = hidden_width(config.width, config.mlp_multiple_of)
        self.sup_text_feat = nn.Parameter(torch.zeros(config.num_sup_tokens, config.text_dim))
        self.register_buffer("empty_string_feat", torch.zeros(1, config.text_dim))
        self.vfeat_extractor = Motionformer(config)
        self.text_proj = nn.Sequential(
            Linear(config.text_dim, config.width), nn.SiLU(), GatedMLP(config.width, hidden)
        )
        self.synch_text_cross_blocks = nn.ModuleList([CrossBlock(config.width, config.num_heads, hidden)])

    def encode(self, frames: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Features of whole clips, each with its own text.

        Args:
            frames: (B, T, 3, H, W) in [-1, 1] at 25 frames per second.
            text: (B, L, text_dim) T5 hidden states; the [SUP] tokens are added here.
            mask: (B, L) bool, True where ``text`` is not padding.

        Returns:
            (B, 8S, D) float32, S = (T - 16) // 8 + 1; trailing frames that fill no step are dropped.

        Raises:
            InputError: a shape or mask type that does not fit.
        """
        return self.encode_segments(cut_segments(frames), text, mask)

    def encode_segments(self, segments: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """As ``encode``, for segments already cut: (B, S, 16, 3, H, W) -> (B, 8S, D) float32."""
        check_segments(segments, self.config.image_size)
        self._check_text(text, mask, segments.shape[0])
        memory = self._text_memory(text, mask)
        encode = Replayed(self, TextSynch._encode_chunk)
        chunks = chunk_segments(segments, segments_at_once(self.config, segments))
        features = [encode(chunk, *(each[owners] for each in memory)) for chunk, owners in chunks]
        return join_segments(features, segments.shape[0])

    @property
    def _cross_block(self) -> "CrossBlock":
        block = self.synch_text_cross_blocks[0]
        assert isinstance(block, CrossBlock)
        return block

    def _text_memory(self, text: Tensor, mask: Tensor) -> TextMemory:
        sup = self.sup_text_feat.expand(len(text), -1, -1)
        sequence = torch.cat([sup, text.to(sup.dtype)], dim=1)  # (B, K + L, text_dim)
        whole_mask = torch.cat([mask.new_ones(len(mask), sup.shape[1]), mask], dim=1)
        key, value = self._cross_block.attn.key_value(self.text_proj(sequence))
        return TextMemory(key, value, whole_mask[:, None, None])

    def _encode_chunk(self, segments: Tensor, *memory: Tensor) -> Tensor:
        tokens = self.vfeat_extractor.tokens(segments)  # (n, T, P, D)
        attended = self._cross_block(tokens.flatten(1, 2), TextMemory(*memory))
        return self.vfeat_extractor.aggregate(attended.view_as(tokens))

    def _check_text(self, text: Tensor, mask: Tensor, batch: int) -> None:
        if text.ndim != 3 or text.shape[0] != batch or text.shape[2] != self.config.text_dim:
            raise InputError(
                f"Text features have the shape {tuple(text.shape)}; (B, L, {self.config.text_dim}) with one "
                f"row per video ({batch}) is needed. Take them from t5.encode_text."
            )
        if mask.shape != text.shape[:2] or mask.dtype != torch.bool:
            raise InputError(
                f"The text mask is {mask.dtype} of shape {tuple(mask.shape)}; bool of shape "
                f"{tuple(text.shape[:2])} is needed, True where the text is not padding."
            )


class CrossBlock(nn.Module):
    """Patch tokens attend to the text; norm after the attention branch, before the gated MLP."""

    def __init__(self, dim: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=CROSS_NORM_EPS)
        self.attn = CrossAttention(dim, num_heads)
        self.linear1 = Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=CROSS_NORM_EPS)
        self.ffn = GatedMLP(dim, hidden)

    def forward(self, x: Tensor, memory: TextMemory) -> Tensor:
        """(N, T P, D) -> the same shape."""
        x = x + self.norm1(self.linear1(self.attn(x, memory)))
        output: Tensor = x + self.ffn(self.norm2(x))
        return output


class CrossAttention(nn.Module):
    """Attention to a text, with normed queries and keys; in ``kv_proj`` key and value lie innermost."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = Linear(dim, dim)
        self.kv_proj = Linear(dim, 2 * dim)
        self.q_norm = head_norm(dim // num_heads)
        self.k_norm = head_norm(dim // num_heads)

    def key_value(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, D) -> two of (B, heads, L, d)."""
        key, value = rearrange(self.kv_proj(text), "b l (h d two) -> two b h l d", h=self.num_heads, two=2)
        return self.k_norm(key), value

    def forward(self, x: Tensor, memory: TextMemory) -> Tensor:
        """(N, T P, D) -> the same shape."""
        query = self.q_norm(rearrange(self.q_proj(x), "b n (h d) -> b h n d", h=self.num_heads))
        attended = functional.scaled_dot_product_attention(query, *memory[:2], attn_mask=memory.mask)
        return rearrange(attended, "b h n d -> b n (h d)")


@torch.no_grad()
def initialize(module: TextSynch) -> None:
    """Set every weight for training from nothing, from torch's global random state.

    The text branch starts as the identity: with the visual weights of a ``Synchformer`` loaded afterwards,
    the features equal its own.
    """
    synchformer.initialize(module.vfeat_extractor)
    nn.init.zeros_(module.sup_text_feat)
    for branch in (module.text_proj, module.synch_text_cross_blocks):
        for name, parameter in branch.named_parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.ones_(parameter)
    block = module._cross_block
    for zero in (block.norm1.weight, block.norm1.bias, block.ffn.w2.weight):
        nn.init.zeros_(zero)
