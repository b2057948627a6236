import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from selva_audio.errors import InputError, OutputError
from selva_audio.options import SelectivityOptions
from selva_audio.progress import Cancelled, Progress
from selva_audio.runtime import num_threads
from selva_audio.tasks.evaluate import evaluate_selectivity

NUMBERS = {"onset_f1_50ms", "onset_f1_80ms", "cross_hits", "material_accuracy", "median_offset_ms"}
CONTROLS = {"truth", "truth_coded", "mixture", "prompt_exchanged", "null_sync", "other_scene"}


@pytest.fixture(scope="module")
def run(demo_model, tmp_path_factory):
    """One scene with one solver step: every stage runs; its folder, result and reports."""
    folder, seen = tmp_path_factory.mktemp("run"), []
    options = SelectivityOptions(scenes=1, seed=5, steps=1)
    result = evaluate_selectivity(
        demo_model,
        options,
        output=folder / "out" / "result.json",
        figure=folder / "out" / "result.png",
        on_progress=seen.append,
    )
    return folder / "out", result, seen


def test_the_file_holds_the_result_as_strict_json(run):
    folder, result, _ = run

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    assert json.loads((folder / "result.json").read_text(), parse_constant=refuse) == result


def test_the_numbers_the_worst_and_the_controls_are_there(run):
    _, result, _ = run
    assert set(result) >= NUMBERS | {
        "worst",
        "controls",
        "absent_silent",
        "held_out",
        "continuous_correlation",
    }
    assert set(result["worst"]) == NUMBERS and set(result["controls"]) == CONTROLS
    assert {"other_hits", "own_hits"} <= set(result["controls"]["prompt_exchanged"])
    assert {key: result[key] for key in ("scenes", "seed", "variant", "steps")} == {
        "scenes": 1, "seed": 5, "variant": "demo_16k", "steps": 1,
    }  # fmt: skip
    fractions = [result[key] for key in NUMBERS - {"median_offset_ms"}]
    assert all(0 <= value <= 1 for value in fractions)


def test_controls_that_need_no_generator_come_out_as_they_must(run):
    controls = run[1]["controls"]
    truth = controls["truth"]
    assert truth["onset_f1_50ms"] >= 0.97 and truth["cross_hits"] <= 0.03
    assert truth["material_accuracy"] >= 0.95 and abs(truth["median_offset_ms"]) < 5
    assert controls["mixture"]["cross_hits"] > 0.8


def test_the_figure_is_drawn(run):
    pixels = imread(run[0] / "result.png")
    assert pixels.shape[1] > pixels.shape[0] > 400 and pixels[..., :3].std() > 0.1
    assert sorted(path.name for path in run[0].iterdir()) == ["result.json", "result.png"]


def test_progress_rises_to_the_end(run):
    steps = [each.step for each in run[2]]
    assert steps == sorted(steps) and run[2][-1].step == run[2][-1].total


def test_without_controls_seeds_are_averaged_the_worst_is_told_and_runs_repeat(demo_model):
    options = SelectivityOptions(
        scenes=1, seed=6, steps=1, materials="glass", generation_seeds="3,4", controls=False
    )
    result, again = (evaluate_selectivity(demo_model, options) for _ in range(2))
    assert result == again
    assert "controls" not in result and result["materials"] == ["glass"]
    assert [row["seed"] for row in result["per_seed"]] == [3, 4]
    assert {clip["prompt"] for clip in result["clips"]} == {"glass"}
    values = [row["onset_f1_50ms"] for row in result["per_seed"]]
    assert result["onset_f1_50ms"] == pytest.approx(np.mean(values), abs=1e-4)
    assert result["worst"]["onset_f1_50ms"] == min(values)
    assert result["worst"]["cross_hits"] == max(row["cross_hits"] for row in result["per_seed"])


def test_cancelling_leaves_nothing_and_threads_as_they_were(demo_model, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    threads = num_threads()

    def cancel(progress: Progress) -> None:
        if progress.stage == "sampling":
            raise Cancelled

    with pytest.raises(Cancelled):
        evaluate_selectivity(
            demo_model, SelectivityOptions(scenes=1), output=tmp_path / "result.json", on_progress=cancel
        )
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"] and num_threads() == threads


def test_targets_and_materials_are_checked_before_any_work(demo_model, tmp_path: Path):
    def fail(progress: Progress) -> None:
        raise AssertionError("work was begun")

    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a folder"):
        evaluate_selectivity(demo_model, output=tmp_path, on_progress=fail)
    with pytest.raises(OutputError, match="is a file"):
        evaluate_selectivity(demo_model, output=tmp_path / "file" / "x.json", on_progress=fail)
    with pytest.raises(InputError, match="PNG"):
        evaluate_selectivity(demo_model, figure=tmp_path / "x.jpg", on_progress=fail)
    with pytest.raises(InputError, match="Unknown material"):
        evaluate_selectivity(demo_model, SelectivityOptions(materials="gold"), on_progress=fail)
