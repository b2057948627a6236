import dataclasses

import numpy as np
import pytest
import torch

from selva_audio.errors import InputError
from selva_audio.records import Audio, Frames


def test_audio_knows_its_duration_and_is_frozen() -> None:
    audio = Audio(torch.zeros(2, 1, 24000), 16000)
    assert audio.duration == 1.5
    with pytest.raises(dataclasses.FrozenInstanceError):
        audio.sample_rate = 8000  # type: ignore[misc]


def test_audio_of_another_shape_or_rate_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(B, C, L\), not \(100,\)"):
        Audio(torch.zeros(100), 16000)
    with pytest.raises(InputError, match="positive, not 0"):
        Audio(torch.zeros(1, 1, 100), 0)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 1), np.uint8),
        np.zeros((2, 4, 4, 3), np.float32),
    ],
)
def test_frames_must_be_colour_bytes(pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"must be \(T, H, W, 3 or 4\) uint8"):
        Frames(pixels, np.arange(2.0))


def test_every_frame_needs_a_time() -> None:
    with pytest.raises(InputError, match="2 frames came with 3 times"):
        Frames(np.zeros((2, 4, 4, 3), np.uint8), np.arange(3.0))
