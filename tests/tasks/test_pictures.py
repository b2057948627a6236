"""Pictures of sound as arrays."""

import numpy as np
import torch

from selva_audio.records import Audio
from selva_audio.tasks.pictures import comparison_picture, mel_picture, spectrogram_picture


def test_a_row_per_take_and_even_one_sample_can_be_drawn():
    one = spectrogram_picture(Audio(torch.rand(1, 2, 1), 16000))
    three = spectrogram_picture(Audio(torch.rand(3, 1, 8000), 16000))
    assert one.dtype == three.dtype == np.uint8
    assert one.shape[1:] == three.shape[1:]
    assert three.shape[0] > 2 * one.shape[0]


def test_sounds_of_two_rates_are_compared_on_one_axis():
    before = Audio(torch.rand(1, 1, 4410), 44100)
    after = Audio(torch.rand(1, 1, 1600), 16000)
    assert comparison_picture(before, after).shape == comparison_picture(after, after).shape


def test_a_mel_is_drawn_with_low_frequencies_below():
    mel = np.full((80, 30), -5.0, np.float32)
    mel[:8] = 0
    picture = mel_picture(mel)
    assert picture.shape == (192, 512, 3)
    assert picture[-1].mean() > picture[0].mean() + 50
    assert mel_picture(np.full((80, 1), np.nan, np.float32)).shape == (192, 512, 3)
