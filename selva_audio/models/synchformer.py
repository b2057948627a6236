"""Synchformer's visual encoder: 16-frame segments of video to 8 features each, with divided attention.

Reading and resizing frames is left to ``media``, the text-conditioned version to ``text_synch``.

Extra shape letters: ``T`` token times of a segment (8), ``P`` patches of one token time (196), ``D`` width.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ..configs import SEGMENT_FRAMES, SEGMENT_STEP, VideoEncoderConfig
from ..errors import InputError
from ..graphs import Replayed
from .fast_attention import attend_over_time, can_attend_over_time
from .fast_path import is_on_cpu
from .layers import Linear

NORM_EPS = 1e-6
INIT_STD = 0.02
# A published segment has 1568 tokens, so it runs alone on a CPU: on one thread that took 2.8 s a segment,
# four together 4.1 s, and the result depends on no neighbour. Toy segments, and all on a GPU, are batched.
TOKENS_AT_ONCE, TOKENS_AT_ONCE_ON_GPU = 2048, 16384


class Synchformer(nn.Module):
    """Plain sync features, as MMAudio uses them.

    Args:
        config: sizes; ``num_sup_tokens`` and the text fields are not used.

    Source: Synchformer (arXiv:2401.16423), on the Motionformer backbone (arXiv:2106.05392).
    """

    def __init__(self, config: VideoEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.vfeat_extractor = Motionformer(config)

    def encode(self, frames: Tensor) -> Tensor:
        """Features of whole clips.

        Args:
            frames: (B, T, 3, H, W) in [-1, 1] at 25 frames per second.

        Returns:
            (B, 8S, D) float32, S = (T - 16) // 8 + 1; trailing frames that fill no step are dropped.

        Raises:
            InputError: fewer than 16 frames, or another frame size than the network's.
        """
        return self.encode_segments(cut_segments(frames))

    def encode_segments(self, segments: Tensor) -> Tensor:
        """Features of segments already cut: (B, S, 16, 3, H, W) -> (B, 8S, D) float32."""
        check_segments(segments, self.config.image_size)
        encode = Replayed(self.vfeat_extractor, Motionformer.encode)
        chunks = chunk_segments(segments, segments_at_once(self.config, segments))
        features = [encode(chunk) for chunk, _ in chunks]
        return join_segments(features, segments.shape[0])


class Motionformer(nn.Module):
    """Video transformer over one segment, and the aggregation of each token time to one feature."""

    def __init__(self, config: VideoEncoderConfig) -> None:
        super().__init__()
        patches = (config.image_size // config.patch_size) ** 2
        times = SEGMENT_FRAMES // config.patch_frames
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, config.width))
        self.temp_embed = nn.Parameter(torch.zeros(1, times, config.width))
        # In the published files and never used: a 2-D embedding left over from image pre-training.
        self.patch_embed = PatchEmbed(nn.Conv2d(3, config.width, config.patch_size, config.patch_size))
        kernel = (config.patch_frames, config.patch_size, config.patch_size)
        self.patch_embed_3d = PatchEmbed(nn.Conv3d(3, config.width, kernel, kernel))
        self.blocks = nn.ModuleList(DividedBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.spatial_attn_agg = SpatialAggregation(config)

    def encode(self, segments: Tensor) -> Tensor:
        """(N, 16, 3, H, W) -> (N, T, D)."""
        return self.aggregate(self.tokens(segments))

    def tokens(self, segments: Tensor) -> Tensor:
        """(N, 16, 3, H, W) of any float type -> normed patch tokens (N, T, P, D) in the parameters' type."""
        video = rearrange(segments.to(self.cls_token.dtype), "n f c h w -> n c f h w")
        patches = rearrange(self.patch_embed_3d(video), "n d t h w -> n t (h w) d")
        num_times, num_patches = patches.shape[1:3]
        patches = patches + self.pos_embed[:, None, 1:] + self.temp_embed[:, :, None]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(patches), -1, -1)
        x = torch.cat([first, patches.flatten(1, 2)], dim=1)  # (N, 1 + T P, D)
        for block in self.blocks:
            x = block(x, num_times)
        tokens: Tensor = rearrange(self.norm(x[:, 1:]), "n (t p) d -> n t p d", p=num_patches)
        return tokens

    def aggregate(self, tokens: Tensor) -> Tensor:
        """(N, T, P, D) -> (N, T, D)."""
        features: Tensor = self.spatial_attn_agg(tokens.flatten(0, 1))
        return features.reshape(*tokens.shape[:2], -1)


