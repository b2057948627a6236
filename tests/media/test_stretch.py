import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selva_audio.media.stretch import shift_pitch, stretch_time

RATE = 16000
HITS = (0.3, 0.7, 1.1, 1.6)


def tone(hertz: float = 440.0, seconds: float = 2.0) -> torch.Tensor:
    return 0.3 * torch.sin(2 * np.pi * hertz * torch.arange(round(seconds * RATE)) / RATE)[None]


def hits() -> torch.Tensor:
    wave = torch.zeros(1, 2 * RATE)
    for moment in HITS:
        begin = round(moment * RATE)
        decay = np.exp(-np.arange(800) / 120) * np.sin(np.arange(800) * 0.9)
        wave[0, begin : begin + 800] = torch.from_numpy(0.5 * decay).float()
    return wave


def pitch(wave: torch.Tensor) -> float:
    samples = wave[0].numpy()
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    return float(spectrum.argmax()) * RATE / (8 * len(samples))


def starts(wave: torch.Tensor, expected: list[float]) -> list[float]:
    """Time of the largest sample within 60 ms of each expected start."""
    samples = wave[0].abs().numpy()
    found = []
    for moment in expected:
        first = round((moment - 0.03) * RATE)
        found.append((first + int(samples[first : first + round(0.06 * RATE)].argmax())) / RATE)
    return found


@settings(max_examples=8)
@given(st.floats(-4, 4))
def test_pitch_moves_by_the_interval_and_level_and_length_stay(semitones: float) -> None:
    shifted = shift_pitch(tone(), RATE, semitones)
    assert shifted.shape == tone().shape
    assert pitch(shifted) == pytest.approx(440 * 2 ** (semitones / 12), rel=2e-3)
    inner = slice(RATE // 4, -RATE // 4)
    assert float(shifted[:, inner].square().mean()) == pytest.approx(0.045, rel=0.05)


@pytest.mark.parametrize("semitones", [-4, -1, 2, 4])
def test_a_shifted_hit_stays_where_it_is(semitones: float) -> None:
    assert starts(shift_pitch(hits(), RATE, semitones), list(HITS)) == pytest.approx(
        starts(hits(), list(HITS)), abs=0.005
    )


@pytest.mark.parametrize("factor", [0.7, 0.9, 1.1, 1.3])
def test_a_stretched_hit_moves_with_the_length_and_pitch_stays(factor: float) -> None:
    stretched = stretch_time(hits(), RATE, factor)
    assert stretched.shape == (1, round(2 * RATE * factor))
    moments = [moment * factor for moment in HITS]
    assert starts(stretched, moments) == pytest.approx(moments, abs=0.006)
    assert pitch(stretch_time(tone(), RATE, factor)) == pytest.approx(440, rel=2e-3)


def test_an_attack_is_not_smeared_ahead_of_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    wave = torch.zeros(1, 2 * RATE)
    for moment in HITS:
        burst = torch.randn(1600, generator=generator) * torch.exp(-torch.arange(1600) / 300)
        wave[0, round(moment * RATE) :][:1600] = 0.3 * burst
    shifted = shift_pitch(wave, RATE, 3)[0]
    for moment in HITS:
        begin = round(moment * RATE)
        before, after = shifted[begin - 700 : begin - 40], shifted[begin : begin + 700]
        assert float(before.square().mean()) < 0.01 * float(after.square().mean())


@pytest.mark.parametrize("semitones", [-3, 3])
def test_noise_keeps_its_level_and_a_voice_its_partials(semitones: float) -> None:
    inner = slice(RATE // 4, -RATE // 4)
    noise = 0.1 * torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(0))
    level = shift_pitch(noise, RATE, semitones)[:, inner].square().mean() / 0.01
    assert -2 < 10 * float(torch.log10(level)) < 1

    def voice(factor: float) -> torch.Tensor:
        vibrato = 1 + 0.03 * torch.sin(2 * np.pi * 5 * torch.arange(2 * RATE) / RATE)
        phase = 2 * np.pi * torch.cumsum(300 * factor * vibrato, 0) / RATE
        return sum(0.2 / k * torch.sin(k * phase) for k in range(1, 8))[None]

    def spectrum(wave: torch.Tensor) -> torch.Tensor:
        window = torch.hann_window(1024)
        return torch.stft(wave[0, inner], 1024, 256, window=window, return_complex=True).abs()

    made = spectrum(shift_pitch(voice(1.0), RATE, semitones))
    wanted = spectrum(voice(2 ** (semitones / 12)))
    assert float((made - wanted).norm() / wanted.norm()) < 0.1


def test_nothing_asked_for_is_the_sound_itself() -> None:
    wave = tone()
    assert shift_pitch(wave, RATE, 0) is wave
    assert stretch_time(wave, RATE, 1) is wave


def test_the_place_between_two_channels_stays() -> None:
    stereo = torch.cat([tone(), -0.5 * tone()])
    shifted = shift_pitch(stereo, RATE, 2)
    assert torch.allclose(shifted[1], -0.5 * shifted[0], atol=1e-4)


@pytest.mark.parametrize("samples", [1, 10, 500])
def test_a_short_sound_keeps_its_length(samples: int) -> None:
    assert shift_pitch(tone()[:, :samples], RATE, 3).shape == (1, samples)
    assert stretch_time(torch.zeros(2, samples), RATE, 1.3).shape == (2, round(1.3 * samples))
