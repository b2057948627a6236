"""The smoother of high frequencies, against its formula."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from selva_audio.media import filters
from selva_audio.media.filters import convolve, highpass, lowpass, smooth_hf
from selva_audio.progress import Cancelled, Progress

CASES = [(16000, 5000.0), (44100, 12000.0), (48000, 2000.0)]


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(0.1 * np.random.default_rng(seed).standard_normal(shape)).float()


def sweep(low: float, high: float, rate: int) -> torch.Tensor:
    """(1, 1, L): one second of a sine that goes from ``low`` to ``high`` hertz."""
    times = np.arange(rate) / rate
    return torch.from_numpy(0.5 * signal.chirp(times, low, 1, high)).float()[None, None]


def gain_db(after: torch.Tensor, before: torch.Tensor) -> float:
    inner = slice(before.shape[-1] // 8, -before.shape[-1] // 8)
    ratio = after[..., inner].double().square().mean() / before[..., inner].double().square().mean()
    return 10 * math.log10(float(ratio))


@pytest.mark.parametrize(("rate", "cutoff"), CASES)
@pytest.mark.parametrize("blend", [0.3, 0.7, 0.95])
def test_swept_sines_come_out_as_the_formula_says(rate: int, cutoff: float, blend: float) -> None:
    settings = {"cutoff_hz": cutoff, "blend": blend, "transition_hz": 1000.0}
    for low, high, expected in (
        (50, cutoff - 1000, 0.0),
        (cutoff, 0.98 * rate / 2, 20 * math.log10(1 - blend)),
    ):
        sound = sweep(low, high, rate)
        assert gain_db(smooth_hf(sound, rate, **settings), sound) == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize(("rate", "cutoff"), CASES)
@pytest.mark.parametrize("transition", [100.0, 1000.0, 1900.0])
def test_the_low_pass_keeps_its_bands(rate: int, cutoff: float, transition: float) -> None:
    taps = lowpass(cutoff, transition, rate)
    frequencies, response = signal.freqz(taps, worN=2**15, fs=rate)
    levels = 20 * np.log10(np.abs(response) + 1e-12)
    assert np.abs(levels[frequencies <= cutoff - transition]).max() < 0.1
    assert levels[frequencies >= cutoff].max() < -60
    assert len(taps) % 2 == 1 and np.allclose(taps, taps[::-1])


def test_high_pass_and_low_pass_sum_to_the_sound() -> None:
    total = lowpass(3000, 500, 16000) + highpass(3000, 500, 16000)
    assert total[len(total) // 2] == pytest.approx(1) and np.abs(total).sum() == pytest.approx(1)


def test_an_impulse_does_not_move_and_rings_alike_on_both_sides() -> None:
    impulse = torch.zeros(1, 1, 2001)
    impulse[..., 1000] = 1
    smooth = smooth_hf(impulse, 16000, cutoff_hz=4000, blend=0.7, transition_hz=1000)[0, 0]
    assert int(smooth.abs().argmax()) == 1000
    assert torch.allclose(smooth, smooth.flip(0), atol=1e-6)


def test_a_steady_value_stays_to_the_very_ends() -> None:
    steady = torch.full((1, 1, 5000), 0.25)
    smooth = smooth_hf(steady, 44100, cutoff_hz=8000, blend=1, transition_hz=1000)
    assert torch.allclose(smooth, steady, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 100, 5000])
def test_blend_zero_is_the_sound_itself(length: int) -> None:
    sound = noise(0, 2, 2, length)
    assert torch.equal(smooth_hf(sound, 44100, cutoff_hz=9000, blend=0, transition_hz=500), sound)


def test_a_cutoff_at_or_above_half_the_rate_changes_nothing() -> None:
    sound = noise(0, 1, 1, 4000)
    for cutoff in (8000, 12000):
        assert torch.equal(smooth_hf(sound, 16000, cutoff_hz=cutoff, blend=1, transition_hz=1000), sound)


@settings(max_examples=25)
@given(
    st.integers(0, 9),
    st.sampled_from([16000, 44100]),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 3000),
    st.floats(0, 1),
)
def test_shape_is_kept_and_every_channel_is_as_if_alone(seed, rate, takes, channels, length, blend) -> None:
    sound = noise(seed, takes, channels, length)
    chosen = {"cutoff_hz": 5000.0, "blend": blend, "transition_hz": 1000.0}
    smooth = smooth_hf(sound, rate, **chosen)
    assert smooth.shape == sound.shape and smooth.dtype == torch.float32
    alone = smooth_hf(sound[-1:, -1:], rate, **chosen)
    assert torch.equal(smooth[-1:, -1:], alone)


def test_silence_stays_silence() -> None:
    silence = torch.zeros(1, 2, 1000)
    assert torch.equal(smooth_hf(silence, 44100, cutoff_hz=9000, blend=0.7, transition_hz=500), silence)


def test_the_argument_is_left_as_it_was() -> None:
    sound = noise(0, 1, 1, 3000)
    copy = sound.clone()
    smooth_hf(sound, 16000, cutoff_hz=4000, blend=1, transition_hz=1000)
    assert torch.equal(sound, copy)


def test_blocks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    sound, taps = noise(1, 1, 1, 5000), lowpass(4000, 1000, 16000)
    whole = convolve(sound, taps)
    monkeypatch.setattr(filters, "_BLOCK", 700)
    assert torch.allclose(convolve(sound, taps), whole, atol=1e-7)


def test_progress_is_told_and_can_cancel() -> None:
    seen: list[Progress] = []
    convolve(noise(0, 1, 2, 1000), lowpass(4000, 1000, 16000), on_progress=seen.append)
    assert [(report.step, report.total) for report in seen] == [(0, 2000), (1000, 2000), (2000, 2000)]

    def cancel(report: Progress) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        convolve(noise(0, 1, 1, 1000), lowpass(4000, 1000, 16000), on_progress=cancel)