class PatchEmbed(nn.Module):
    """A convolution whose stride equals its kernel."""

    def __init__(self, proj: nn.Module) -> None:
        super().__init__()
        self.proj = proj

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, ...) -> (N, D, ...)."""
        patches: Tensor = self.proj(x)
        return patches


class DividedBlock(nn.Module):
    """Attention over time, then over space, then an MLP; ``norm3`` belongs to time, ``norm1`` to space."""

    def __init__(self, config: VideoEncoderConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.attn = DividedAttention(config.width, config.num_heads)
        self.timeattn = DividedAttention(config.width, config.num_heads)
        self.norm2 = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.mlp = MLP(config.width, config.mlp_dim)
        self.norm3 = nn.LayerNorm(config.width, eps=NORM_EPS)

    def forward(self, x: Tensor, num_times: int) -> Tensor:
        """(N, 1 + T P, D) -> the same shape."""
        x = x + self.timeattn(self.norm3(x), num_times, over="time")
        x = x + self.attn(self.norm1(x), num_times, over="space")
        output: Tensor = x + self.mlp(self.norm2(x))
        return output


class DividedAttention(nn.Module):
    """The class token attends to all tokens; a patch attends to the class token and to its own group.

    Source: TimeSformer (arXiv:2102.05095), divided space-time attention.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor, num_times: int, *, over: Literal["time", "space"]) -> Tensor:
        """(N, 1 + T P, D) -> the same shape.

        Args:
            x: normed tokens, the class token first, patches ordered by time, then place.
            num_times: ``T``.
            over: patches of one group share their place ("time"), or their time ("space").
        """
        tokens = torch.unflatten(self.qkv(x), 2, (3, self.num_heads, -1))  # (N, 1 + T P, 3, heads, channels)
        first = _attend(tokens[:, :1, 0], *tokens[:, :, 1:].unbind(2))
        if over == "time" and can_attend_over_time(tokens, num_times):
            attended = attend_over_time(tokens, num_times)
            attended[:, :1] = first
        else:
            attended = torch.cat([first, self._attend_in_groups(tokens, num_times, over)], dim=1)
        output: Tensor = self.proj(attended.flatten(2))
        return output

    @staticmethod
    def _attend_in_groups(tokens: Tensor, num_times: int, over: Literal["time", "space"]) -> Tensor:
        """(N, 1 + T P, 3, heads, channels) -> what the patches see, (N, T P, heads, channels)."""
        # Only keys and values are copied, to have the class token in each group. With more than four axes
        # torch would not take its fused attention.
        groups = torch.unflatten(tokens[:, 1:], 1, (num_times, -1))
        groups = groups if over == "space" else groups.transpose(1, 2)  # (N, groups, members, 3, ...)
        shared = tokens[:, None, :1, 1:].expand(-1, groups.shape[1], -1, -1, -1, -1)
        key_value = torch.cat([shared, groups[..., 1:, :, :]], dim=2).flatten(0, 1)
        patches = _attend(groups[..., 0, :, :].flatten(0, 1), *key_value.unbind(2))
        merged = torch.unflatten(patches, 0, groups.shape[:2])
        return (merged if over == "space" else merged.transpose(1, 2)).flatten(1, 2)


def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Scaled dot-product attention of (N, tokens, heads, channels)."""
    queries, keys, values = (each.transpose(1, 2) for each in (queries, keys, values))
    return functional.scaled_dot_product_attention(queries, keys, values).transpose(1, 2)


class MLP(nn.Module):
    """Two linears with an exact GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        output: Tensor = self.fc2(self.fc1.with_gelu(x))
        return output


