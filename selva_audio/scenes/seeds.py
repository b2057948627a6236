"""Random streams of scenes: a function of (split, seed, purpose) alone.

The name of the split is hashed into the key, so no seed of "train" or "val" gives a scene of "test".
"""

import hashlib
from typing import Literal, get_args

import numpy as np

from ..errors import InputError, unknown_name

Split = Literal["train", "val", "test"]
SPLITS: tuple[str, ...] = get_args(Split)


def stream(split: str, seed: int, purpose: str) -> np.random.Generator:
    """An independent random stream.

    Args:
        split: one of ``SPLITS``.
        seed: number of the scene in its split, from 0.
        purpose: keeps e.g. the motion and the room tone of one scene apart.

    Raises:
        InputError: no such split, or a negative seed.
    """
    if split not in SPLITS:
        raise InputError(unknown_name("split", split, SPLITS))
    if seed < 0:
        raise InputError(f"Scenes are counted from 0; {seed} is not a seed.")
    digest = hashlib.sha256(f"{split}/{seed}/{purpose}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)))
