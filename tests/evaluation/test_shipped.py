"""The embedded model on eight unseen scenes; benchmarks/ holds the table over many more."""

import pytest

from selva_audio.bundle import load_model
from selva_audio.options import SelectivityOptions
from selva_audio.tasks.evaluate import evaluate_selectivity


@pytest.fixture(scope="module")
def result():
    # bf16 as by default, unlike the shared fixture.
    return evaluate_selectivity(load_model("demo_16k", device="cpu"), SelectivityOptions(scenes=8, seed=0))


@pytest.mark.slow
def test_eight_test_scenes_are_selective_and_on_time(result):
    assert result["onset_f1_50ms"] >= 0.9 and result["cross_hits"] <= 0.05
    assert result["material_accuracy"] >= 0.95
    assert abs(result["median_offset_ms"]) < 20
    assert result["held_out"]["onset_f1_50ms"] >= 0.7 and result["held_out"]["material_accuracy"] < 0.3
    assert result["continuous_correlation"] >= 0.8


@pytest.mark.slow
def test_the_controls_come_out_as_they_must(result):
    controls = result["controls"]
    assert controls["truth"]["onset_f1_50ms"] >= 0.97 and controls["truth"]["material_accuracy"] >= 0.97
    assert controls["truth_coded"]["onset_f1_50ms"] >= 0.9
    assert controls["mixture"]["onset_f1_50ms"] <= 0.75 and controls["mixture"]["cross_hits"] >= 0.9
    exchanged = controls["prompt_exchanged"]
    assert exchanged["other_hits"] >= 0.9 and exchanged["own_hits"] <= 0.15
    # The bar over 64 scenes is .2; eight scenes scatter around it.
    assert controls["null_sync"]["onset_f1_50ms"] < 0.3 and controls["other_scene"]["onset_f1_50ms"] < 0.3
