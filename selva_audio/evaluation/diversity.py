"""How different the takes of one prompt are."""

import torch
from torch import Tensor

from ..configs import MelConfig
from ..errors import InputError
from ..models.mel import mel_spectrogram


def diversity(takes: Tensor, config: MelConfig) -> float:
    """Mean log-mel distance (mean absolute difference) over all pairs of takes; 0 where all are equal.

    Args:
        takes: (B, L) at ``config.sample_rate`` hertz, two or more.
        config: the analysis.

    Raises:
        InputError: fewer than two takes.
    """
    if takes.ndim != 2 or len(takes) < 2:
        raise InputError(f"Diversity needs two or more takes (B, L), not {tuple(takes.shape)}.")
    mels = mel_spectrogram(takes, config).flatten(1)
    first, second = torch.triu_indices(len(takes), len(takes), offset=1)
    distances = [(mels[a] - mels[b]).abs().mean() for a, b in zip(first, second, strict=True)]
    return float(torch.stack(distances).mean())
