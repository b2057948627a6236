import mir_eval
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selva_audio.errors import InputError
from selva_audio.evaluation.onsets import Match, detect_onsets, match_onsets, total
from selva_audio.media.audio import resample
from selva_audio.scenes import MATERIALS, draw_scene, mixture, stem

IMPACTS = [name for name, material in MATERIALS.items() if not material.continuous]
HEARD = ("wood", "metal", "rubber", "plastic")

# Multiples of 10 ms make ties and distances of exactly the window likely.
grids = st.lists(st.integers(0, 400).map(lambda step: step / 100), max_size=12)
floats = st.lists(st.floats(0, 4, allow_nan=False), max_size=12)
times = st.one_of(grids, floats).map(lambda values: np.sort(np.array(values, dtype=np.float64)))


@pytest.mark.filterwarnings("ignore:.*onsets are empty")
@given(times, times, st.sampled_from([0.01, 0.05, 0.08]))
def test_matching_is_mir_evals(detected, true, window):
    match = match_onsets(detected, true, window)
    f1, precision, recall = mir_eval.onset.f_measure(true, detected, window)
    assert (match.f1, match.precision, match.recall) == pytest.approx((f1, precision, recall), abs=1e-12)


@given(times, times)
def test_matched_pairs_are_inside_the_window_and_wider_windows_match_no_less(detected, true):
    near, wide = (match_onsets(detected, true, window) for window in (0.05, 0.08))
    assert all(abs(offset) <= 0.05 + 1e-9 for offset in near.offsets)
    assert near.matched == len(near.offsets) <= wide.matched


def test_offsets_are_late_positive_and_their_median_is_told():
    match = match_onsets(np.array([1.02, 2.03, 9.0]), np.array([1.0, 2.0, 3.0]), 0.05)
    assert match.offsets == pytest.approx((0.02, 0.03)) and match.median_offset == pytest.approx(0.025)
    assert np.isnan(Match(0, 3, 3).median_offset)


def test_totals_count_every_onset_alike():
    whole = total([Match(1, 1, 1, (0.01,)), Match(0, 3, 5)])
    assert (whole.matched, whole.detected, whole.true, whole.offsets) == (1, 4, 6, (0.01,))


def single(name: str, seed: int):
    scene = draw_scene(seed, split="val", materials=(name,), num_objects=1)
    return stem(scene, 0), scene.objects[0].impacts


@pytest.mark.parametrize("name", IMPACTS)
@pytest.mark.parametrize("gain", [1.0, 0.1], ids=["full", "20 dB down"])
def test_every_impact_of_a_true_stem_is_found_within_10_ms_at_any_level(name, gain):
    for seed in range(3):
        wave, impacts = single(name, seed)
        match = match_onsets(detect_onsets(np.float32(gain) * wave, 16000), impacts, 0.01)
        assert match.f1 == 1 and abs(match.median_offset) < 0.004


def test_another_sample_rate_moves_nothing():
    wave, impacts = single("metal", 4)
    for rate in (22050, 44100, 48000):
        other = resample(torch.from_numpy(wave), 16000, rate).numpy()
        assert match_onsets(detect_onsets(other, rate), impacts, 0.01).f1 == 1


def test_silence_and_steady_noise_have_no_onsets():
    noise = np.random.default_rng(0).standard_normal(64000).astype(np.float32)
    assert not len(detect_onsets(np.zeros(64000, np.float32), 16000))
    for level in (-80, -60, -40, -27):
        assert not len(detect_onsets(noise * np.float32(10 ** (level / 20)), 16000))


def test_what_stays_under_the_floor_has_no_onsets():
    wave, _ = single("wood", 0)
    assert not len(detect_onsets(wave * np.float32(1e-4), 16000))


def test_a_sound_of_no_length_has_no_onsets_and_two_channels_are_refused():
    assert not len(detect_onsets(np.zeros(100, np.float32), 16000))
    with pytest.raises(InputError, match=r"\(2, 5\)"):
        detect_onsets(np.zeros((2, 5), np.float32), 16000)


def test_a_delay_of_250_ms_scores_badly():
    for seed in range(3):
        wave, impacts = single("plastic", seed)
        late = np.concatenate([np.zeros(4000, np.float32), wave])[: len(wave)]
        assert match_onsets(detect_onsets(late, 16000), impacts, 0.08).f1 < 0.4


def test_mixtures_and_other_scenes_score_badly():
    mixed, strange = [], []
    for seed in range(12):
        scene = draw_scene(seed, split="val", materials=HEARD, num_objects=2 + seed % 2)
        other = stem(draw_scene(9000 + seed, split="val", materials=HEARD, num_objects=2), 0)
        for target in scene.objects:
            mixed.append(match_onsets(detect_onsets(mixture(scene), 16000), target.impacts, 0.05))
            strange.append(match_onsets(detect_onsets(other, 16000), target.impacts, 0.05))
    assert total(mixed).f1 <= 0.75 and total(mixed).recall > 0.9
    assert total(strange).f1 <= 0.2


def clip_labelled_by_hand() -> tuple[np.ndarray, int]:
    """Nine noisy tones at times that only the random numbers know, over a noise floor."""
    rng, rate = np.random.default_rng(20261121), 22050
    wave = 0.002 * rng.standard_normal(4 * rate)
    for start in np.cumsum(rng.uniform(0.22, 0.62, 9)):
        seconds = np.arange(int(0.25 * rate)) / rate
        tone = np.sin(2 * np.pi * rng.uniform(180, 3000) * seconds)
        tone *= np.exp(-seconds / rng.uniform(0.01, 0.06))
        burst = rng.standard_normal(len(seconds)) * np.exp(-seconds / 0.006)
        sound = rng.uniform(0.1, 0.5) * (tone + rng.uniform(0, 0.6) * burst)
        first = int(start * rate)
        wave[first : first + len(sound)] += sound[: len(wave) - first]
    return wave.astype(np.float32), rate


# Read off a picture of the waveform with a grid of 20 ms, before the detector had seen the clip.
LABELS = np.array([0.517, 0.867, 1.190, 1.738, 2.273, 2.618, 3.057, 3.579, 3.981])


def test_a_clip_labelled_by_eye_is_found_to_10_ms():
    match = match_onsets(detect_onsets(*clip_labelled_by_hand()), LABELS, 0.01)
    assert match.matched == len(LABELS) == match.detected
    assert abs(match.median_offset) < 0.005