class SpatialAggregation(nn.Module):
    """One pre-norm transformer layer over a class token and the patches of one time; gives the class output.

    Only the class token's row is computed: with a single layer no other row is ever used. Its query is the
    same for every time, so that keys and values are never made either: q (W x) is (q W) x, and a weighted sum
    of W x is W times the weighted sum of x. The bias of the keys moves all scores alike, which is nothing.
    """

    def __init__(self, config: VideoEncoderConfig) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.self_attn = nn.MultiheadAttention(config.width, config.num_heads, batch_first=True)
        self.linear1 = Linear(config.width, config.mlp_dim)
        self.linear2 = Linear(config.mlp_dim, config.width)
        self.norm1 = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.norm2 = nn.LayerNorm(config.width, eps=NORM_EPS)

    def forward(self, patches: Tensor) -> Tensor:
        """(N, P, D) -> (N, D)."""
        first = self.cls_token[0]  # (1, D)
        tokens = torch.cat([self.norm1(first).expand(len(patches), 1, -1), self.norm1(patches)], dim=1)
        first = first + self.self_attn.out_proj(self._attended(tokens))
        output: Tensor = first + self.linear2(self.linear1.with_gelu(self.norm2(first)))
        return output

    def _attended(self, tokens: Tensor) -> Tensor:
        """(N, 1 + P, D) normed, the class token first -> (N, D), its heads merged."""
        attention = self.self_attn
        dim, heads = attention.embed_dim, attention.num_heads
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        query = functional.linear(tokens[0, :1], weight[:dim], bias[:dim]).view(heads, 1, -1)
        scale = (dim // heads) ** -0.5
        probes = (scale * query) @ weight[dim : 2 * dim].view(heads, -1, dim)  # (heads, 1, D)
        scores = torch.matmul(tokens, probes[:, 0].T)  # (N, 1 + P, heads)
        shares = scores.float().softmax(dim=1).to(tokens.dtype)
        pooled = torch.matmul(shares.transpose(1, 2), tokens)  # (N, heads, D)
        values = torch.matmul(pooled.transpose(0, 1), weight[2 * dim :].view(heads, -1, dim).transpose(1, 2))
        return values.transpose(0, 1).flatten(1) + bias[2 * dim :]


def cut_segments(frames: Tensor) -> Tensor:
    """Overlapping windows of 16 frames, 8 apart: (B, T, 3, H, W) -> (B, S, 16, 3, H, W) views.

    Raises:
        InputError: not five axes, or fewer than 16 frames.
    """
    if frames.ndim != 5 or frames.shape[1] < SEGMENT_FRAMES:
        raise InputError(
            f"Sync frames have the shape {tuple(frames.shape)}; (B, T, 3, H, W) with at least "
            f"{SEGMENT_FRAMES} frames (0.64 s at 25 frames per second) is needed. Repeat the last frame of a "
            "shorter clip."
        )
    windows = frames.unfold(1, SEGMENT_FRAMES, SEGMENT_STEP)
    return rearrange(windows, "b s c h w f -> b s f c h w")


def check_segments(segments: Tensor, image_size: int) -> None:
    """Raise InputError unless the shape is (B, S, 16, 3, image_size, image_size)."""
    if (
        segments.ndim != 6
        or segments.shape[1] < 1
        or tuple(segments.shape[2:]) != (SEGMENT_FRAMES, 3, image_size, image_size)
    ):
        raise InputError(
            f"Sync segments have the shape {tuple(segments.shape)}; the video encoder needs (B, S, "
            f"{SEGMENT_FRAMES}, 3, {image_size}, {image_size}). Resize the frames to it."
        )


def segments_at_once(config: VideoEncoderConfig, segments: Tensor) -> int:
    """Segments that go through the network together; changes memory and speed, not the result."""
    tokens = TOKENS_AT_ONCE if is_on_cpu(segments) else TOKENS_AT_ONCE_ON_GPU
    times = SEGMENT_FRAMES // config.patch_frames
    return max(1, tokens // (times * (config.image_size // config.patch_size) ** 2))


def chunk_segments(segments: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Copies of up to ``size`` segments (n, 16, 3, H, W), in order, with the batch row (n,) of each.

    Overlapping windows are views; only one chunk of them is ever a copy.
    """
    rows, steps = torch.arange(segments.shape[0]), torch.arange(segments.shape[1])
    for pairs in torch.split(torch.cartesian_prod(rows, steps), size):
        owners, places = pairs.unbind(1)
        yield segments[owners, places], owners


def join_segments(features: list[Tensor], batch: int) -> Tensor:
    """Chunks of (n, T, D), in order, to (B, S T, D) float32."""
    return rearrange(torch.cat(features), "(b s) t d -> b (s t) d", b=batch).float()


@torch.no_grad()
def initialize(module: nn.Module) -> None:
    """Set every weight of the visual encoder for training from nothing, from torch's global random state.

    Matrices, kernels and embeddings are truncated normal, biases zero, norms the identity.

    Args:
        module: a ``Synchformer``, or the ``vfeat_extractor`` of a ``TextSynch``.
    """
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=INIT_STD)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.ones_(parameter)
