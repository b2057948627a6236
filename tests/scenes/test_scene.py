import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selva_audio.errors import InputError
from selva_audio.scenes import (
    CONTINUOUS,
    HEARD,
    HELD_OUT,
    MATERIALS,
    PERIOD,
    SAMPLE_RATE,
    draw_frames,
    draw_scene,
    mixture,
    silence,
    stem,
)
from selva_audio.scenes.motion import MIN_IMPACT_RATE, QUIET_EDGE
from selva_audio.scenes.sounds import ROOM_TONE

SEEDS = st.integers(0, 2**48)
SPLITS = st.sampled_from(("train", "val", "test"))


def test_equal_arguments_give_equal_scenes():
    first, second = (draw_scene(7, split="val", duration=2.0) for _ in range(2))
    assert np.array_equal(draw_frames(first), draw_frames(second))
    assert np.array_equal(mixture(first), mixture(second))


@given(seed=SEEDS, split=SPLITS)
@settings(max_examples=40, deadline=None)
def test_every_impact_object_hits_six_times_in_eight_seconds(seed, split):
    for each in draw_scene(seed, split=split).objects:
        if each.material.continuous:
            assert len(each.impacts) == 0
            continue
        assert len(each.impacts) >= 6
        assert each.impacts[0] >= QUIET_EDGE and each.impacts[-1] <= 8 - QUIET_EDGE
        assert np.diff(each.impacts).min() > 0.2
        assert ((each.loudness > 0) & (each.loudness <= 1)).all()


@given(seed=SEEDS, duration=st.floats(1.0, 12.0))
@settings(max_examples=40, deadline=None)
def test_short_and_long_scenes_keep_the_impact_rate(seed, duration):
    scene = draw_scene(seed, split="train", materials=("wood",), num_objects=1, duration=duration)
    assert len(scene.objects[0].impacts) >= max(1, int(MIN_IMPACT_RATE * duration))
    assert len(stem(scene, 0)) == round(duration * SAMPLE_RATE)


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_an_object_is_at_the_end_of_its_way_when_it_hits(seed):
    for each in draw_scene(seed, split="train", materials=("wood", "metal")).objects:
        heights = each.motion.heights(each.impacts)
        assert np.allclose(heights, each.motion.target, atol=1e-9)
        moved = each.motion.heights(each.impacts - 0.02) - heights
        assert (np.abs(moved) > 1e-4).all()


def test_mixture_is_the_sum_of_the_stems():
    scene = draw_scene(3, split="test", num_objects=3, duration=3.0)
    total = sum(stem(scene, index) for index in range(3))
    assert np.allclose(mixture(scene), total, atol=1e-6)


def test_stems_rise_at_the_impacts_and_nowhere_before():
    scene = draw_scene(5, split="val", materials=("wood", "plastic"), num_objects=1)
    wave, impacts = stem(scene, 0), scene.objects[0].impacts
    first = round(impacts[0] * SAMPLE_RATE)
    assert np.abs(wave[:first]).max() < 6 * ROOM_TONE
    for time in impacts:
        at = round(time * SAMPLE_RATE)
        before, after = wave[at - 320 : at], wave[at : at + 320]
        assert np.abs(after).max() > 10 * np.abs(before).max()


def test_loudness_of_the_sound_follows_the_speed_of_the_impact():
    peaks, speeds = [], []
    for seed in range(6):
        scene = draw_scene(seed, split="val", materials=("wood",), num_objects=1)
        wave, each = stem(scene, 0), scene.objects[0]
        for time, loudness in zip(each.impacts, each.loudness, strict=True):
            at = round(time * SAMPLE_RATE)
            peaks.append(np.sqrt(np.square(wave[at : at + 800]).mean()))
            speeds.append(loudness)
    assert np.corrcoef(peaks, speeds)[0, 1] > 0.9


def test_a_continuous_source_is_as_loud_as_it_is_fast():
    scene = draw_scene(1, split="val", materials=CONTINUOUS, num_objects=1)
    wave = stem(scene, 0)
    power = np.square(wave).reshape(-1, 400).mean(axis=1) ** 0.5
    speed = scene.objects[0].speeds((np.arange(len(power)) + 0.5) * 400 / SAMPLE_RATE)
    assert np.corrcoef(power, speed)[0, 1] > 0.95


def test_angle_is_the_integral_of_the_speed():
    motion = draw_scene(2, split="val", materials=CONTINUOUS, num_objects=1).objects[0].motion
    times = np.linspace(0, 8, 8001)
    speed = motion.speed(times)
    summed = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2 * np.diff(times))])
    assert np.allclose(motion.angle(times), summed, atol=1e-3)


def test_the_same_seed_gives_unrelated_scenes_in_each_split():
    waves = [
        mixture(draw_scene(0, split=split, materials=("wood",), num_objects=1))
        for split in ("train", "val", "test")
    ]
    for first in range(3):
        for second in range(first):
            assert abs(np.corrcoef(waves[first], waves[second])[0, 1]) < 0.2


def test_material_is_independent_of_lane_size_and_motion():
    scenes = [
        draw_scene(seed, split="test", materials=("wood", "metal"), num_objects=2) for seed in range(400)
    ]
    lefts = [scene.objects[0] for scene in scenes]
    share = np.mean([each.material.name == "wood" for each in lefts])
    assert abs(share - 0.5) < 0.1
    for quantity in (lambda each: each.size, lambda each: each.motion.kind == "hop"):
        by_material = {
            name: np.mean([quantity(each) for each in lefts if each.material.name == name])
            for name in ("wood", "metal")
        }
        spread = np.std([quantity(each) for each in lefts])
        assert abs(by_material["wood"] - by_material["metal"]) < 0.4 * spread


def test_silence_is_room_tone():
    assert np.isclose(silence(draw_scene(0, split="val")).std(), ROOM_TONE, rtol=0.02)


def test_held_out_materials_are_known_and_not_heard():
    assert "glass" in HELD_OUT and len(HELD_OUT) == 2 and len(MATERIALS) >= 6
    assert set(HEARD) | set(HELD_OUT) == set(MATERIALS) and not set(HEARD) & set(HELD_OUT)
    assert set(CONTINUOUS) <= set(HEARD)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"split": "tests"}, "test"),
        ({"materials": ("glas",)}, "glass"),
        ({"num_objects": 4}, "1 to 3"),
        ({"materials": ("wood",), "num_objects": 2}, "1 to 1"),
        ({"duration": 0.5}, "1 second"),
        ({"seed": -1}, "from 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, hint):
    arguments = {"seed": 0, "split": "val"} | arguments
    with pytest.raises(InputError, match=hint):
        draw_scene(arguments.pop("seed"), **arguments)


def test_room_tone_repeats_every_mel_frame():
    frames = silence(draw_scene(0, split="val"))[: 100 * PERIOD].reshape(100, PERIOD)
    assert np.array_equal(frames, np.repeat(frames[:1], 100, axis=0))


def test_lasting_tones_repeat_every_mel_frame_but_for_their_envelope():
    scene = draw_scene(3, split="val", materials=("fan",), num_objects=1)
    wave = stem(scene, 0)[PERIOD * 50 : PERIOD * 150].reshape(100, PERIOD)
    unit = wave / np.linalg.norm(wave, axis=1, keepdims=True)
    assert np.median(np.sum(unit[:-1] * unit[1:], axis=1)) > 0.99
