"""The harmonic exciter, on tones whose overtones are known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selva_audio.media import exciter
from selva_audio.media.exciter import excite

RATE = 44100
CHOSEN = {"cutoff_hz": 3000.0, "drive": 4.0, "mix": 0.5}


def tone(hertz: float, level: float = 0.5) -> torch.Tensor:
    return (level * torch.sin(2 * math.pi * hertz * torch.arange(RATE).double() / RATE)).float()[None, None]


def level_at(sound: torch.Tensor, hertz: int) -> float:
    """Amplitude of the tone at a whole number of hertz, the ends of the second left out by a window."""
    window = np.hanning(RATE)
    return float(np.abs(np.fft.rfft(sound[0, 0].numpy() * window))[hertz] * 2 / window.sum())


def test_a_high_tone_gets_its_third_overtone_and_a_low_one_nothing() -> None:
    assert level_at(excite(tone(5000), RATE, **CHOSEN), 15000) > 1e-3
    inner = slice(1000, -1000)  # at its ends the tone is bent, which sounds higher
    low = excite(tone(500), RATE, **CHOSEN)
    assert torch.allclose(low[..., inner], tone(500)[..., inner], atol=2e-4)


def test_small_signals_are_boosted_by_the_mix_above_the_cutoff() -> None:
    excited = excite(tone(6000, 1e-3), RATE, **CHOSEN)
    assert level_at(excited, 6000) == pytest.approx(1.5e-3, rel=1e-3)


def test_overtones_past_half_the_rate_do_not_fold_back() -> None:
    # The third overtone of 9 kHz is 27 kHz, which would come back at 17.1 kHz.
    assert level_at(excite(tone(9000), RATE, **CHOSEN), RATE - 27000) < 1e-4


def test_more_drive_makes_more_overtones() -> None:
    overtones = [
        level_at(excite(tone(5000), RATE, cutoff_hz=3000, drive=drive, mix=0.5), 15000) for drive in (1, 2, 4)
    ]
    assert overtones == sorted(overtones) and overtones[-1] > 2 * overtones[0]


@settings(max_examples=20)
@given(st.integers(0, 9), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2000), st.floats(1, 10))
def test_shape_is_kept_and_mix_zero_is_the_sound_itself(seed, takes, channels, length, drive) -> None:
    sound = torch.from_numpy(np.random.default_rng(seed).normal(0, 0.1, (takes, channels, length))).float()
    excited = excite(sound, RATE, cutoff_hz=3000, drive=drive, mix=0.3)
    assert excited.shape == sound.shape and bool(excited.isfinite().all())
    assert torch.equal(excite(sound, RATE, cutoff_hz=3000, drive=drive, mix=0), sound)
    assert torch.equal(excite(sound[-1:], RATE, cutoff_hz=3000, drive=drive, mix=0.3), excited[-1:])


def test_silence_stays_silence_and_a_cutoff_beyond_the_sound_changes_nothing() -> None:
    silence = torch.zeros(1, 1, 500)
    assert torch.equal(excite(silence, RATE, **CHOSEN), silence)
    sound = tone(3000)[..., :8000]
    assert torch.equal(excite(sound, 16000, cutoff_hz=8000, drive=4, mix=1), sound)


def test_blocks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = tone(5000)[..., :5000]
    whole = excite(sound, RATE, **CHOSEN)
    monkeypatch.setattr(exciter, "_BLOCK", 600)
    assert torch.allclose(excite(sound, RATE, **CHOSEN), whole, atol=1e-6)
