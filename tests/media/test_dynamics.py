import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selva_audio.media.dynamics import compress

RATE = 16000
USUAL = {"threshold_db": -18.0, "ratio": 4.0, "attack_ms": 10.0, "release_ms": 100.0, "mix": 1.0}


def tone(level_db: float, seconds: float = 2.0, channels: int = 1) -> torch.Tensor:
    wave = 10 ** (level_db / 20) * torch.sin(2 * np.pi * 1000 * torch.arange(round(seconds * RATE)) / RATE)
    return wave.expand(channels, -1).float()


@settings(max_examples=20)
@given(st.floats(-40, 0), st.sampled_from([1.5, 2.5, 4.0]))
def test_a_tone_is_turned_down_by_the_formula(level: float, ratio: float) -> None:
    wave = tone(level)
    done, deepest = compress(wave, RATE, **{**USUAL, "ratio": ratio})
    expected = -(1 - 1 / ratio) * max(level + 18, 0)
    settled = slice(RATE, None)
    change = 20 * torch.log10(done[:, settled].abs().max() / wave[:, settled].abs().max())
    assert float(change) == pytest.approx(expected, abs=0.1)
    assert deepest == pytest.approx(expected, abs=0.1)


@settings(max_examples=10)
@given(st.floats(0, 1))
def test_the_mix_is_the_sum_of_both(mix: float) -> None:
    wave = tone(-3)
    wet, _ = compress(wave, RATE, **USUAL)
    mixed, _ = compress(wave, RATE, **{**USUAL, "mix": mix})
    assert torch.allclose(mixed, (1 - mix) * wave + mix * wet, atol=1e-6)


def test_without_a_mix_and_under_the_threshold_the_sound_is_itself() -> None:
    wave = tone(-3)
    assert compress(wave, RATE, **{**USUAL, "mix": 0.0})[0] is wave
    quiet = tone(-20)
    assert torch.equal(compress(quiet, RATE, **USUAL)[0], quiet)
    silence = torch.zeros(1, 100)
    assert compress(silence, RATE, **USUAL) == (silence, 0.0)


@pytest.mark.parametrize(("attack", "release"), [(10.0, 50.0), (100.0, 400.0)])
def test_attack_and_release_take_their_time(attack: float, release: float) -> None:
    """After an attack or release time, 1 - 1/e of the way is done."""
    wave = torch.cat([tone(-30, 1), tone(-6, 1), tone(-30, 1)], dim=1)
    done, _ = compress(wave, RATE, **{**USUAL, "attack_ms": attack, "release_ms": release})
    ratio = 20 * np.log10(done[0].abs().numpy() / np.maximum(wave[0].abs().numpy(), 1e-9) + 1e-9)
    heard = wave[0].abs().numpy() > 0.02

    def near(moment: float) -> float:
        begin = round(moment * RATE)
        return float(np.median(ratio[begin:][heard[begin:]][:40]))

    assert near(1 + attack / 1000) == pytest.approx(-9 * (1 - 1 / np.e), abs=0.7)
    assert -9 < near(2 + 0.5 * release / 1000) < -4.5


def test_channels_are_turned_down_alike_and_the_input_is_left_alone() -> None:
    wave = torch.cat([tone(-3), tone(-30)])
    before = wave.clone()
    done, _ = compress(wave, RATE, **USUAL)
    assert torch.equal(wave, before)
    ratio = done[:, RATE:] / wave[:, RATE:]
    heard = wave[:, RATE:].abs() > 1e-3
    both = heard[0] & heard[1]
    assert torch.allclose(ratio[0][both], ratio[1][both], atol=1e-4)


def test_a_stop_between_steps_is_heeded() -> None:
    def stop(progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(tone(-3), RATE, **USUAL, on_progress=stop)
