"""The bars of the LoRA lesson, on rows that are made up."""

import pytest

from benchmarks.lora_bars import bars

BASE = {
    "ltas_distance": 30.0,
    "mel_gram_distance": 30.0,
    "gap_closed": 0.0,
    "material_accuracy": 0.0,
    "onset_f1_50ms": 1.0,
}
GOOD = {
    "ltas_distance": 5.0,
    "mel_gram_distance": 15.0,
    "gap_closed": 0.9,
    "material_accuracy": 0.9,
    "onset_f1_50ms": 1.0,
    "copies": 0.0,
    "clip_diversity": 0.5,
    "forgetting": 8.0,
}
BAD = GOOD | {"gap_closed": 0.1, "material_accuracy": 0.0}


def rows(**arms):
    seeds = {arm: [{"seed": seed, **row} for seed, row in enumerate(found)] for arm, found in arms.items()}
    return {"base": [BASE]} | seeds


def test_all_hold_for_good_arms_and_failing_controls():
    kept = GOOD | {"forgetting": 1.0}
    found = bars(
        rows(full=[GOOD], lora=[GOOD], preserve=[kept], shuffled=[BAD], exchanged=[BAD], wrong_class=[BAD]),
        real_diversity=0.5,
    )
    assert len(found) == 15
    assert all(found.values())


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({"gap_closed": 0.5}, 3),  # of the gap, of what full training closes, and of twice the control
        ({"ltas_distance": 18.1}, 1),
        ({"mel_gram_distance": 18.1}, 1),
        ({"material_accuracy": 0.79}, 1),
        ({"onset_f1_50ms": 0.94}, 1),
        ({"copies": 0.1}, 1),
        ({"clip_diversity": 0.29}, 1),
        ({"forgetting": 1.9}, 1),
    ],
)
def test_one_seed_that_misses_is_enough_to_fail(changed, failing):
    arms = rows(
        full=[GOOD, GOOD],
        lora=[GOOD, GOOD | changed],
        preserve=[GOOD | {"forgetting": 1.0}] * 2,
        shuffled=[BAD | {"gap_closed": 0.26}] * 2,
    )
    found = bars(arms, real_diversity=0.5)
    assert list(found.values()).count(False) == failing, found


def test_controls_that_learn_fail_their_bars_and_arms_not_run_have_none():
    found = bars(rows(lora=[GOOD], shuffled=[GOOD]), real_diversity=0.5)
    assert not found["shuffled sounds fail"]
    assert not any("preserve" in bar or "full" in bar or "wrong" in bar for bar in found)


def test_a_seed_that_one_arm_has_alone_is_not_compared():
    half = rows(full=[GOOD], lora=[GOOD, GOOD | {"gap_closed": 0.0}])
    assert bars(half, real_diversity=0.5)["LoRA closes 70 % of what full training does"]
    other = half | {"full": [{"seed": 7} | GOOD]}
    assert "LoRA closes 70 % of what full training does" not in bars(other, real_diversity=0.5)
