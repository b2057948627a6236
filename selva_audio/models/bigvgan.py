"""BigVGAN vocoder: log-mel to waveform, with weight norm folded into plain convolutions.

Letters: B batch, M mel bands, F mel frames, L samples (F * hop), C channels.
"""

import functools
import itertools
import math
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..configs import VocoderConfig
from ..errors import CheckpointError, InputError
from ..graphs import Replayed
from ..progress import Progress, ProgressFn, ignore_progress
from ..runtime import trim_memory
from .antialias import ACTIVATION_REACH, AntialiasedActivation
from .convolution import Convolution, TransposedConvolution
from .fast_path import asks_for_gradients, has_channels_together, is_on_cpu

_EDGE_KERNEL = 7
_LONG_HOP = 64
# Largest activation from which channels are laid side by side. Below (2.7 s of the published 16 kHz vocoder,
# a minute of the demo's) loading the compiled step costs more than it saves.
_LARGE = 2**20
_HALVES = (".weight_g", ".weight_v")
_NEW_NAMES = {
    ".parametrizations.weight.original0": ".weight_g",
    ".parametrizations.weight.original1": ".weight_v",
}


class BigVGAN(nn.Module):
    """Vocoder of one mel layout and rate.

    Source: BigVGAN (arXiv:2206.04658); the published 16 kHz and v2 44 kHz sizes are in SPEC 15.
    """

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.initial_channels
        self.conv_pre = Convolution(config.num_mels, channels, _EDGE_KERNEL, padding=_EDGE_KERNEL // 2)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        stages = zip(config.upsample_rates, config.upsample_kernels, config.widths, strict=True)
        for rate, kernel, width in stages:
            layer = OverlapAdd if rate >= _LONG_HOP and kernel % rate == 0 else TransposedConvolution
            up = layer(channels, width, kernel, rate, padding=(kernel - rate) // 2)
            channels = width
            self.ups.append(nn.Sequential(up))
            self.resblocks.extend(ResidualBlock(channels, size, config) for size in config.resblock_kernels)
        self.activation_post = AntialiasedActivation(channels, config.snake)
        self.conv_post = Convolution(
            channels, 1, _EDGE_KERNEL, padding=_EDGE_KERNEL // 2, bias=config.final == "tanh"
        )

    @property
    def hop_length(self) -> int:
        """Samples per mel frame."""
        return math.prod(self.config.upsample_rates)

    @property
    def receptive_field(self) -> int:
        """Mel frames each side that can influence the samples of one frame."""
        reaches: list[Any] = [each.reach for each in self.modules() if hasattr(each, "reach")]
        return _receptive_field(self.config, max(reaches))

    def forward(self, mel: Tensor) -> Tensor:
        """Waveform of ``mel``.

        Args:
            mel: (B, M, F) log-mel in the scale of ``mel_spectrogram``.

        Returns:
            (B, 1, L) float32 in [-1, 1].

        Raises:
            InputError: another shape.
        """
        if mel.ndim != 3 or mel.shape[1] != self.config.num_mels or mel.shape[2] < 1:
            raise InputError(
                f"This vocoder takes mels (B, {self.config.num_mels}, F), not {tuple(mel.shape)}. "
                "Use the vocoder of the same sample rate as the mel."
            )
        mel = mel.to(self.conv_pre.weight.dtype)
        if self._is_large(mel) and not asks_for_gradients(mel, self):
            mel = mel.transpose(1, 2).contiguous().transpose(1, 2)
        hidden = self.conv_pre(mel)
        per_stage = len(self.config.resblock_kernels)
        for stage, up in enumerate(self.ups):
            hidden = up(hidden)
            blocks = self.resblocks[stage * per_stage : (stage + 1) * per_stage]
            hidden = functools.reduce(torch.add, (block(hidden) for block in blocks)) / per_stage
            if has_channels_together(hidden):
                trim_memory()  # its convolutions bring weights to another order, hundreds of MB in all
        wave: Tensor = self.conv_post(self.activation_post(hidden)).float()
        return torch.tanh(wave) if self.config.final == "tanh" else wave.clamp(-1, 1)

    def _is_large(self, mel: Tensor) -> bool:
        """Whether the layout that a CPU is fastest with is worth its cost."""
        rates = itertools.accumulate(self.config.upsample_rates, operator.mul)
        widest = max(rate * width for rate, width in zip(rates, self.config.widths, strict=True))
        return is_on_cpu(mel) and mel.shape[0] * mel.shape[2] * widest >= _LARGE


class OverlapAdd(nn.ConvTranspose1d):
    """A transposed convolution as one matrix product and a sum of shifted blocks.

    The same sum; for a stride of hundreds, torch's own takes several times as long on a CPU. The kernel is a
    multiple of the stride.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, L) -> (B, C', L * stride)."""
        x = x.to(self.weight.dtype)
        hop, padding = self.stride[0], int(self.padding[0])
        batch, channels, length = x.shape
        product = x.transpose(1, 2).reshape(-1, channels) @ self.weight.flatten(1)
        blocks = product.reshape(batch, length, self.out_channels, -1, hop)
        overlap = blocks.shape[3] - 1
        shifted = [
            functional.pad(blocks[..., index, :], (0, 0, 0, 0, index, overlap - index))
            for index in range(overlap + 1)
        ]
        wave = torch.stack(shifted).sum(dim=0).transpose(1, 2).reshape(batch, self.out_channels, -1)
        wave = wave[..., padding : wave.shape[-1] - padding]
        return wave if self.bias is None else wave + self.bias[:, None]


class ResidualBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each after its activation (SPEC 15.3)."""

    def __init__(self, channels: int, kernel_size: int, config: VocoderConfig) -> None:
        super().__init__()
        dilations = config.resblock_dilations
        self.convs1 = nn.ModuleList(_same_convolution(channels, kernel_size, size) for size in dilations)
        self.convs2 = nn.ModuleList(_same_convolution(channels, kernel_size, 1) for _ in dilations)
        self.activations = nn.ModuleList(
            AntialiasedActivation(channels, config.snake) for _ in range(2 * len(dilations))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, C, L)."""
        pairs = zip(self.activations[::2], self.convs1, self.activations[1::2], self.convs2, strict=True)
        # A fast sum keeps float32: it has many small terms, and what is convolved is rounded on its own.
        is_fast = has_channels_together(x) and not asks_for_gradients(x, self)
        if is_fast:
            x = x.to(torch.float32, copy=True)
        for activation1, conv1, activation2, conv2 in pairs:
            change = conv2(activation2(conv1(activation1(x))))
            x = x.add_(change) if is_fast else x + change
        return x


def vocode_in_chunks(
    vocoder: BigVGAN, mel: Tensor, chunk_frames: int, on_progress: ProgressFn = ignore_progress
) -> Tensor:
    """``vocoder(mel)`` in pieces whose memory does not grow with the clip.

    Each piece is vocoded with the frames around it that can influence it, so the joined waveform is that of
    the whole run up to rounding.

    Args:
        vocoder: the module.
        mel: (B, M, F).
        chunk_frames: frames per piece, 1 or more; work grows by ``2 * receptive_field / chunk_frames``.
        on_progress: called before each piece.

    Returns:
        (B, 1, L) float32.
    """
    if chunk_frames < 1:
        raise InputError(f"A vocoder chunk needs 1 frame or more, not {chunk_frames}.")
    frames, hop, margin = mel.shape[-1], vocoder.hop_length, vocoder.receptive_field
    vocode = Replayed(vocoder, nn.Module.__call__)
    pieces = []
    for start in range(0, frames, chunk_frames):
        on_progress(Progress("vocoding", start, frames))
        end = min(start + chunk_frames, frames)
        first = max(start - margin, 0)
        wave = vocode(mel[..., first : end + margin])
        pieces.append(wave[..., (start - first) * hop : (end - first) * hop].clone())  # not with its margins
        del wave
        trim_memory()
    return torch.cat(pieces, dim=-1)


def fold_weight_norm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a file -> plain convolution weights; differentiable.

    ``X.weight_g`` and ``X.weight_v``, or torch's newer names for them, become
    ``X.weight = g * v / ||v||`` with the norm over all axes but the first (the *input* channels of a
    transposed convolution). Weights without weight norm pass through, so folding twice changes nothing.

    Raises:
        CheckpointError: one half of a pair is missing.

    Source: weight normalisation (arXiv:1602.07868); SPEC 15.6.
    """
    renamed = {_rename(key): value for key, value in state_dict.items()}
    folded = {key: value for key, value in renamed.items() if not key.endswith(_HALVES)}
    for module in sorted({key.rpartition(".")[0] for key in renamed.keys() - folded.keys()}):
        magnitude, direction = (renamed.get(module + half) for half in _HALVES)
        if magnitude is None or direction is None:
            raise CheckpointError(
                f"The vocoder weights hold only one of {module}.weight_g and {module}.weight_v. "
                "Give a file with both, or with weight norm removed."
            )
        folded[f"{module}.weight"] = _weight_norm(magnitude, direction)
    return folded


def _rename(key: str) -> str:
    for new, old in _NEW_NAMES.items():
        key = key.replace(new, old)
    return key


def _weight_norm(magnitude: Tensor, direction: Tensor) -> Tensor:
    norm = direction.float().flatten(1).norm(dim=1).reshape(magnitude.shape)
    weight: Tensor = direction.float() * (magnitude.float() / norm)
    return weight.to(direction.dtype)


def _receptive_field(config: VocoderConfig, activation_reach: int) -> int:
    """Follow the samples 0 .. hop - 1 of one frame back through the layers, as an interval of inputs."""
    reach = max(
        sum((kernel // 2) * (dilation + 1) + 2 * activation_reach for dilation in config.resblock_dilations)
        for kernel in config.resblock_kernels
    )
    edge = _EDGE_KERNEL // 2
    first, last = 0, math.prod(config.upsample_rates) - 1
    first, last = first - edge - ACTIVATION_REACH, last + edge + ACTIVATION_REACH
    stages = zip(reversed(config.upsample_rates), reversed(config.upsample_kernels), strict=True)
    for rate, kernel in stages:
        padding = (kernel - rate) // 2
        first = -((kernel - 1 - padding - (first - reach)) // rate)
        last = (last + reach + padding) // rate
    return max(edge - first, edge + last)


def _same_convolution(channels: int, kernel_size: int, dilation: int) -> Convolution:
    padding = (kernel_size - 1) * dilation // 2
    return Convolution(channels, channels, kernel_size, dilation=dilation, padding=padding)
