import numpy as np
import pytest

from selva_audio.errors import InputError
from selva_audio.evaluation.seams import seam_scores

RATE = 16000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal(int(seconds * RATE))
    return (0.05 * samples).astype(np.float32)


def tone(hertz: float, seconds: float) -> np.ndarray:
    return (0.2 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("wave", [noise(4), tone(440, 4), np.zeros(4 * RATE, np.float32)])
def test_where_nothing_is_joined_nothing_stands_out(wave):
    assert seam_scores(wave, RATE, [1.3, 2.6]).max() < 1.5


def test_a_jump_in_level_in_pitch_or_in_phase_stands_out():
    level = np.concatenate([noise(2), 0.1 * noise(2, 1)])
    pitch = np.concatenate([tone(440, 2), tone(660, 2)])
    phase = np.concatenate([tone(440, 2), -tone(440, 2)])
    click = tone(440, 4)
    click[2 * RATE] += 0.3
    for wave in (level, pitch, phase, click):
        at_the_join, elsewhere = seam_scores(wave, RATE, [2.0, 3.0])
        assert at_the_join > 2 > 1.5 > elsewhere


def test_a_crossfade_stands_out_less_than_a_cut():
    first, second = tone(440, 4), tone(587, 4)
    scores = []
    for seconds in (0.001, 0.02, 0.5):
        weight = np.clip((np.arange(4 * RATE) / RATE - 2) / seconds + 0.5, 0, 1).astype(np.float32)
        scores.append(seam_scores((1 - weight) * first + weight * second, RATE, [2.0])[0])
    assert scores == sorted(scores, reverse=True)


def test_joins_outside_the_sound_are_refused():
    with pytest.raises(InputError, match="5 s is not inside"):
        seam_scores(noise(4), RATE, [5.0])
    assert seam_scores(noise(1), RATE, []).shape == (0,)
