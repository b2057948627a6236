"""The flow-matching transformer: features to conditions, latent and time to velocity (SPEC 4, 5).

Time runs from t = 0 (noise) to t = 1 (data). Attribute names are the keys of the published checkpoints.
No lengths are stored: rope tables and frequencies are made from the shapes of each call, in float32, so a
generator may be built on the meta device and used right after its state dict is assigned.

Shape letters: B batch, N latent tokens, C latent channels, D model width, S sync segments.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ..configs import SEGMENT_FRAMES, SEGMENT_STEP, SYNC_RATE, GeneratorConfig
from ..errors import InputError
from .layers import ChannelLastConv1d, ConvGatedMLP, GatedMLP, Linear, hidden_width
from .transformer import Condition, FinalLayer, JointBlock, SharedRows, SingleStreamBlock, rope_table

TIME_PERIOD = 10000.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """Features after the generator's projections, in its dtype; made once per sampling.

    Attributes:
        clip: (B, N_clip, D) CLIP tokens.
        sync: (B, N, D) sync tokens, one for each latent token.
        text: (B, N_text, D) text tokens.
        clip_c: (B, D) summary of the CLIP tokens.
        text_c: (B, D) summary of the text tokens.
        groups: (B, N) int64 on the CPU; where two latent tokens of an item have the same number, their sync
            tokens are equal. None where nothing is known.
        shared: (R,) place in (B N) of one token of each group, and (B N,) the group of each token; made by
            ``share_rows``. The modulation of a group is then computed once.
    """

    clip: Tensor
    sync: Tensor
    text: Tensor
    clip_c: Tensor
    text_c: Tensor
    groups: Tensor | None = None
    shared: tuple[Tensor, Tensor] | None = None


def share_rows(conditions: Conditions) -> Conditions:
    """The same conditions, with what equal sync tokens lead to computed once for all of them.

    Their number depends on lengths alone, never on values.
    """
    groups = conditions.groups
    if groups is None:
        return conditions
    count = int(groups.max()) + 1
    flat = (torch.arange(len(groups), device="cpu")[:, None] * count + groups).flatten()
    numbers, index = torch.unique(flat, return_inverse=True)
    places = torch.empty(len(numbers), dtype=torch.int64, device="cpu")
    places[index] = torch.arange(len(index), device="cpu")
    device = conditions.sync.device
    return replace(conditions, shared=(places.to(device), index.to(device)))


def concatenate_conditions(first: Conditions, second: Conditions) -> Conditions:
    """One batch holding ``first``, then ``second``; both have the same numbers of tokens."""
    return Conditions(
        torch.cat((first.clip, second.clip)),
        torch.cat((first.sync, second.sync)),
        torch.cat((first.text, second.text)),
        torch.cat((first.clip_c, second.clip_c)),
        torch.cat((first.text_c, second.text_c)),
        None if first.groups is None or second.groups is None else torch.cat((first.groups, second.groups)),
    )


def fixed_tensors(conditions: Conditions) -> tuple[Tensor, ...]:
    """What ``Generator.velocity`` reads of the conditions."""
    parts = conditions.clip, conditions.sync, conditions.text, conditions.clip_c, conditions.text_c
    return parts if conditions.shared is None else parts + conditions.shared


def fixed_conditions(tensors: Sequence[Tensor]) -> Conditions:
    """Conditions that hold what ``fixed_tensors`` gave."""
    clip, sync, text, clip_c, text_c, *rows = tensors
    shared = (rows[0], rows[1]) if rows else None
    return Conditions(clip, sync, text, clip_c, text_c, shared=shared)


class Generator(nn.Module):
    """Velocity of the flow that carries noise to audio latents.

    Args:
        config: sizes; ``config.version`` picks the released layout v1 or v2.

    Source: MMAudio (arXiv:2412.15322), section 3.
    """

    latent_mean: Tensor
    latent_std: Tensor
    empty_string_feat: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        if config.sync_resampling == "time_aware" and config.latent_rate is None:
            raise InputError("Time-aware sync resampling needs latent_rate (tokens per second); it is None.")
        self.config = config
        dim, is_v1 = config.hidden_dim, config.version == "v1"
        hidden = hidden_width(dim, config.mlp_multiple_of)
        activation = nn.SELU if is_v1 else nn.SiLU
        # v1 has nothing between the linear and the MLP of clip and text; checkpoint keys count positions.
        after_linear: list[nn.Module] = [] if is_v1 else [nn.SiLU()]

        self.audio_input_proj = nn.Sequential(
            ChannelLastConv1d(config.latent_dim, dim, 7), activation(), ConvGatedMLP(dim, hidden, 7)
        )
        self.clip_input_proj = nn.Sequential(
            Linear(config.clip_dim, dim), *after_linear, ConvGatedMLP(dim, hidden, 3)
        )
        self.sync_input_proj = nn.Sequential(
            ChannelLastConv1d(config.sync_dim, dim, 7), activation(), ConvGatedMLP(dim, hidden, 3)
        )
        self.text_input_proj = nn.Sequential(
            Linear(config.text_dim, dim), *after_linear, GatedMLP(dim, hidden)
        )
        self.clip_cond_proj = Linear(dim, dim)
        self.text_cond_proj = Linear(dim, dim)
        self.global_cond_mlp = GatedMLP(dim, hidden)
        self.t_embed = (
            TimestepEmbedding(dim, 256, scale=1.0) if is_v1 else TimestepEmbedding(dim, dim, scale=1e4)
        )
        last = config.num_joint_blocks - 1
        self.joint_blocks = nn.ModuleList(
            JointBlock(dim, config.num_heads, hidden, pre_only=i == last)
            for i in range(config.num_joint_blocks)
        )
        self.fused_blocks = nn.ModuleList(
            SingleStreamBlock(dim, config.num_heads, hidden, kernel_size=3)
            for _ in range(config.num_fused_blocks)
        )
        self.final_layer = FinalLayer(dim, config.latent_dim)

        self.sync_pos_emb = nn.Parameter(torch.zeros(1, 1, SEGMENT_STEP, config.sync_dim))
        self.empty_clip_feat = nn.Parameter(torch.zeros(1, config.clip_dim))
        self.empty_sync_feat = nn.Parameter(torch.zeros(1, config.sync_dim))
        self.register_buffer("empty_string_feat", torch.zeros(config.text_length, config.text_dim))
        # Unusable until loaded or measured, so that a forgotten statistic shows at once.
        self.register_buffer("latent_mean", torch.full((1, 1, config.latent_dim), torch.nan))
        self.register_buffer("latent_std", torch.full((1, 1, config.latent_dim), torch.nan))

    def forward(self, latent: Tensor, clip: Tensor, sync: Tensor, text: Tensor, t: Tensor) -> Tensor:
        """Velocity straight from features: ``conditions``, then ``velocity``."""
        return self.velocity(latent, t, self.conditions(clip, sync, text, latent.shape[1]))

    def conditions(
        self, clip: Tensor, sync: Tensor, text: Tensor, num_latents: int, *, is_empty_sync: bool = False
    ) -> Conditions:
        """Project features and bring sync tokens to the latent rate.

        Args:
            clip: (B, N_clip, clip_dim) CLIP image features, at least one; see ``empty_clip``.
            sync: (B, 8 S, sync_dim) sync features; see ``empty_sync``.
            text: (B, N_text, text_dim) CLIP text states, padding included; see ``empty_text``.
            num_latents: latent tokens N of the sound to be made.
            is_empty_sync: ``sync`` is that of ``empty_sync``, whose projection has few different tokens.

        Raises:
            InputError: a width, a batch size or a number of tokens does not fit.
        """
        self._check_features(clip, sync, text)
        dtype = self.sync_pos_emb.dtype
        segments = rearrange(sync.to(dtype), "b (s k) d -> b s k d", k=SEGMENT_STEP)
        clip_tokens = self.clip_input_proj(clip.to(dtype))
        sync_tokens = self.sync_input_proj((segments + self.sync_pos_emb).flatten(1, 2))
        text_tokens = self.text_input_proj(text.to(dtype))
        rows = self.sync_rows(sync.shape[1], num_latents)
        groups = repeated_groups(sync.shape[1])[rows] if is_empty_sync else rows
        return Conditions(
            clip=clip_tokens,
            sync=sync_tokens[:, rows.to(sync_tokens.device)],
            text=text_tokens,
            clip_c=self.clip_cond_proj(clip_tokens.mean(dim=1)),
            text_c=self.text_cond_proj(text_tokens.mean(dim=1)),
            groups=groups.expand(len(sync), -1),
        )

    def velocity(self, latent: Tensor, t: Tensor, conditions: Conditions, *, copies: int = 1) -> Tensor:
        """dx/dt at (t, latent).

        Args:
            latent: (B / copies, N, C), normalised.
            t: (B / copies,) in [0, 1]; kept in float32 up to the embedding.
            conditions: from ``conditions`` with ``num_latents`` = N, batch B.
            copies: how often latent and t stand, one after the other, for as many conditions; each is
                projected once.

        Returns:
            (B, N, C) in the dtype of ``latent``.

        Raises:
            InputError: the latent or t does not fit the conditions.
        """
        batch, num_latents, _ = conditions.sync.shape
        expected = (batch // copies, num_latents, self.config.latent_dim)
        if tuple(latent.shape) != expected or tuple(t.shape) != expected[:1] or batch % copies:
            raise InputError(
                f"A latent of shape {tuple(latent.shape)} with t of shape {tuple(t.shape)} does not fit "
                f"conditions made for {expected}; t must be {expected[:1]}."
            )
        head_dim = self.config.hidden_dim // self.config.num_heads
        num_clip = conditions.clip.shape[1]
        latent_rope = rope_table(num_latents, head_dim, device=latent.device)
        clip_rope = rope_table(num_clip, head_dim, scaling=num_latents / num_clip, device=latent.device)
        time = self.t_embed(t.to(latent.device), self.sync_pos_emb.dtype)
        x = self.audio_input_proj(latent.to(conditions.sync.dtype))
        if copies > 1:
            time, x = time.repeat(copies, 1), x.repeat(copies, 1, 1)
        global_c = (time + self.global_cond_mlp(conditions.clip_c + conditions.text_c)).unsqueeze(1)
        modulating = global_c + conditions.sync
        latent_c: Condition = modulating
        if conditions.shared is not None:
            places, index = conditions.shared
            latent_c = SharedRows(modulating.flatten(0, 1).index_select(0, places), index, batch)

        clip, text = conditions.clip, conditions.text
        for block in self.joint_blocks:
            x, clip, text = block(
                x,
                clip,
                text,
                global_condition=global_c,
                latent_condition=latent_c,
                latent_rope=latent_rope,
                clip_rope=clip_rope,
            )
        for block in self.fused_blocks:
            x = block(x, latent_c, latent_rope)
        # The sync tokens are left out of the last condition; the published weights depend on it.
        velocity: Tensor = self.final_layer(x, global_c)
        return velocity.to(latent.dtype)

    def sync_rows(self, num_sync: int, num_latents: int) -> Tensor:
        """Index of the sync token used by each latent token: (num_latents,) int64 on the CPU."""
        if self.config.sync_resampling == "nearest_exact":
            return nearest_rows(num_sync, num_latents)
        assert self.config.latent_rate is not None
        return time_aware_rows(num_sync, num_latents, self.config.latent_rate)

    def empty_clip(self, batch: int, num_tokens: int) -> Tensor:
        """Learned features of "no picture": (batch, num_tokens, clip_dim)."""
        return self.empty_clip_feat.expand(batch, num_tokens, -1)

    def empty_sync(self, batch: int, num_tokens: int) -> Tensor:
        """Learned features of "no video": (batch, num_tokens, sync_dim); num_tokens is 8 S."""
        return self.empty_sync_feat.expand(batch, num_tokens, -1)

    def empty_text(self, batch: int) -> Tensor:
        """CLIP features of the empty string: (batch, text_length, text_dim)."""
        return self.empty_string_feat.expand(batch, -1, -1)

    def normalize(self, latent: Tensor) -> Tensor:
        """VAE latent -> latent of zero mean and unit variance per channel."""
        return (latent - self.latent_mean.to(latent.dtype)) / self.latent_std.to(latent.dtype)

    def unnormalize(self, latent: Tensor) -> Tensor:
        """Inverse of ``normalize``; the argument is left as it is."""
        return latent * self.latent_std.to(latent.dtype) + self.latent_mean.to(latent.dtype)

    def _check_features(self, clip: Tensor, sync: Tensor, text: Tensor) -> None:
        widths = {"clip": self.config.clip_dim, "sync": self.config.sync_dim, "text": self.config.text_dim}
        for (name, width), feature in zip(widths.items(), (clip, sync, text), strict=True):
            if feature.ndim != 3 or feature.shape[-1] != width or feature.shape[1] == 0:
                raise InputError(
                    f"{name} features must be (B, at least 1, {width}) for this generator, "
                    f"not {tuple(feature.shape)}. Use empty_{name} where there are none."
                )
        if sync.shape[1] % SEGMENT_STEP:
            raise InputError(
                f"sync features come {SEGMENT_STEP} to a segment; {sync.shape[1]} is not a multiple of it. "
                "Extract the features again."
            )
        if not clip.shape[0] == sync.shape[0] == text.shape[0]:
            raise InputError(
                f"clip, sync and text features have batch sizes {clip.shape[0]}, {sync.shape[0]} and "
                f"{text.shape[0]}; they must be equal. Expand the smaller ones."
            )


class TimestepEmbedding(nn.Module):
    """Sinusoids of t, cosines first, through a two-layer MLP.

    Args:
        dim: output width.
        num_features: sinusoids, half of them cosines.
        scale: highest angular frequency in radians per unit of t.
    """

    def __init__(self, dim: int, num_features: int, *, scale: float) -> None:
        super().__init__()
        self.num_features = num_features
        self.scale = scale
        self.mlp = nn.Sequential(Linear(num_features, dim), nn.SiLU(), Linear(dim, dim))

    def forward(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        """(B,) in [0, 1] -> (B, dim); ``dtype`` is that of the weights."""
        embedded: Tensor = self.mlp(self.sinusoids(t).to(dtype))
        return embedded

    def sinusoids(self, t: Tensor) -> Tensor:
        """(B,) -> (B, num_features) float32."""
        # t is not multiplied by 1000 as in diffusion models. With scale 1e4 the angles are so large that
        # rounding t or the frequencies to 16 bits would change the features completely.
        exponents = torch.arange(0, self.num_features, 2, dtype=torch.float32, device=t.device)
        frequencies = self.scale * (1.0 / TIME_PERIOD ** (exponents / self.num_features))
        angles = t.float().unsqueeze(1) * frequencies
        return torch.cat((angles.cos(), angles.sin()), dim=1)


def nearest_rows(num_source: int, num_target: int) -> Tensor:
    """Rows of nearest-exact resampling: floor((i + 0.5) source / target), in torch's own rounding."""
    rows = torch.arange(num_source, dtype=torch.float32, device="cpu")
    resampled = functional.interpolate(rows[None, None], size=num_target, mode="nearest-exact")
    return resampled[0, 0].long()


