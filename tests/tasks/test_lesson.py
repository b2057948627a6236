"""A short lesson and its control: the adapter learned, and the evaluator orders adapters by that."""

import json
from pathlib import Path

import pytest

from selva_audio.options import ComparisonOptions, LoraOptions, SceneOptions
from selva_audio.tasks.adapter import with_adapters
from selva_audio.tasks.clips import load_clips
from selva_audio.tasks.dataset import prepare_dataset
from selva_audio.tasks.evaluate_adapters import evaluate_adapters
from selva_audio.tasks.scenes import write_scenes
from selva_audio.tasks.train import train_lora
from selva_audio.training.validation import fixed_noise_loss

# One process: what they look at takes minutes to make.
pytestmark = pytest.mark.xdist_group("lesson")
STEPS, HALF = 240, 80
# At the usual rate 80 steps have learned as much of the spectra as a few clips can tell.
RATE = 5e-4
# Guidance goes past what was learned: after so short a training, 4.5 takes the sound away from it again.
GUIDANCE = 2.0


@pytest.fixture(scope="module")
def compared(demo_model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """The rows of a comparison on clips of a held-out material that no adapter was trained on."""
    root = tmp_path_factory.mktemp("order")

    def prepared(name: str, **scenes) -> Path:
        write_scenes(root / name, SceneOptions(materials=name.split("_")[0], size=128, **scenes))
        return prepare_dataset(demo_model, root / name, root / f"{name}_set").folder

    def trained(name: str) -> Path:
        options = LoraOptions(steps=STEPS, save_every=HALF, warmup_steps=20, lr=RATE, sample_steps=0)
        return train_lora(demo_model, prepared(name, count=12), root / f"{name}_out", options).adapter_path

    right, wrong = trained("glass"), trained("stone")
    listed = [
        {"id": "base"},
        {"id": "half", "path": str(right.parent / f"adapter_step{HALF:05d}.pt")},
        {"id": "trained", "path": str(right)},
        {"id": "wrong", "path": str(wrong)},
    ]
    plan = {
        "data_dir": str(prepared("glass_test", count=8, split="test", seed=1)),
        "train_dir": str(root / "glass_set"),
        "output_dir": str(root / "compared"),
        "cfg_strength": GUIDANCE,
        "adapters": listed,
    }
    done = evaluate_adapters(demo_model, ComparisonOptions.read(plan))
    assert done.failures == (), json.dumps(done.failures)
    unseen = load_clips(demo_model, plan["data_dir"], val_fraction=0)
    for row in done.summary["adapters"]:
        adapted = with_adapters(demo_model, [row["path"]] if row["path"] else [])
        row["loss"] = fixed_noise_loss(adapted.generator, unseen, clip_conditioning=True).mean
    return {row["id"]: row for row in done.summary["adapters"]}


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["ltas_distance", "mel_gram_distance", "kad_mel"])
def test_adapters_come_in_the_order_of_what_they_learned(compared, metric):
    value = {name: row["set_metrics"][metric]["value"] for name, row in compared.items()}
    assert value["trained"] < value["half"] < value["base"], value
    assert value["wrong"] > value["half"], value


@pytest.mark.slow
def test_a_short_lesson_closes_most_of_the_gap_and_another_sound_nothing(compared):
    """One arm of ``benchmarks.lora`` and its control; 0.05 is the loss on sounds that the base knows."""
    base, known = compared["base"]["loss"], 0.05
    closed = {name: (base - row["loss"]) / (base - known) for name, row in compared.items()}
    assert closed["trained"] > 0.6, closed
    assert closed["wrong"] < closed["trained"] / 2, closed
    assert compared["trained"]["set_metrics"]["mel_gram_distance"]["value"] < (
        0.75 * compared["base"]["set_metrics"]["mel_gram_distance"]["value"]
    )
    assert compared["wrong"]["set_metrics"]["mel_gram_distance"]["value"] > (
        0.75 * compared["base"]["set_metrics"]["mel_gram_distance"]["value"]
    )


@pytest.mark.slow
def test_the_trained_one_is_in_time_and_copies_nothing(compared):
    timing = {name: row["avg_metrics"]["onset_f1_50ms"] for name, row in compared.items()}
    assert timing["trained"] > timing["base"] - 0.05
    assert compared["trained"]["copies"] == []
    change = compared["trained"]["versus_base"]["mcd"]
    assert change["high"] < 0
