import numpy as np
import pytest
import torch

from recipes.demo_model.classifier import MaterialClassifier
from recipes.demo_model.data import mels, training_scene
from recipes.demo_model.evaluate import Tally
from recipes.demo_model.griffin_lim import griffin_lim
from recipes.demo_model.vocoder import spectral_loss
from selva_audio.scenes import mixture, stem


@pytest.fixture(scope="module")
def classifier():
    return MaterialClassifier()


def two_objects(seed):
    return training_scene(seed, split="val", materials=("wood", "metal", "rubber", "plastic"), num_objects=2)


def mel_of(wave):
    return mels(torch.from_numpy(wave)[None])[0].numpy()


def test_the_classifier_knows_real_stems(classifier):
    right = []
    for seed in range(6):
        for name in ("wood", "metal", "rubber", "plastic", "glass", "stone"):
            scene = training_scene(seed, split="val", materials=(name,), num_objects=1)
            heard = classifier.classify(mel_of(stem(scene, 0)), scene.objects[0].impacts)
            right += [each == name for each in heard]
    assert np.mean(right) >= 0.98


def test_the_true_stem_scores_full_marks_and_the_mixture_does_not(classifier):
    truth, mixed, swapped = Tally(), Tally(), Tally()
    for seed in range(4):
        scene = two_objects(seed)
        word = scene.objects[0].material.name
        truth.add(mel_of(stem(scene, 0)), scene, word, classifier)
        mixed.add(mel_of(mixture(scene)), scene, word, classifier)
        swapped.add(mel_of(stem(scene, 1)), scene, word, classifier)
    assert truth.numbers()["onset_f1_50ms"] > 0.97 and truth.numbers()["cross_hits"] < 0.03
    assert truth.numbers()["material_accuracy"] > 0.95 and abs(truth.numbers()["median_offset_ms"]) < 6
    assert mixed.numbers()["onset_f1_50ms"] < 0.8 and mixed.numbers()["cross_hits"] > 0.9
    assert swapped.numbers()["onset_f1_50ms"] < 0.3 and swapped.numbers()["material_accuracy"] < 0.2


def test_silence_scores_nothing(classifier):
    tally, scene = Tally(), two_objects(0)
    tally.add(np.full((80, 500), -4.0, np.float32), scene, scene.objects[0].material.name, classifier)
    numbers = tally.numbers()
    assert numbers["onset_f1_50ms"] == 0 and numbers["material_accuracy"] == 0 == numbers["cross_hits"]


def test_griffin_lim_gives_the_mel_it_was_given():
    wave = torch.from_numpy(stem(two_objects(1), 0))[None, : 256 * 120]
    mel = mels(wave)
    few, many = (float((mels(griffin_lim(mel, n)) - mel).abs().mean()) for n in (1, 32))
    assert many < 0.25 and many < few


def test_spectral_loss_is_zero_at_identity_and_grows_with_the_error():
    wave = torch.from_numpy(stem(two_objects(2), 0))[None, : 256 * 64]
    noise = torch.randn(wave.shape, generator=torch.Generator().manual_seed(0))
    losses = [float(spectral_loss(wave + level * noise, wave)[0]) for level in (0.0, 1e-3, 1e-2)]
    assert losses[0] == pytest.approx(0, abs=1e-5) and losses[0] < losses[1] < losses[2]
