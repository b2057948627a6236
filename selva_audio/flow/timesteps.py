"""Times on the path for training: how they are drawn, and how much each counts.

t = 0 is noise and t = 1 is data, the reverse of most diffusion code. Every law is given by its quantile
function, so that plain and stratified draws, and the grid of validation, are the same law.

Letters: B items of a batch.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

_EDGE = 1e-5  # t stays off 0 and 1, where one end of the path is not in the sample at all
_QUADRATURE = 4096


@dataclass(frozen=True, slots=True)
class TimestepLaw:
    """Distribution of t.

    Attributes:
        mode: "uniform", or "logit_normal": the logit of t is normal, as in upstream training.
        mean: of the logit; over 0 means nearer to the data.
        sigma: standard deviation of the logit.
        shift: s of ``shifted``; over 1 means nearer to the noise.

    Source: logit-normal from Stable Diffusion 3 (arXiv:2403.03206), section 3.1.
    """

    mode: Literal["uniform", "logit_normal"] = "logit_normal"
    mean: float = 0.0
    sigma: float = 1.0
    shift: float = 1.0

    def quantile(self, share: Tensor) -> Tensor:
        """The t under which ``share`` of all draws lie; any shape, float32, in (0, 1)."""
        u = share.double()
        t = u if self.mode == "uniform" else torch.sigmoid(self.mean + self.sigma * torch.special.ndtri(u))
        return shifted(t, self.shift).clamp(_EDGE, 1 - _EDGE).float()

    def cdf(self, t: Tensor) -> Tensor:
        """Share of draws under ``t``, float64."""
        t = shifted(t.double(), 1 / self.shift)
        return t if self.mode == "uniform" else torch.special.ndtr((torch.logit(t) - self.mean) / self.sigma)

    def midpoints(self, count: int) -> Tensor:
        """(count,) the middle of each of ``count`` equally likely stretches."""
        return self.quantile((torch.arange(count, dtype=torch.float64) + 0.5) / count)


def draw_timesteps(law: TimestepLaw, count: int, generator: torch.Generator, *, stratified: bool) -> Tensor:
    """(count,) times.

    Args:
        law: their distribution, which holds for each of them alone also where they are stratified.
        count: how many.
        generator: on the CPU.
        stratified: one from each of ``count`` equally likely stretches, in random order.
    """
    share = torch.rand(count, dtype=torch.float64, generator=generator)
    if stratified:
        share = (torch.randperm(count, generator=generator) + share) / count
    return law.quantile(share)


def shifted(t: Tensor, shift: float) -> Tensor:
    """1 - s (1 - t) / (1 + (s - 1) (1 - t)): monotone, the identity at s = 1, undone by 1 / s.

    Source: Stable Diffusion 3, section 5.3.2, with its axis reversed.
    """
    noise = 1 - t
    return 1 - shift * noise / (1 + (shift - 1) * noise)


def min_snr_weight(t: Tensor, gamma: float, law: TimestepLaw) -> Tensor:
    """min(t^2, gamma (1 - t)^2), divided by its mean under the law.

    Source: min-SNR (arXiv:2303.09556). The squared error of a velocity is that of the data over (1 - t)^2,
    and the signal-to-noise ratio is t^2 / (1 - t)^2, so this is min-SNR on the error of the data.
    """
    return (_min_snr(t, gamma) / _min_snr(law.midpoints(_QUADRATURE), gamma).mean()).float()


def min_snr_knee(gamma: float) -> float:
    """The t at which ``min_snr_weight`` is largest: 0.69 for gamma 5."""
    return math.sqrt(gamma) / (1 + math.sqrt(gamma))


def _min_snr(t: Tensor, gamma: float) -> Tensor:
    t = t.double()
    return torch.minimum(t.square(), gamma * (1 - t).square())
