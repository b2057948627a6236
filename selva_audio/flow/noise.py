"""Noise as a pure function of (seed, take, absolute latent index).

The same sound comes from the same seed whatever the batch, the window or the worker: row n of the noise never
depends on which other rows are drawn. Only raw words of a counter-based generator are used, because numpy
promises those bits for ever, but not the algorithm of its normal distribution.
"""

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

_WORDS_PER_BLOCK = 4  # Philox4x64
_DOMAIN = 0x53656C5641206C61  # keeps this stream apart from any other use of the same seed


def latent_noise(seed: int, take: int, start: int, stop: int, dim: int) -> Tensor:
    """Standard normal rows ``start`` to ``stop`` of the noise of one take.

    Args:
        seed: any integer; ``seed + take`` counts, modulo 2**64.
        take: number of the take, from 0; take k equals seed + k.
        start: first absolute latent index, at least 0.
        stop: one past the last.
        dim: latent channels C.

    Returns:
        (stop - start, dim) float32 on the CPU.

    Raises:
        InputError: a negative start, or a stop before it.

    Source: Philox (Salmon et al., SC 2011), Box-Muller in float64.
    """
    if start < 0 or stop < start:
        raise InputError(
            f"Noise rows run from 0 upward, start before stop; {start} to {stop} is not a range."
        )
    key = np.array([(seed + take) % 2**64, _DOMAIN], dtype=np.uint64)
    blocks_per_row = -(-2 * -(-dim // 2) // _WORDS_PER_BLOCK)
    row_words = blocks_per_row * _WORDS_PER_BLOCK
    stream = np.random.Philox(key=key, counter=start * blocks_per_row)
    words = np.asarray(stream.random_raw((stop - start) * row_words), dtype=np.uint64)
    uniform = (words >> np.uint64(11)).astype(np.float64).reshape(stop - start, row_words // 2, 2) * 2.0**-53
    radius = np.sqrt(-2 * np.log1p(-uniform[..., 0]))  # log1p(-u): u = 0 is possible, u = 1 is not
    angle = 2 * np.pi * uniform[..., 1]
    normal = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1).reshape(
        stop - start, row_words
    )
    return torch.from_numpy(normal[:, :dim].astype(np.float32))
