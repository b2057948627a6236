"""Mel autoencoder: magnitude-preserving 1-D convolutions over time.

The modules here hold plain convolutions. Published files hold weights *before* magnitude normalisation;
``fold_magnitude`` applies it once, on the state dict, on its way into the module. Training, which must
normalise in every forward pass, runs the same module on freshly normalised weights:
``torch.func.functional_call(vae, normalize_magnitude(dict(vae.named_parameters())), ...)``.

Letters: B batch, M mel bands, F mel frames, N latent tokens (F // 2), C channels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ..configs import VAEConfig
from ..errors import CheckpointError, InputError

_EPSILON = 1e-4
_ACTIVATION_LIMIT = 256.0
_BRANCH_SHARE = 0.3
_SILU_RMS = 0.596
_LOGVAR_RANGE = (-30.0, 20.0)
_WIDTHS = (1, 2, 4)
_LEVELS = len(_WIDTHS)
# The level whose resolution changes: down after level 0, up after level 1 (SPEC 13.7, 13.8).
_DOWN_LEVEL, _UP_LEVEL = 0, 1
_ENCODER_BLOCKS, _DECODER_BLOCKS = 2, 3
# Folding leaves every filter a norm of rms / (rms + 1e-4); up to 1.001 once rounded to half precision.
_FOLDED_NORMS = (0.9, 1.001)


@dataclass(frozen=True, slots=True)
class DiagonalGaussian:
    """Distribution of latents.

    Attributes:
        mean: (B, N, C) float32; also its mode.
        std: (B, N, C) float32, standard deviation.
    """

    mean: Tensor
    std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Latents (B, N, C) for standard normal ``noise`` of that shape; the caller owns the seed."""
        return self.mean + self.std * noise


class VAE(nn.Module):
    """Mel to latent and back.

    Args:
        config: sizes.
        encoder: build the encoder; generation needs the decoder alone.

    Source: SPEC 13; magnitude-preserving layers from EDM2 (arXiv:2312.02696).
    """

    data_mean: Tensor
    data_std: Tensor

    def __init__(self, config: VAEConfig, encoder: bool = True) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("data_mean", torch.zeros(1, config.num_mels, 1))
        self.register_buffer("data_std", torch.ones(1, config.num_mels, 1))
        self.encoder = Encoder(config) if encoder else None
        self.decoder = Decoder(config)

    def encode(self, mel: Tensor) -> DiagonalGaussian:
        """Distribution of the latents of ``mel``.

        Args:
            mel: (B, M, F) log-mel as ``mel_spectrogram`` gives it; an odd last frame is dropped.

        Raises:
            InputError: another shape, fewer than two frames, or a VAE without its encoder.
        """
        if self.encoder is None:
            raise InputError("This VAE has no encoder. Load it with the encoder to encode audio.")
        if mel.ndim != 3 or mel.shape[1] != self.config.num_mels or mel.shape[2] < 2:
            raise InputError(
                f"This VAE encodes mels (B, {self.config.num_mels}, F) of 2 frames or more, "
                f"not {tuple(mel.shape)}."
            )
        normalized = (mel.float() - self.data_mean.float()) / self.data_std.float()
        hidden = self.encoder(normalized.to(self.decoder.conv_in.weight.dtype))
        mean, logvar = rearrange(hidden.float(), "b c n -> b n c").chunk(2, dim=-1)
        return DiagonalGaussian(mean, torch.exp(logvar.clamp(*_LOGVAR_RANGE) / 2))

    def decode(self, latent: Tensor) -> Tensor:
        """Log-mel (B, M, 2 N) float32 in the scale of ``mel_spectrogram``, from ``latent`` (B, N, C).

        Raises:
            InputError: another shape.
        """
        if latent.ndim != 3 or latent.shape[2] != self.config.latent_dim or latent.shape[1] < 1:
            raise InputError(
                f"This VAE decodes latents (B, N, {self.config.latent_dim}), not {tuple(latent.shape)}."
            )
        hidden = self.decoder(rearrange(latent, "b n c -> b c n").to(self.decoder.conv_in.weight.dtype))
        mel: Tensor = hidden.float() * self.data_std.float() + self.data_mean.float()
        return mel


