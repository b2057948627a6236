from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.evaluation.materials import (
    IMPACT_MATERIALS,
    count_right,
    material_classifier,
    nearest_onsets,
)
from selva_audio.evaluation.onsets import detect_onsets
from selva_audio.media.audio import read_audio
from selva_audio.media.encode import write_video
from selva_audio.media.loudness import normalize
from selva_audio.records import Audio
from selva_audio.scenes import draw_scene, stem


def single(name: str, seed: int):
    """Scenes past those that the classifier is fitted on."""
    scene = draw_scene(5000 + seed, split="val", materials=(name,), num_objects=1)
    return stem(scene, 0), scene.objects[0].impacts


def accuracy(wave, rate, impacts, name):
    return count_right(wave, rate, detect_onsets(wave, rate), impacts, name) / len(impacts)


@pytest.mark.parametrize("name", IMPACT_MATERIALS)
def test_real_stems_are_known_at_any_level(name):
    for seed in range(3):
        wave, impacts = single(name, seed)
        assert accuracy(wave, 16000, impacts, name) == 1
        assert accuracy(np.float32(0.1) * wave, 16000, impacts, name) == 1


@pytest.mark.parametrize("name", IMPACT_MATERIALS)
def test_real_stems_are_known_after_levelling_and_aac(name, tmp_path: Path):
    wave, impacts = single(name, 3)
    levelled, _ = normalize(torch.from_numpy(wave)[None], 16000, "rms", -27.0, -1.0)
    pictures = np.zeros((200, 32, 32, 3), np.uint8)
    audio = read_audio(write_video(pictures, 25, tmp_path / "clip.mp4", Audio(levelled[None], 16000)))
    assert accuracy(audio.waveform[0, 0].numpy(), audio.sample_rate, impacts, name) >= 0.95


def test_every_material_is_wrong_for_every_other():
    for name in IMPACT_MATERIALS:
        wave, impacts = single(name, 4)
        others = [other for other in IMPACT_MATERIALS if other != name]
        assert all(accuracy(wave, 16000, impacts, other) == 0 for other in others)


def test_misses_count_as_wrong():
    wave, impacts = single("wood", 0)
    wave[int((impacts[2] - 0.01) * 16000) : int((impacts[3] - 0.01) * 16000)] = 0
    assert accuracy(wave, 16000, impacts, "wood") == pytest.approx(1 - 1 / len(impacts))
    assert accuracy(np.zeros_like(wave), 16000, impacts, "wood") == 0
    assert count_right(wave, 16000, detect_onsets(wave, 16000) + 0.1, impacts, "wood") < 0.2 * len(impacts)


def test_the_classifier_is_fitted_once():
    assert material_classifier() is material_classifier()


def test_nearest_onsets_leave_out_what_is_too_far():
    assert nearest_onsets(np.array([1.0, 2.0]), np.array([1.05, 1.5, 2.0]), 0.08).tolist() == [1.0, 2.0]
    assert len(nearest_onsets(np.zeros(0), np.array([1.0]), 0.08)) == 0
