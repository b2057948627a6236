"""The spectral matcher: noise of the target's own spectrum, coloured, and brought back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from selva_audio.errors import InputError
from selva_audio.media import matching
from selva_audio.media.audio import resample
from selva_audio.media.loudness import rms_dbfs, true_peak_dbtp
from selva_audio.media.matching import (
    MatchedTake,
    SpectrumLevels,
    band_gains,
    gain_filter,
    match_spectrum,
    spectrum_distance,
    spectrum_levels,
    spectrum_target,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "data"
RATES = {"16k": 16000, "44k": 44100}


def noise(seconds: float, rate: int, *, channels: int = 1, tilt: float = 0.0, seed: int = 0) -> torch.Tensor:
    """(C, L): noise whose amplitude falls as frequency to the power of ``tilt``."""
    white = np.random.default_rng(seed).standard_normal((channels, round(seconds * rate)))
    spectrum = np.fft.rfft(white)
    spectrum /= np.maximum(np.fft.rfftfreq(white.shape[1], 1 / rate), 20) ** tilt
    coloured = np.fft.irfft(spectrum, white.shape[1])
    return torch.from_numpy(0.05 * coloured / coloured.std()).float()


def equalized(
    waveform: torch.Tensor, rate: int, gains_db: np.ndarray, frequencies: np.ndarray
) -> torch.Tensor:
    taps = signal.firwin2(4095, frequencies, 10 ** (gains_db / 20), fs=rate)
    return torch.from_numpy(signal.oaconvolve(waveform.numpy(), taps[None], mode="same", axes=1)).float()


def matched_noise(mode: str, seconds: float = 4.0) -> torch.Tensor:
    """(1, L): noise with the very spectrum of the target, in a few rounds of correcting it."""
    target, rate = spectrum_target(mode), RATES[mode]
    sound = noise(seconds, rate)
    for _ in range(4):
        difference = target.decibels * (target.mean - spectrum_levels(sound, rate, target.config).mean)
        frequencies = np.concatenate([[0], target.frequencies, [rate / 2]])
        sound = equalized(sound, rate, np.pad(difference, 1, mode="edge"), frequencies)
    return sound


@pytest.fixture(scope="module", params=["16k", "44k"])
def coloured(request: pytest.FixtureRequest) -> tuple[str, torch.Tensor, np.ndarray]:
    """Mode, matched noise behind an equalizer that swings by 6 dB, and its gain at the band centres."""
    mode = request.param
    target, rate = spectrum_target(mode), RATES[mode]
    bands = len(target.mean)
    curve = 6 * np.sin(2 * np.pi * 2 * np.arange(bands) / bands)
    frequencies = np.concatenate([[0], target.frequencies, [rate / 2]])
    sound = equalized(matched_noise(mode), rate, np.pad(curve, 1, mode="edge"), frequencies)
    return mode, sound, curve


def matched(mode: str, sound: torch.Tensor, rate: int, **changes) -> MatchedTake:
    chosen = {"strength": 0.8, "max_gain_db": 12.0, "keep_level": False, "peak_ceiling": -1.0} | changes
    return match_spectrum(sound, rate, spectrum_target(mode), **chosen)


def test_targets_are_the_statistics_of_the_published_vaes() -> None:
    for mode in RATES:
        recorded = json.loads((GOLDEN / f"constants_vae_{mode}.json").read_text())
        target = spectrum_target(mode)
        assert np.array_equal(target.mean.astype("f4"), np.array(recorded["data_mean"], "f4"))
        assert np.array_equal(target.std.astype("f4"), np.array(recorded["data_std"], "f4"))
    with pytest.raises(InputError, match="Unknown mode '48k'"):
        spectrum_target("48k")


def test_a_coloured_sound_comes_back_to_its_target(coloured) -> None:
    mode, sound, curve = coloured
    target = spectrum_target(mode)
    result = matched(mode, sound, RATES[mode])
    before, after = (spectrum_distance(levels, target) for levels in (result.before, result.after))
    assert after < 0.4 * before
    audible = np.minimum(result.before.mean, target.mean) > target.floor + 1
    assert np.corrcoef(result.gains_db[audible], -curve[audible])[0, 1] > 0.95
    whole = matched(mode, sound, RATES[mode], strength=1.0)
    again = matched(mode, whole.waveform, RATES[mode], strength=1.0)
    assert np.abs(again.gains_db[audible]).max() < 1


@pytest.mark.parametrize("mode", ["16k", "44k"])
@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_pink_noise_comes_nearer_at_any_rate(mode: str, rate: int) -> None:
    target = spectrum_target(mode)
    sound = noise(2, rate, channels=2, tilt=0.5)
    result = matched(mode, sound, rate)
    assert result.waveform.shape == sound.shape
    assert spectrum_distance(result.after, target) < spectrum_distance(result.before, target)


def test_16k_mode_keeps_what_lies_above_8_khz() -> None:
    sound = noise(1, 44100)
    result = matched("16k", sound, 44100)
    high = [
        resample(each, 44100, 16000).square().mean() / each.square().mean()
        for each in (sound, result.waveform)
    ]
    assert high[1] < 0.9


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_strength_scales_the_curve(coloured, strength: float) -> None:
    mode, sound, _ = coloured
    whole = matched(mode, sound, RATES[mode], strength=1.0).gains_db
    result = matched(mode, sound, RATES[mode], strength=strength)
    assert np.allclose(result.gains_db, strength * whole, atol=0.5)
    assert torch.equal(result.waveform, sound) == (strength == 0)


@settings(max_examples=10)
@given(st.floats(1, 30), st.floats(-0.5, 1.5), st.sampled_from(["16k", "44k"]))
def test_no_band_gets_more_than_the_limit(limit, tilt, mode) -> None:
    levels = spectrum_levels(noise(0.5, 44100, tilt=tilt), 44100, spectrum_target(mode).config)
    gains = band_gains(levels, spectrum_target(mode), strength=1.0, max_gain_db=limit)
    assert np.abs(gains).max() <= limit


@settings(max_examples=10)
@given(st.floats(0.1, 20), st.floats(0, 0.5))
def test_the_curve_does_not_depend_on_the_level(gain, tilt) -> None:
    sound, target = noise(0.5, 16000, tilt=tilt), spectrum_target("16k")
    curves = [
        band_gains(spectrum_levels(each, 16000, target.config), target, strength=1.0, max_gain_db=12.0)
        for each in (sound, sound * gain)
    ]
    assert np.allclose(*curves, atol=0.05)


def test_empty_bands_are_never_boosted() -> None:
    target = spectrum_target("44k")
    levels = SpectrumLevels(np.where(np.arange(128) < 64, target.mean, target.floor))
    gains = band_gains(levels, target, strength=1.0, max_gain_db=30.0)
    assert (gains[64:] <= 0).all()
    assert np.abs(gains[:64]).max() < 1e-9  # nor do they spoil their neighbours
    high = SpectrumLevels(target.mean - 3)
    assert (
        band_gains(high, target, strength=1.0, max_gain_db=30.0)[target.mean < target.floor + 1] <= 0
    ).all()


@pytest.mark.parametrize("rate", [16000, 44100, 96000])
def test_the_filter_has_the_gains_at_the_band_centres_and_no_delay(rate: int) -> None:
    target = spectrum_target("16k")
    gains = 6 * np.sin(np.arange(80) / 8)
    taps = gain_filter(gains, target.config, rate)
    assert len(taps) > 4096 and np.allclose(taps, taps[::-1])
    centres = target.frequencies
    _, response = signal.freqz(taps, worN=centres, fs=rate)
    assert np.abs(20 * np.log10(np.abs(response)) - gains)[centres > 100].max() < 0.3


def test_channels_share_one_curve_and_opposite_phases_do_not_cancel() -> None:
    left = noise(1, 16000, tilt=0.5)
    mono, opposite = (matched("16k", each, 16000) for each in (left, torch.cat([left, -left])))
    assert np.allclose(mono.gains_db, opposite.gains_db)
    assert torch.equal(opposite.waveform[0], -opposite.waveform[1])


def test_silence_is_unchanged_and_quiet_ends_are_not_looked_at() -> None:
    silence = torch.zeros(2, 30000)
    result = matched("16k", silence, 16000)
    assert torch.equal(result.waveform, silence) and result.before is None
    sound = noise(1, 16000, tilt=0.5)
    padded = torch.nn.functional.pad(sound, (16000, 16000))
    assert np.abs(matched("16k", padded, 16000).gains_db - matched("16k", sound, 16000).gains_db).max() < 1


def test_keep_level_keeps_the_rms() -> None:
    sound = noise(1, 16000, tilt=1.0)
    assert abs(rms_dbfs(matched("16k", sound, 16000).waveform) - rms_dbfs(sound)) > 1
    kept = matched("16k", sound, 16000, keep_level=True).waveform
    assert rms_dbfs(kept) == pytest.approx(rms_dbfs(sound), abs=1e-3)


def test_peaks_raised_by_matching_are_guarded() -> None:
    sound = noise(1, 44100, tilt=0.25) * 3
    free = matched("44k", sound, 44100, peak_ceiling=99.0)
    assert true_peak_dbtp(sound) < -1 < true_peak_dbtp(free.waveform)
    result = matched("44k", sound, 44100, peak_ceiling=-1.0)
    assert true_peak_dbtp(result.waveform) <= -1 + 1e-3
    assert result.guard_db < 0


def test_a_sound_too_short_for_a_mel_is_refused() -> None:
    with pytest.raises(InputError, match="too short for a mel"):
        matched("44k", noise(0.01, 44100), 44100)


def test_long_sounds_are_looked_at_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    sound, config = noise(2, 16000, tilt=0.5), spectrum_target("16k").config
    whole = spectrum_levels(sound, 16000, config)
    monkeypatch.setattr(matching, "_CHUNK", 4096)
    assert np.abs(spectrum_levels(sound, 16000, config).mean - whole.mean).max() < 0.02
