import json

import pytest

from recipes.demo_model.card import model_card
from recipes.demo_model.curves import save_curves
from recipes.demo_model.data import CONFIG

ROW = {
    "onset_f1_50ms": 0.51,
    "onset_f1_80ms": 0.62,
    "cross_hits": 0.13,
    "material_accuracy": 0.74,
    "median_offset_ms": 5.5,
}
CONTROLS = ("null_sync", "truth", "truth_coded", "mixture", "other_scene", "prompt_exchanged")
VOCODER = {"mel_l1": 0.21, "stft": 0.32, "material_accuracy": 0.96, "onset_f1_50ms": 0.97}


@pytest.fixture
def folder(tmp_path):
    controls = {name: dict(ROW) for name in CONTROLS}
    controls["prompt_exchanged"] |= {"other_hits": 0.87, "own_hits": 0.05}
    report = {"scenes": 3, "generation_seeds": [4], "steps": 25, "cfg_strength": 4.5, **ROW}
    report |= {"controls": controls, "absent_silent": 0.98, "held_out": ROW}
    report |= {"continuous_correlation": 0.83, "continuous_correlation_worst": 0.71}
    report["vocoder"] = {"vocoder": VOCODER, "griffin_lim": VOCODER}
    (tmp_path / "report.json").write_text(json.dumps(report))
    for name in CONFIG.files.values():
        (tmp_path / name).write_bytes(b"0" * 1000)
    rows = [{"stage": "vae", "step": step, "cpu": cpu, "loss": 0.5} for step, cpu in ((50, 8), (60, 2))]
    (tmp_path / "vae.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return tmp_path


def test_the_card_holds_the_measured_numbers(folder):
    card = model_card(folder)
    assert "| generated for the prompted object | 0.510 | 0.620 | 0.130 | 0.740 | 5.500 |" in card
    for text in ("0.87", "0.98", "0.83", "0.71", "3 scenes", "means nothing on real footage"):
        assert text in card
    assert "| griffin_lim | 0.210 | 0.320 | 0.960 | 0.970 |" in card
    assert all(name in card for name in CONFIG.files.values())


def test_time_of_a_resumed_stage_is_the_sum_of_its_runs(folder):
    assert "| vae | 60 | 10 |" in model_card(folder)


def test_notes_of_a_run_are_part_of_its_card(folder):
    (folder / "notes.md").write_text("Trained twice.\n")
    assert "Trained twice." in model_card(folder)


def test_curves_are_drawn_from_the_logs(folder):
    assert save_curves(folder).read_bytes().startswith(b"\x89PNG")
