"""Measures of a round trip, on pairs whose difference is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selva_audio.configs import MEL_16K, MEL_44K
from selva_audio.evaluation import comparison
from selva_audio.evaluation.comparison import (
    centroid_hz,
    find_lag,
    mel_loss,
    shifted,
    spectral_distances,
)
from selva_audio.models.mel import mel_spectrogram


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(0.1 * np.random.default_rng(seed).standard_normal(shape)).float()


@pytest.mark.parametrize("config", [MEL_16K, MEL_44K], ids=["16k", "44k"])
def test_a_sound_is_no_distance_from_itself(config) -> None:
    sound = noise(0, 2, config.sample_rate)
    distance, octaves = spectral_distances(sound, sound, config)
    assert distance == 0 and set(octaves.values()) == {0}
    mel = mel_spectrogram(sound, config)
    assert mel_loss(mel, mel, config).mel_l1 == 0


@settings(max_examples=10)
@given(st.floats(-20, 20))
def test_a_gain_is_a_distance_of_as_many_decibels_everywhere(gain) -> None:
    sound = noise(0, 1, 16000)
    other = sound * 10 ** (gain / 20)
    distance, octaves = spectral_distances(sound, other, MEL_16K)
    assert distance == pytest.approx(abs(gain), abs=0.05)
    assert list(octaves.values()) == pytest.approx([abs(gain)] * len(octaves), abs=0.1)
    mels = [mel_spectrogram(each / 10, MEL_16K) for each in (sound, other)]
    loss = mel_loss(*mels, MEL_16K)
    assert loss.long_term_mel_db == pytest.approx(abs(gain), abs=0.05)
    assert loss.mel_l1 == pytest.approx(abs(gain) / 20, abs=0.005)


def test_a_lost_octave_shows_in_its_own_figure() -> None:
    sound = noise(0, 1, 44100)
    spectrum = torch.fft.rfft(sound)
    hertz = torch.fft.rfftfreq(44100, 1 / 44100)
    other = torch.fft.irfft(spectrum * (hertz < 11314), 44100)
    _, octaves = spectral_distances(sound, other, MEL_44K)
    assert list(octaves) == [63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000]
    assert octaves[16000] > 20 and max(octaves[centre] for centre in list(octaves)[:-1]) < 1


def test_digital_silence_and_noise_nobody_hears_are_near() -> None:
    silence = torch.zeros(1, 16000)
    assert spectral_distances(silence, noise(0, 1, 16000) * 1e-5, MEL_16K)[0] < 1
    assert centroid_hz(silence, MEL_16K) is None


def test_the_centroid_of_a_tone_is_its_frequency() -> None:
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(16000) / 16000)[None]
    assert centroid_hz(tone, MEL_16K) == pytest.approx(1000, rel=0.01)


@settings(max_examples=20)
@given(st.integers(-800, 800), st.integers(0, 9))
def test_a_delay_is_found_and_undone(lag, seed) -> None:
    sound = noise(seed, 2, 16000)
    late = shifted(sound, -lag)
    assert find_lag(sound, late, 16000) == lag
    inner = slice(800, -800)
    assert torch.equal(shifted(late, lag)[:, inner], sound[:, inner])


def test_sounds_that_share_nothing_are_not_moved() -> None:
    assert find_lag(noise(0, 1, 16000), noise(1, 1, 16000), 16000) == 0
    tone = torch.sin(2 * math.pi * 440 * torch.arange(16000) / 16000)[None]
    assert find_lag(tone, tone * 0.5 + noise(1, 1, 16000) * 0.1, 16000) == 0
    assert find_lag(torch.zeros(1, 16000), noise(0, 1, 16000), 16000) == 0


def test_long_sounds_are_measured_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = noise(0, 1, 32000), noise(1, 1, 32000)
    whole = spectral_distances(*pair, MEL_16K)
    monkeypatch.setattr(comparison, "_CHUNK_FRAMES", 7)
    assert spectral_distances(*pair, MEL_16K)[0] == pytest.approx(whole[0])


@pytest.mark.parametrize("length", [1, 100, 1024])
def test_sounds_shorter_than_a_window_are_measured_too(length: int) -> None:
    sound = noise(0, 1, length)
    assert spectral_distances(sound, sound, MEL_16K)[0] == 0
    assert find_lag(sound, sound, 16000) == 0