def fold_magnitude(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a file -> state dict of ``VAE``: ``normalize_magnitude``, once.

    Raises:
        CheckpointError: the weights are folded already. A second pass would change each layer by up to
            0.7 % without any other sign.
    """
    weights = [weight for key, weight in state_dict.items() if _is_convolution(key)]
    if weights and all(_is_folded(weight) for weight in weights):
        raise CheckpointError(
            "These VAE weights are magnitude-normalised already: each filter has a norm just below 1. "
            "Give the weights as published or as trained; they are normalised once while loading."
        )
    return normalize_magnitude(state_dict)


def normalize_magnitude(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy of ``state_dict`` whose convolutions preserve magnitude; differentiable.

    Each filter w becomes w / (1e-4 + rms(w)) / sqrt(fan_in), in float32; all else is passed on.

    Source: EDM2 (arXiv:2312.02696) appendix B; SPEC 13.2.
    """
    return {
        key: _normalize_filters(value) if _is_convolution(key) else value for key, value in state_dict.items()
    }


def pixel_norm(x: Tensor, dim: int = 1) -> Tensor:
    """``x`` over its root mean square along ``dim``, the norm taken in float32 (SPEC 13.3)."""
    rms = x.float().square().mean(dim=dim, keepdim=True).sqrt()
    return x / (_EPSILON + rms).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """SiLU that keeps unit magnitude (SPEC 13.4)."""
    return functional.silu(x) / _SILU_RMS


def mp_sum(stream: Tensor, branch: Tensor) -> Tensor:
    """0.7 of the stream plus 0.3 of the branch, at unit magnitude (SPEC 13.4)."""
    share = _BRANCH_SHARE
    return ((1 - share) * stream + share * branch) / math.sqrt((1 - share) ** 2 + share**2)


class Encoder(nn.Module):
    """Normalised mel (B, M, F) -> (B, 2 C, F // 2): means, then log variances (SPEC 13.7)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [multiple * config.hidden_dim for multiple in _WIDTHS]
        self.learnable_gain = nn.Parameter(torch.zeros(()))
        self.conv_in = convolution(config.num_mels, widths[0], 3)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            previous = widths[max(level - 1, 0)]
            downsample = Downsample(width) if level == _DOWN_LEVEL else None
            self.down.append(Level(previous, width, _ENCODER_BLOCKS, downsample=downsample))
        self.mid = Middle(widths[-1])
        self.conv_out = convolution(widths[-1], 2 * config.latent_dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, M, F) -> (B, 2 C, F // 2)."""
        hidden = self.conv_in(x)
        for level in self.down:
            hidden = level(hidden)
        hidden = self.mid(hidden).clamp(-_ACTIVATION_LIMIT, _ACTIVATION_LIMIT)
        out: Tensor = self.conv_out(mp_silu(hidden)) * (self.learnable_gain + 1)
        return out


class Decoder(nn.Module):
    """Latent (B, C, N) -> normalised mel (B, M, 2 N) (SPEC 13.8)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [multiple * config.hidden_dim for multiple in _WIDTHS]
        self.learnable_gain = nn.Parameter(torch.zeros(()))
        self.conv_in = convolution(config.latent_dim, widths[-1], 3)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            previous = widths[min(level + 1, _LEVELS - 1)]
            upsample = Upsample(width) if level == _UP_LEVEL else None
            self.up.append(Level(previous, width, _DECODER_BLOCKS, upsample=upsample))
        self.conv_out = convolution(widths[0], config.num_mels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N) -> (B, M, 2 N)."""
        hidden = self.mid(self.conv_in(x)).clamp(-_ACTIVATION_LIMIT, _ACTIVATION_LIMIT)
        for level in reversed(self.up):
            hidden = level(hidden)
        out: Tensor = self.conv_out(mp_silu(hidden)) * (self.learnable_gain + 1)
        return out


class Level(nn.Module):
    """Residual blocks at one width, then a change of resolution where there is one."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int,
        *,
        downsample: nn.Module | None = None,
        upsample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(out_channels if index else in_channels, out_channels) for index in range(num_blocks)
        )
        self.downsample = downsample
        self.upsample = upsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F) -> (B, C', F'); activations stay within +-256."""
        for block in self.block:
            x = block(x).clamp(-_ACTIVATION_LIMIT, _ACTIVATION_LIMIT)
        for resample in (self.downsample, self.upsample):
            if resample is not None:
                x = resample(x)
        return x


class Middle(nn.Module):
    """Residual block, attention, residual block at the widest level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels)
        self.attn_1 = Attention(channels)
        self.block_2 = ResidualBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N) -> (B, C, N)."""
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out


class ResidualBlock(nn.Module):
    """Two convolutions beside a stream that is normalised first, shortcut included (SPEC 13.5)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, out_channels, 3)
        self.conv2 = convolution(out_channels, out_channels, 3)
        shortcut = convolution(in_channels, out_channels, 1) if in_channels != out_channels else None
        self.nin_shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F) -> (B, C', F)."""
        x = pixel_norm(x)
        branch = self.conv2(mp_silu(self.conv1(mp_silu(x))))
        return mp_sum(x if self.nin_shortcut is None else self.nin_shortcut(x), branch)


class Attention(nn.Module):
    """Single-head attention over time; q, k and v have unit magnitude (SPEC 13.6)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = convolution(channels, 3 * channels, 1)
        self.proj_out = convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N) -> (B, C, N)."""
        q, k, v = pixel_norm(rearrange(self.qkv(x), "b (c three) n -> three b n c", three=3), dim=-1)
        hidden = functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])
        return mp_sum(x, self.proj_out(rearrange(hidden, "b 1 n c -> b c n")))


class Downsample(nn.Module):
    """Half the frames; an odd last one is dropped."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels, channels, 1)
        self.conv2 = convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F) -> (B, C, F // 2)."""
        out: Tensor = self.conv2(functional.avg_pool1d(self.conv1(x), 2))
        return out


class Upsample(nn.Module):
    """Twice the frames, each repeated, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = convolution(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F) -> (B, C, 2 F)."""
        out: Tensor = self.conv(x.repeat_interleave(2, dim=-1))
        return out


def convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv1d:
    """Bias-free convolution that keeps the length."""
    return nn.Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)


def _is_convolution(key: str) -> bool:
    return key.endswith(".weight")


def _normalize_filters(weight: Tensor) -> Tensor:
    fan_in = weight[0].numel()
    rms = weight.float().square().mean(dim=(1, 2), keepdim=True).sqrt()
    return (weight.float() / (_EPSILON + rms) / math.sqrt(fan_in)).to(weight.dtype)


def _is_folded(weight: Tensor) -> bool:
    norms = weight.detach().float().flatten(1).norm(dim=1)
    low, high = _FOLDED_NORMS
    return bool(((norms >= low) & (norms <= high)).all())
