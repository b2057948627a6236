"""Levels, as laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selva_audio.errors import GenerationError, InputError
from selva_audio.media.loudness import guard_peak, lufs, normalize, peak_dbfs, rms_dbfs, true_peak_dbtp

RATE = 16000
MEASURES = {"rms": rms_dbfs, "lufs": lambda waveform: lufs(waveform, RATE), "peak": peak_dbfs}


def _noise(seed: int, seconds: float = 1.0, channels: int = 1) -> torch.Tensor:
    values = np.random.default_rng(seed).standard_normal((channels, round(seconds * RATE)))
    return torch.from_numpy(values).float() * 0.05


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.sampled_from(sorted(MEASURES)), st.floats(-40, -20), st.integers(1, 2))
def test_target_is_reached_to_a_tenth_of_a_decibel(seed, mode, target, channels) -> None:
    waveform, note = normalize(_noise(seed, channels=channels), RATE, mode, target, 0.0)
    assert note is None
    assert MEASURES[mode](waveform) == pytest.approx(target, abs=0.1)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.sampled_from(sorted(MEASURES)), st.floats(-30, 0), st.floats(-9, 0))
def test_ceiling_is_never_passed(seed, mode, target, ceiling) -> None:
    noise = _noise(seed)
    waveform, note = normalize(noise, RATE, mode, target, ceiling)
    assert true_peak_dbtp(waveform) <= ceiling + 1e-3
    shortfall = target - MEASURES[mode](waveform)
    assert shortfall < 0.1 or "turned down" in note
    assert note is None or shortfall > 0.04


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.sampled_from(sorted(MEASURES)), st.floats(0.05, 20))
def test_the_result_does_not_depend_on_the_gain_of_the_input(seed, mode, gain) -> None:
    once, _ = normalize(_noise(seed), RATE, mode, -23.0, -1.0)
    again, _ = normalize(_noise(seed) * gain, RATE, mode, -23.0, -1.0)
    torch.testing.assert_close(once, again, atol=2e-4, rtol=2e-3)


@pytest.mark.parametrize("mode", ["rms", "lufs", "peak"])
@pytest.mark.parametrize("level", [0.0, 1e-5])
def test_silence_stays_as_it_is_with_a_note(mode: str, level: float) -> None:
    silence = _noise(0) * level
    waveform, note = normalize(silence, RATE, mode, -27.0, -1.0)
    assert torch.equal(waveform, silence)
    assert "silent" in note


def test_mode_none_changes_nothing() -> None:
    noise = _noise(0) * 100
    assert normalize(noise, RATE, "none", -27.0, -1.0) == (noise, None)


def test_short_sound_uses_rms_and_says_so() -> None:
    waveform, note = normalize(_noise(0, 0.2), RATE, "lufs", -30.0, -1.0)
    assert rms_dbfs(waveform) == pytest.approx(-30.0, abs=0.01)
    assert "too short" in note
    with pytest.raises(InputError, match=r"not 0.20 s in 1"):
        lufs(_noise(0, 0.2), RATE)


def test_true_peak_sees_between_the_samples() -> None:
    quarter = torch.sin(math.pi / 2 * torch.arange(RATE).double() + math.pi / 4)[None]
    assert peak_dbfs(quarter) == pytest.approx(-3.01, abs=0.01)
    # The first sample is a step from silence, whose interpolation rings; look at the steady part.
    faded = quarter * torch.hann_window(RATE)
    assert true_peak_dbtp(faded) == pytest.approx(0.0, abs=0.1)


def test_true_peak_does_not_depend_on_how_long_sound_is_cut_into_blocks(monkeypatch) -> None:
    noise = _noise(3, 2.0)
    whole = true_peak_dbtp(noise)
    monkeypatch.setattr("selva_audio.media.loudness._BLOCK", 1000)
    assert true_peak_dbtp(noise) == pytest.approx(whole, abs=1e-4)


def test_sine_levels_are_the_textbook_ones() -> None:
    sine = torch.sin(2 * math.pi * 997 * torch.arange(48000 * 3) / 48000)[None].double()
    assert rms_dbfs(sine) == pytest.approx(-3.01, abs=0.01)
    assert lufs(sine, 48000) == pytest.approx(-3.01, abs=0.1)


def test_numbers_that_are_none_are_refused() -> None:
    for bad in (math.nan, math.inf):
        with pytest.raises(GenerationError, match="NaN or infinite"):
            normalize(torch.tensor([[0.1, bad]]), RATE, "rms", -27.0, -1.0)
    with pytest.raises(InputError, match="Unknown loudness mode 'loud'"):
        normalize(_noise(0), RATE, "loud", -27.0, -1.0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.floats(-30, 20), st.floats(-30, 20), st.floats(-9, 0))
def test_the_guard_turns_down_exactly_what_was_raised_past_the_ceiling(seed, before, after, ceiling) -> None:
    original, processed = _noise(seed) * 10 ** (before / 20), _noise(seed) * 10 ** (after / 20)
    guarded, gain = guard_peak(processed, ceiling, original=original)
    allowed = max(ceiling, true_peak_dbtp(original))
    assert true_peak_dbtp(guarded) == pytest.approx(min(true_peak_dbtp(processed), allowed), abs=1e-3)
    assert gain <= 0 and torch.equal(guarded, processed) == (gain == 0)


def test_a_quiet_sound_reaches_its_lufs_though_parts_of_it_lie_under_the_absolute_gate():
    times = torch.arange(32000) / 16000
    tone = torch.sin(2 * torch.pi * 50 * times) * torch.where(times < 1, 1.0, 0.4)
    quiet = (tone * 10 ** (-56 / 20))[None]
    assert lufs(quiet, 16000) - lufs(quiet * 10, 16000) > -19.9
    levelled, _ = normalize(quiet, 16000, "lufs", -30.0, -1.0)
    assert lufs(levelled, 16000) == pytest.approx(-30, abs=0.01)


def test_rounding_noise_is_silence_and_a_quiet_click_is_not():
    noise = 10 ** (-67 / 20) * torch.randn(1, 8 * 16000, generator=torch.Generator().manual_seed(0))
    same, note = normalize(noise, 16000, "rms", -27.0, -1.0)
    assert torch.equal(same, noise)
    assert "silent" in note
    click = torch.zeros(1, 8 * 16000)
    click[0, 5000:5400] = 10 ** (-50 / 20)
    assert rms_dbfs(click) < -70
    louder, _ = normalize(click, 16000, "rms", -33.0, -1.0)
    assert rms_dbfs(louder) == pytest.approx(-33.0, abs=0.01)
