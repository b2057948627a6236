import numpy as np
import pytest

from selva_audio.errors import InputError
from selva_audio.evaluation.benchmark import HEARD_IMPACTS, draw_cases, draw_continuous, draw_held_out, find
from selva_audio.evaluation.selectivity import own_share, score_clip, speed_correlation, summarize
from selva_audio.scenes import HELD_OUT, mixture, stem

RATE = 16000


@pytest.fixture(scope="module")
def cases():
    return draw_cases(10, 41)


def scores_of(cases, sound):
    """Scores of ``sound(scene, index)`` as the sound of each prompted object."""
    found = []
    for case in cases:
        for word in case.words:
            index, target = find(case.scene, word)
            found.append(score_clip(sound(case.scene, index), RATE, case.scene, target))
    return found


def test_the_true_stem_scores_full_marks(cases):
    row = summarize(scores_of(cases, stem))
    assert row["onset_f1_50ms"] >= 0.99 and row["material_accuracy"] >= 0.98
    assert row["cross_hits"] <= 0.01 and abs(row["median_offset_ms"]) < 4


def test_the_mixture_is_heard_everywhere_and_scores_badly(cases):
    row = summarize(scores_of(cases, lambda scene, index: mixture(scene)))
    assert row["onset_f1_50ms"] <= 0.75 and row["cross_hits"] > 0.9


def test_another_objects_stem_scores_badly_and_hits_only_its_own(cases):
    scores = scores_of(cases, lambda scene, index: stem(scene, index - 1))
    row = summarize(scores)
    assert row["onset_f1_50ms"] < 0.25 and row["material_accuracy"] < 0.15 and row["cross_hits"] > 0.45
    assert own_share(scores) < 0.05 < 0.95 < own_share(scores_of(cases, stem))


def test_another_scenes_stem_scores_badly():
    cases = draw_cases(40, 42)
    scores = [
        score_clip(stem(case.other, 0), RATE, case.scene, find(case.scene, word)[1])
        for case in cases
        for word in case.words
    ]
    assert summarize(scores)["onset_f1_50ms"] <= 0.2


def test_silence_scores_nothing_and_a_delay_of_250_ms_badly(cases):
    silent = summarize(scores_of(cases, lambda scene, index: np.zeros(scene.num_samples, np.float32)))
    assert silent == {
        "onset_f1_50ms": 0,
        "onset_f1_80ms": 0,
        "cross_hits": 0,
        "material_accuracy": 0,
        "median_offset_ms": None,
    }

    def late(scene, index):
        return np.concatenate([np.zeros(4000, np.float32), stem(scene, index)])[: scene.num_samples]

    row = summarize(scores_of(cases, late))
    assert row["onset_f1_80ms"] < 0.3 and row["material_accuracy"] < 0.3


def test_a_small_delay_is_told_with_its_sign(cases):
    def early(scene, index):
        return np.concatenate([stem(scene, index)[480:], np.zeros(480, np.float32)])

    assert summarize(scores_of(cases, early))["median_offset_ms"] == pytest.approx(-30, abs=4)


def test_noise_only_makes_it_worse(cases):
    noise = np.random.default_rng(0).standard_normal(8 * RATE).astype(np.float32)
    rows = [
        summarize(scores_of(cases, lambda scene, index, level=level: stem(scene, index) + level * noise))
        for level in (0.0, 0.04, 0.06, 1.0)
    ]
    for key in ("onset_f1_50ms", "material_accuracy"):
        clean, little, much, drowned = (row[key] for row in rows)
        assert clean > 0.98 and clean + 0.01 > little > much >= drowned and drowned < 0.3


def test_impacts_near_the_objects_own_are_no_cross_hits(cases):
    scene = cases[1].scene
    target, others = scene.objects[0], scene.objects[1:]
    score = score_clip(mixture(scene), RATE, scene, target)
    near = sum(float(np.abs(target.impacts - time).min()) <= 0.08 for each in others for time in each.impacts)
    assert score.cross_true == sum(len(each.impacts) for each in others) - near


def test_the_loudness_of_a_turning_source_follows_its_speed():
    values, reversed_values = [], []
    for scene, word in draw_continuous(6, 41):
        index, target = find(scene, word)
        wave = stem(scene, index)
        values.append(speed_correlation(wave, RATE, target))
        reversed_values.append(speed_correlation(wave[::-1].copy(), RATE, target))
        assert speed_correlation(np.zeros_like(wave), RATE, target) == 0
        assert speed_correlation(np.ones_like(wave), RATE, target) == 0
    assert min(values) > 0.95 and np.mean(reversed_values) < 0.6


def test_the_scenes_are_hard_fixed_and_of_the_test_split(cases):
    again = draw_cases(10, 41)
    for number, (case, other) in enumerate(zip(cases, again, strict=True)):
        assert (case.scene.seed, case.words) == (other.scene.seed, other.words)
        assert case.scene.split == case.other.split == "test"
        assert len(case.scene.objects) == 2 + number % 2
        assert all(len(each.impacts) >= 6 for each in case.scene.objects)
        assert case.scene.find(case.absent) is None and case.absent in HEARD_IMPACTS
        assert all(rival != word for word, rival in zip(case.words, case.rivals, strict=True))
    assert not {case.scene.seed for case in cases} & {case.scene.seed for case in draw_cases(10, 42)}


def test_prompted_materials_are_in_every_scene():
    for case in draw_cases(12, 3, ("glass",)):
        assert case.words == ("glass",) and case.rivals[0] in HEARD_IMPACTS
    words = {word for case in draw_cases(12, 3, ("wood", "stone")) for word in case.words}
    assert words == {"wood", "stone"}
    assert {word for _, word in draw_held_out(4, 0)} == set(HELD_OUT)


@pytest.mark.parametrize(("name", "sentence"), [("glas", "Did you mean 'glass'"), ("fan", "no impacts")])
def test_materials_that_cannot_be_scored_are_refused(name, sentence):
    with pytest.raises(InputError, match=sentence):
        draw_cases(1, 0, (name,))
