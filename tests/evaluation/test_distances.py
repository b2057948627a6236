import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfilt

from selva_audio.configs import get_config
from selva_audio.errors import InputError
from selva_audio.evaluation.distances import STFT_FLOOR, log_mel_l1, multi_resolution_stft, stft_magnitude
from selva_audio.evaluation.diversity import diversity
from selva_audio.evaluation.griffin_lim import griffin_lim
from selva_audio.models.mel import mel_spectrogram
from selva_audio.scenes import draw_scene, stem

MEL = get_config("demo_16k").mel
DISTANCES = {
    "mel": lambda made, real: float(log_mel_l1(made, real, MEL)),
    "stft": lambda made, real: float(multi_resolution_stft(made, real)),
}


@pytest.fixture(scope="module")
def real() -> torch.Tensor:
    scene = draw_scene(1, split="val", materials=("metal",), num_objects=1, duration=3)
    return torch.from_numpy(stem(scene, 0))[None]


@pytest.mark.parametrize("name", DISTANCES)
def test_equal_sounds_are_at_distance_zero(name, real):
    assert DISTANCES[name](real.clone(), real) == 0
    silence = torch.zeros_like(real)
    assert DISTANCES[name](silence, silence.clone()) == 0


@pytest.mark.parametrize("name", DISTANCES)
def test_more_noise_is_further_away(name, real):
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    values = [DISTANCES[name](real + level * noise, real) for level in (0, 1e-3, 1e-2, 1e-1)]
    assert values == sorted(values) and values[0] < values[1] < values[3]


@pytest.mark.parametrize("name", DISTANCES)
def test_a_lower_low_pass_is_further_away(name, real):
    def passed(hertz: float) -> torch.Tensor:
        filtered = sosfilt(butter(4, hertz, fs=16000, output="sos"), real[0].numpy())
        return torch.from_numpy(filtered.astype(np.float32))[None]

    values = [DISTANCES[name](passed(hertz), real) for hertz in (7000, 4000, 2000, 1000)]
    assert values == sorted(values) and values[0] < values[-1]


@pytest.mark.parametrize("name", DISTANCES)
def test_silence_and_a_delay_are_further_away_than_a_little_noise(name, real):
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    little = DISTANCES[name](real + 1e-5 * noise, real)
    assert DISTANCES[name](torch.zeros_like(real), real) > 3 * little
    assert DISTANCES[name](real.roll(4000, dims=1), real) > 3 * little


def test_a_gain_moves_the_log_mel_by_exactly_the_gain():
    wave = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    assert float(log_mel_l1(wave * 10**-0.5, wave, MEL)) == pytest.approx(0.5, abs=2e-3)


def test_a_full_scale_sine_has_magnitude_one_and_silence_the_floor():
    sine = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)[None]
    assert float(stft_magnitude(sine, 1024, 256).max()) == pytest.approx(1, abs=0.01)
    silent = stft_magnitude(torch.zeros(1, 4000), 512, 128)
    assert torch.allclose(silent, torch.full_like(silent, STFT_FLOOR))


def test_distances_have_gradients(real):
    made = (0.5 * real).requires_grad_()
    (multi_resolution_stft(made, real) + log_mel_l1(made, real, MEL)).backward()
    assert made.grad is not None and bool(made.grad.isfinite().all()) and bool(made.grad.any())


def test_sounds_of_different_shape_are_refused(real):
    with pytest.raises(InputError, match="one shape"):
        multi_resolution_stft(real[:, 1:], real)
    with pytest.raises(InputError, match="too short"):
        multi_resolution_stft(real[:, :1000], real[:, :1000])


def test_equal_takes_have_no_diversity_and_different_ones_have(real):
    other = real.roll(8000, dims=1)
    assert diversity(torch.cat([real, real]), MEL) == 0
    two, three = diversity(torch.cat([real, other]), MEL), diversity(torch.cat([real, real, other]), MEL)
    assert two > 0 and three == pytest.approx(two * 2 / 3)
    with pytest.raises(InputError, match="two or more"):
        diversity(real, MEL)


def test_griffin_lim_gives_the_mel_it_was_given(real):
    mel = mel_spectrogram(real[:, : 256 * 120], MEL)
    few, many = (
        float((mel_spectrogram(griffin_lim(mel, MEL, steps), MEL) - mel).abs().mean()) for steps in (1, 32)
    )
    assert many < few and many < 0.3
    assert griffin_lim(mel, MEL, 1).shape == (1, 256 * 120)
