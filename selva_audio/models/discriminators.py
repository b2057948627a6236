"""The discriminators that BigVGAN was trained against, for their features alone; nothing trains them here.

Attribute names are the keys of the published files, with weight norm folded. Sizes come from the file.

Letters: B batch, C channels, L samples, P period, K frequency bins, F frames.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from .constant_q import constant_q

PERIODS = (2, 3, 5, 7, 11)
RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
# Hop at twice the sample rate, and bins in an octave.
CONSTANT_Q = ((512, 24), (256, 36), (256, 48))
OCTAVES = 9
_SLOPE = 0.1
_PERIOD_KERNEL, _PERIOD_STRIDE = 5, 3
_WIDE, _SQUARE = (3, 9), (3, 3)


class MultiPeriodDiscriminator(nn.Module):
    """One discriminator per period.

    Args:
        channels: of the layers of each.

    Source: HiFi-GAN (arXiv:2010.05646) section 2.3.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(PeriodDiscriminator(period, channels) for period in PERIODS)

    def features(self, waveform: Tensor) -> list[Tensor]:
        """Outputs of every layer for (B, 1, L)."""
        return _listen(self.discriminators, waveform)


class PeriodDiscriminator(nn.Module):
    """Looks at every P-th sample: the waveform folded into rows of ``period``."""

    def __init__(self, period: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        last = len(channels) - 1
        self.convs = nn.ModuleList(
            nn.Conv2d(
                before,
                after,
                (_PERIOD_KERNEL, 1),
                (1 if index == last else _PERIOD_STRIDE, 1),
                padding=(_PERIOD_KERNEL // 2, 0),
            )
            for index, (before, after) in enumerate(zip((1, *channels), channels, strict=False))
        )
        self.conv_post = nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0))

    def features(self, waveform: Tensor) -> list[Tensor]:
        """Outputs of every layer for (B, 1, L)."""
        spare = -waveform.shape[-1] % self.period
        padded = functional.pad(waveform, (0, spare), "reflect")
        folded = rearrange(padded, "b c (l p) -> b c l p", p=self.period)
        return _run(folded, self.convs, self.conv_post)


class MultiResolutionDiscriminator(nn.Module):
    """One discriminator per resolution of the magnitude spectrum.

    Args:
        channels: of the layers of each.

    Source: UnivNet (arXiv:2106.07889) section 2.2; BigVGAN (arXiv:2206.04658).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(
            ResolutionDiscriminator(resolution, channels) for resolution in RESOLUTIONS
        )

    def features(self, waveform: Tensor) -> list[Tensor]:
        """Outputs of every layer for (B, 1, L)."""
        return _listen(self.discriminators, waveform)


class ResolutionDiscriminator(nn.Module):
    """Looks at one magnitude spectrum.

    Args:
        resolution: FFT size, hop and window in samples; the window is rectangular, as in the released code.
        channels: of every layer.
    """

    def __init__(self, resolution: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        self.resolution = resolution
        self.convs = nn.ModuleList(
            [nn.Conv2d(1, channels, _WIDE, padding=(1, 4))]
            + [nn.Conv2d(channels, channels, _WIDE, (1, 2), padding=(1, 4)) for _ in range(3)]
            + [nn.Conv2d(channels, channels, _SQUARE, padding=(1, 1))]
        )
        self.conv_post = nn.Conv2d(channels, 1, _SQUARE, padding=(1, 1))

    def features(self, waveform: Tensor) -> list[Tensor]:
        """Outputs of every layer for (B, 1, L)."""
        n_fft, hop, length = self.resolution
        margin = (n_fft - hop) // 2
        if waveform.shape[-1] <= margin:
            raise InputError(
                f"A stretch of {waveform.shape[-1]} samples is too short for the discriminator, which needs "
                f"{margin + 1} or more. Raise segment_seconds."
            )
        padded = functional.pad(waveform, (margin, margin), "reflect").squeeze(1)
        window = torch.ones(length, device=waveform.device)
        spectrum = torch.stft(padded, n_fft, hop, length, window, center=False, return_complex=True)
        # The size of a complex zero has no gradient; that of one with this floor has.
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()
        return _run(magnitude.unsqueeze(1), self.convs, self.conv_post)


class MultiConstantQDiscriminator(nn.Module):
    """One discriminator per number of bins in an octave of the constant-Q transform.

    Args:
        channels: of the layers of each.
        sample_rate: hertz.

    Source: multi-scale sub-band constant-Q discriminator (arXiv:2311.14957).
    """

    def __init__(self, channels: int, sample_rate: int) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(
            ConstantQDiscriminator(hop, bins, channels, sample_rate) for hop, bins in CONSTANT_Q
        )

    def features(self, waveform: Tensor) -> list[Tensor]:
        """Outputs of every layer for (B, 1, L)."""
        return _listen(self.discriminators, waveform)


class ConstantQDiscriminator(nn.Module):
    """Looks at real and imaginary parts of one transform, each octave through a layer of its own first.

    Args:
        hop: samples between frames, at twice the rate.
        bins: in an octave.
        channels: of every layer.
        sample_rate: hertz.
    """

    def __init__(self, hop: int, bins: int, channels: int, sample_rate: int) -> None:
        super().__init__()
        self.hop, self.bins, self.sample_rate = hop, bins, sample_rate
        self.conv_pres = nn.ModuleList(nn.Conv2d(2, 2, _WIDE, padding=(1, 4)) for _ in range(OCTAVES))
        self.convs = nn.ModuleList(
            [nn.Conv2d(2, channels, _WIDE, padding=(1, 4))]
            + [
                nn.Conv2d(channels, channels, _WIDE, (1, 2), padding=(spread, 4), dilation=(spread, 1))
                for spread in (1, 2, 4)
            ]
            + [nn.Conv2d(channels, channels, _SQUARE, padding=(1, 1))]
        )
        self.conv_post = nn.Conv2d(channels, 1, _SQUARE, padding=(1, 1))

    def features(self, waveform: Tensor) -> list[Tensor]:
        """Outputs of every layer for (B, 1, L)."""
        transform = constant_q(
            waveform[:, 0], self.sample_rate, self.hop // 2, bins_per_octave=self.bins, num_octaves=OCTAVES
        )
        planes = torch.stack((transform.real, transform.imag), dim=1).transpose(2, 3)  # (B, 2, F, K)
        octaves = zip(self.conv_pres, torch.split(planes, self.bins, dim=3), strict=True)
        return _run(torch.cat([conv(part) for conv, part in octaves], dim=3), self.convs, self.conv_post)


def _listen(parts: nn.ModuleList, waveform: Tensor) -> list[Tensor]:
    outputs: list[Tensor] = []
    for part in parts:
        assert isinstance(part, PeriodDiscriminator | ResolutionDiscriminator | ConstantQDiscriminator)
        outputs += part.features(waveform)
    return outputs


def _run(x: Tensor, convs: nn.ModuleList, last: nn.Module) -> list[Tensor]:
    outputs = []
    for conv in convs:
        x = functional.leaky_relu(conv(x), _SLOPE)
        outputs.append(x)
    return [*outputs, last(x)]
