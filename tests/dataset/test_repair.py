import numpy as np
import pytest
import torch

from selva_audio.dataset.measures import dc_dbfs
from selva_audio.dataset.repair import repair_sound
from selva_audio.media.loudness import lufs, true_peak_dbtp
from selva_audio.records import Audio


def noise(rate: int = 44100, level: float = 0.01, offset: float = 0.0) -> Audio:
    wave = level * np.random.default_rng(0).standard_normal((1, 2, 2 * rate)) + offset
    return Audio(torch.from_numpy(wave).float(), rate)


def test_level_rate_and_constant_part_are_mended() -> None:
    done, notes = repair_sound(noise(offset=0.05), 16000)
    assert done.sample_rate == 16000 and done.waveform.shape == (1, 2, 32000)
    assert lufs(done.waveform[0], 16000) == pytest.approx(-23, abs=0.2)
    assert dc_dbfs(done.waveform[0].numpy()) < -80
    assert "constant part of -26 dBFS" in notes[0]


def test_a_lower_rate_is_kept() -> None:
    assert repair_sound(noise(8000), 44100)[0].sample_rate == 8000


def test_a_peak_stays_under_the_ceiling_and_events_in_their_place() -> None:
    wave = torch.zeros(1, 1, 32000)
    wave[..., 10000:10040] = 0.5
    done, notes = repair_sound(Audio(wave, 16000), 16000)
    assert true_peak_dbtp(done.waveform[0]) <= -0.99
    assert abs(int(done.waveform[0, 0].abs().argmax()) - 10020) < 25
    assert "turned down" in notes[-1]


def test_silence_stays_silence() -> None:
    done, _ = repair_sound(Audio(torch.zeros(1, 1, 16000), 16000), 16000)
    assert not done.waveform.any()
