import librosa
import numpy as np
import pytest
import torch

from selva_audio.configs import VARIANTS, MelConfig
from selva_audio.errors import InputError
from selva_audio.models.mel import mel_filters, mel_frequencies, mel_spectrogram

MELS = {"16k": VARIANTS["small_16k"].mel, "44k": VARIANTS["small_44k"].mel}
TOY = MelConfig(8000, n_fft=256, hop_length=64, num_mels=20, fmin=60, fmax=3500, log_base="e")


@pytest.mark.parametrize("config", [*MELS.values(), TOY])
def test_filters_equal_librosa(config):
    expected = librosa.filters.mel(
        sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.num_mels, fmin=config.fmin, fmax=config.fmax
    )
    filters = mel_filters(config)
    assert filters.dtype == np.float32
    assert np.abs(filters - expected).max() < 1e-6
    assert np.abs(filters - expected).max() < 1e-4 * expected.max()


@pytest.mark.parametrize("config", [*MELS.values(), TOY])
def test_frequencies_equal_librosa(config):
    expected = librosa.mel_frequencies(config.num_mels + 2, fmin=config.fmin, fmax=config.fmax)[1:-1]
    assert np.allclose(mel_frequencies(config), expected)


@pytest.mark.parametrize("name", ["mel_16k_12345", "mel_16k_32000", "mel_44k_66150"])
def test_mel_matches_golden(golden, fill, name):
    g = golden(name)
    config = MELS[name.split("_")[1]]
    wave = g.input("wave", (g.meta["B"], g.meta["samples"]), kind="wave")
    for key, gain in (("mel", 1.0), ("mel_loud", 1.5), ("mel_quiet", 1e-4)):
        mel = mel_spectrogram(wave * gain, config)
        assert g.error(key, mel) < 5e-3
        assert _relative_l2(fill, g, key, mel) < 5e-4
    assert g.error("mel_basis_sub", mel_filters(config)) < 1e-5
    assert g.error("mel_basis_row_sums", mel_filters(config).sum(axis=1)) < 1e-5


def _relative_l2(fill, g, key, mel):
    expected = g.arrays[key].astype(np.float64).ravel()
    values = mel.double().numpy().ravel()
    kept = g.meta["outputs"][key].get("sub_index", values.size)
    values = values[fill.sub_index(values.size, kept)]
    return np.linalg.norm(values - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("length", [385, 511, 512, 12345])
def test_frames_are_whole_hops(length):
    mel = mel_spectrogram(torch.zeros(2, length), MELS["16k"])
    assert mel.shape == (2, 80, length // 256)
    assert torch.all(mel == -5)


def test_too_short_names_the_least_length():
    with pytest.raises(InputError, match=r"384 samples is too short.*needs 385"):
        mel_spectrogram(torch.zeros(1, 384), MELS["16k"])


def test_wrong_shape_is_refused():
    with pytest.raises(InputError, match=r"\(B, L\), not \(1, 1, 4000\)"):
        mel_spectrogram(torch.zeros(1, 1, 4000), MELS["16k"])


def test_mel_stays_float32_for_bf16_audio_and_under_autocast():
    wave = torch.sin(torch.arange(4000) * 0.2)[None].bfloat16()
    expected = mel_spectrogram(wave.float(), MELS["16k"])
    with torch.autocast("cpu", torch.bfloat16):
        mel = mel_spectrogram(wave, MELS["16k"])
    assert mel.dtype == torch.float32
    assert torch.equal(mel, expected)


def test_mel_has_gradients_even_after_use_in_inference_mode():
    with torch.inference_mode():
        mel_spectrogram(torch.zeros(1, 1000), TOY)
    wave = torch.sin(torch.arange(1000) * 0.3)[None].mul(0.5).requires_grad_()
    mel_spectrogram(wave, TOY).sum().backward()
    assert torch.isfinite(wave.grad).all() and wave.grad.abs().max() > 0


def test_filters_cannot_be_edited():
    with pytest.raises(ValueError, match="read-only"):
        mel_filters(TOY)[0, 0] = 1
