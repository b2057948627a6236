"""Long clips as overlapping windows of the trained length, joined in latent space.

Windows start on multiples of 0.32 s, so that the sync segments of the whole video line up with
those of a window, and share the noise of their absolute latent index (``flow.noise``).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..configs import SEGMENT_STEP, SYNC_RATE, TRAINED_DURATION, ModelConfig

STEP = SEGMENT_STEP / SYNC_RATE
_MAX_HOP_STEPS = 19
OVERLAP = TRAINED_DURATION - _MAX_HOP_STEPS * STEP
_TOLERANCE = STEP


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of the clip that is generated in one piece.

    Attributes:
        start: seconds, a multiple of 0.32.
        duration: seconds.
        first: absolute index of its first latent token.
        num_latents: its latent tokens.
    """

    start: float
    duration: float
    first: int
    num_latents: int

    @property
    def stop(self) -> int:
        """Absolute index one past its last latent token."""
        return self.first + self.num_latents


def plan_windows(duration: float, config: ModelConfig) -> list[Window]:
    """Windows that cover ``duration`` seconds: one up to 8.32 s, else 8 s each, evenly spread.

    Neighbours overlap by at least 1.92 s; the last one ends where the clip does.
    """
    total = config.lengths(duration).latent
    if duration <= TRAINED_DURATION + _TOLERANCE:
        return [Window(0.0, duration, 0, total)]
    steps = math.ceil((duration - TRAINED_DURATION) / STEP - 1e-9)
    hops = math.ceil(steps / _MAX_HOP_STEPS)
    windows = []
    for index in range(hops + 1):
        start = steps * index // hops * STEP
        first = round(start * config.latent_rate)
        if index < hops:
            length = config.lengths(TRAINED_DURATION).latent
            windows.append(Window(start, TRAINED_DURATION, first, length))
        else:
            windows.append(Window(start, duration - start, first, total - first))
    return windows


def join_windows(pieces: Iterable[tuple[Window, Tensor]], total: int, *, per_latent: int = 1) -> Tensor:
    """Cross-fade window contents into one sequence over time.

    Args:
        pieces: windows in order, each with its content (..., num_latents * per_latent) in time last.
        total: latent tokens of the whole.
        per_latent: time steps of the content per latent token (1 for latents, 2 for mels).

    Returns:
        (..., total * per_latent); a single window is returned as it is.
    """
    joined: Tensor | None = None
    end = 0
    for window, content in pieces:
        first, stop = window.first * per_latent, window.stop * per_latent
        if joined is None:
            if stop == total * per_latent:
                return content
            joined = content.new_zeros(*content.shape[:-1], total * per_latent)
            joined[..., first:stop] = content
        else:
            overlap = end - first
            fade = min(overlap, round(OVERLAP / window.duration * window.num_latents * per_latent))
            begin = (overlap - fade) // 2
            ramp = (torch.arange(fade, device=content.device, dtype=content.dtype) + 0.5) / fade
            mixed = slice(first + begin, first + begin + fade)
            joined[..., mixed] = torch.lerp(joined[..., mixed], content[..., begin : begin + fade], ramp)
            joined[..., mixed.stop : stop] = content[..., begin + fade :]
        end = stop
    assert joined is not None
    return joined
