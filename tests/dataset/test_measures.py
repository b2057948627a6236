import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selva_audio.dataset.measures import (
    background_snr,
    dc_dbfs,
    silence_fraction,
)
from selva_audio.media.loudness import block_levels

RATE = 16000
TIME = np.arange(8 * RATE) / RATE


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(len(TIME))


def hits(every: float = 1.0) -> np.ndarray:
    """Short decaying tones at full scale."""
    wave = np.zeros(len(TIME))
    for moment in np.arange(0.3, 8, every):
        past = TIME[moment <= TIME] - moment
        wave[moment <= TIME] += np.exp(-past / 0.1) * np.sin(2 * np.pi * 800 * past)
    return 0.5 * wave


def snr(wave: np.ndarray) -> float | None:
    return background_snr(wave[None].astype(np.float32), RATE)


@pytest.mark.parametrize("level", [0.1, 0.03, 0.003])
def test_noise_between_events_is_measured_in_its_level(level: float) -> None:
    found = snr(hits() + level * noise())
    loud = block_levels((hits() + level * noise())[None], RATE)
    assert found == pytest.approx(np.percentile(loud, 95) - 20 * np.log10(level), abs=1)


def test_steady_and_swelling_sounds_have_no_background() -> None:
    """COMPAT 5.19: rain and engines were rejected, because nothing in them is quiet."""
    engine = sum(np.sin(2 * np.pi * 80 * k * TIME + k) / k for k in range(1, 20))
    swell = 10 ** (np.sin(2 * np.pi * 0.4 * TIME) / 2)
    gusts = np.where(np.sin(2 * np.pi * 0.4 * TIME) > 0, 1.0, 0.2)
    sounds = (noise(), 0.1 * engine, 0.05 * noise() * swell, np.sin(2 * np.pi * 440 * TIME))
    for wave in (*sounds, 0.1 * noise() * gusts, 0.1 * engine * gusts):
        assert snr(wave) is None


def test_silence_around_a_noisy_sound_is_no_low_background() -> None:
    """COMPAT 5.19: a noisy sound passed once silence was put beside it."""
    wave = hits() + 0.1 * noise()
    padded = np.concatenate([np.zeros(4 * RATE), wave, np.zeros(4 * RATE)])
    assert snr(padded) == pytest.approx(snr(wave), abs=1)
    assert snr(np.concatenate([np.zeros(4 * RATE), noise(), np.zeros(4 * RATE)])) is None


@settings(max_examples=8)
@given(st.floats(0.01, 1.0))
def test_the_distance_to_the_background_does_not_depend_on_the_level(gain: float) -> None:
    wave = hits() + 0.03 * noise()
    assert snr(gain * wave) == pytest.approx(snr(wave), abs=1e-2)


def test_a_short_sound_and_silence_tell_nothing() -> None:
    assert snr(noise()[:1000]) is None
    assert snr(np.zeros(len(TIME))) is None


@settings(max_examples=15)
@given(st.integers(0, 80))
def test_the_share_of_silence_is_that_of_its_length(blocks: int) -> None:
    wave = noise().astype(np.float32)
    wave[: blocks * RATE // 20] = 0
    assert silence_fraction(wave[None], RATE, under_dbfs=-60) == pytest.approx(blocks / 160)


def test_the_constant_part_is_told_in_its_level() -> None:
    wave = (0.1 * np.sin(2 * np.pi * 100 * TIME) + 0.01)[None].astype(np.float32)
    assert dc_dbfs(wave) == pytest.approx(-40, abs=0.1)
    assert dc_dbfs(wave - wave.mean()) < -100
