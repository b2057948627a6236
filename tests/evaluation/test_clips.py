import numpy as np
import pytest
import torch

from selva_audio.evaluation.clips import compare, measure
from selva_audio.records import Audio
from selva_audio.scenes import draw_scene, stem


def tone(hertz: float, gain: float = 0.1, rate: int = 16000) -> Audio:
    wave = gain * torch.sin(2 * torch.pi * hertz * torch.arange(2 * rate) / rate)
    return Audio(wave[None, None], rate)


def test_a_tone_has_its_frequency_as_centroid_and_its_level():
    metrics = measure(tone(1000))
    assert metrics.centroid_hz == pytest.approx(1000, rel=0.01)
    assert metrics.rms_dbfs == pytest.approx(-23.01, abs=0.05)
    assert metrics.true_peak_dbtp == pytest.approx(-20, abs=0.1)
    assert metrics.duration == 2 and metrics.onsets == 0


def test_impacts_are_counted():
    scene = draw_scene(3, split="val", materials=("wood",), num_objects=1)
    assert measure(Audio(torch.from_numpy(stem(scene, 0))[None, None], 16000)).onsets == len(
        scene.objects[0].impacts
    )


def test_silence_has_no_level_and_no_centroid():
    metrics = measure(Audio(torch.zeros(1, 2, 16000), 16000))
    assert metrics.loudness_lufs is metrics.rms_dbfs is metrics.centroid_hz is metrics.true_peak_dbtp is None


def test_a_sound_is_at_no_distance_from_itself_and_at_its_gain_from_its_quieter_self():
    scene = draw_scene(3, split="val", materials=("metal",), num_objects=1)
    wave = torch.from_numpy(stem(scene, 0))[None, None]
    same = compare(Audio(wave, 16000), Audio(wave, 16000))
    assert (same.log_mel_l1, same.stft_distance, same.level_difference_db) == (0, 0, 0)
    assert same.onset_f1_50ms == 1
    quiet = compare(Audio(0.5 * wave, 16000), Audio(wave, 16000))
    assert quiet.level_difference_db == pytest.approx(-6.02, abs=0.01)
    assert quiet.log_mel_l1 > 0 and quiet.onset_f1_50ms == 1


def test_rates_and_lengths_may_differ():
    numbers = compare(tone(500, rate=44100), tone(500))
    assert numbers.log_mel_l1 < 0.05 and np.isfinite(numbers.stft_distance)
