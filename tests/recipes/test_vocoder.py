import pytest
import torch

from recipes.demo_model.data import mels, training_scene
from recipes.demo_model.vocoder import VocoderStage, falling_floor, spectral_loss
from selva_audio.scenes import stem


@pytest.fixture(scope="module")
def wave():
    scene = training_scene(2, split="val", materials=("wood",), num_objects=1)
    return torch.from_numpy(stem(scene, 0))[None, : 256 * 64]


def noisy(wave, level):
    return wave + level * torch.randn(wave.shape, generator=torch.Generator().manual_seed(0))


def test_the_loss_is_zero_at_identity_and_grows_with_the_error(wave):
    losses = [float(spectral_loss(noisy(wave, level), wave)[0]) for level in (0.0, 1e-3, 1e-2)]
    assert losses[0] == pytest.approx(0, abs=1e-5) and losses[0] < losses[1] < losses[2]


def test_what_is_under_the_floor_hardly_counts(wave):
    faint = noisy(wave, 1e-4)
    high, low = (float(spectral_loss(faint, wave, floor=floor)[0]) for floor in (1e-2, 1e-5))
    assert high < 0.1 * low


def test_the_floor_falls_until_the_last_third():
    floors = [falling_floor(share) for share in (0.0, 0.3, 0.6, 0.8, 1.0)]
    assert floors[0] > floors[1] > floors[2] > floors[3] == floors[4]


def test_an_untrained_vocoder_already_answers_a_steady_mel_with_a_sound_that_repeats_every_frame():
    vocoder = VocoderStage(None).module
    with torch.no_grad():
        frames = vocoder(torch.full((1, 80, 60), -3.7))[0, 0].reshape(60, 256)[25:35]
    assert frames.abs().max() > 0
    assert torch.allclose(frames, frames[:1].expand(10, -1), atol=1e-5 * float(frames.abs().max()))


def test_a_quiet_room_has_a_steady_mel():
    scene = training_scene(0, materials=("wood",), num_objects=1)
    mel = mels(torch.from_numpy(stem(scene, 0))[None])[0]
    quiet = mel.amax(dim=0) < -3.5
    assert quiet.sum() > 50
    inside = mel[:, quiet][:, 4:-4]
    assert (inside - inside.median(dim=1, keepdim=True).values).abs().median() < 1e-3