def repeated_groups(num_sync: int) -> Tensor:
    """Numbers of (num_sync,) tokens of the empty sync features, equal where their projections are.

    The features are the same everywhere and their position embedding repeats with every step; the
    convolutions of the projection reach 5 tokens to each side, where they see zeros at both ends.
    """
    numbers = torch.arange(num_sync, device="cpu")
    inner = SEGMENT_STEP + numbers % SEGMENT_STEP
    is_inner = (numbers >= SEGMENT_STEP) & (numbers < num_sync - SEGMENT_STEP)
    return torch.where(is_inner, inner, numbers)


def time_aware_rows(num_sync: int, num_latents: int, latent_rate: float) -> Tensor:
    """Rows that put each sync token at the time of the frames it saw.

    The step tokens of a segment stand for the middle of its window, so token p is at p / 25 + 0.16 seconds;
    spreading the tokens evenly over the clip, as published weights want it, is up to 0.16 s off at both ends.
    """
    offset = (SEGMENT_FRAMES - SEGMENT_STEP) / 2 / SYNC_RATE
    times = (torch.arange(num_latents, dtype=torch.float64, device="cpu") + 0.5) / latent_rate
    return ((times - offset) * SYNC_RATE).floor().long().clamp(0, num_sync - 1)


@torch.no_grad()
def initialize(generator: Generator) -> None:
    """Set every trained weight for training from nothing, from torch's global random state.

    Statistics and the stored text of the empty string are not touched.

    Source: MMAudio (arXiv:2412.15322); zero-initialised modulation as in DiT (arXiv:2212.09748).
    """
    for module in generator.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv1d | nn.RMSNorm):
            module.reset_parameters()
    for module in generator.t_embed.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
    modulated = [m for m in generator.modules() if isinstance(m, SingleStreamBlock | FinalLayer)]
    zeros = [p for m in modulated for p in m.adaLN_modulation.parameters()]
    zeros += generator.final_layer.conv.parameters()
    zeros += [generator.sync_pos_emb, generator.empty_clip_feat, generator.empty_sync_feat]
    for parameter in zeros:
        nn.init.zeros_(parameter)
