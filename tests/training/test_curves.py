import math

import matplotlib.image
import numpy as np
import pytest

from selva_audio.training.curves import MetricsLog, smoothed, write_curves


def test_smoothing_has_no_pull_of_its_start_and_passes_over_gaps():
    assert smoothed([2.0] * 5) == pytest.approx([2.0] * 5)
    values = smoothed([math.nan, 1.0, math.nan, 3.0], 0.5)
    assert math.isnan(values[0]) and values[1] == values[2] == pytest.approx(1.0)
    assert values[3] == pytest.approx((0.5 * 0.5 * 1 + 0.5 * 3) / 0.75)
    assert len(smoothed([])) == 0


def test_curves_are_pictures_of_the_size_that_users_know(tmp_path):
    losses = list(1 / np.arange(1, 30))
    plain = write_curves(tmp_path / "a", losses, [])
    held = write_curves(
        tmp_path / "b", losses, [{"step": 0.0, "val_loss": 1.0}, {"step": 29.0, "val_loss": 0.2}]
    )
    assert [path.name for path in plain] == ["loss_raw.png", "loss_smoothed.png"]
    pictures = [matplotlib.image.imread(path) for path in (*plain, *held)]
    assert {picture.shape[:2] for picture in pictures} == {(380, 800)}
    assert not np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[0], pictures[2])


def test_lines_of_steps_that_are_done_again_are_taken_out(tmp_path):
    log = MetricsLog(tmp_path, 0)
    for step in range(1, 6):
        log.write({"step": step, "loss": math.nan if step == 2 else 1.0})
    log.path.write_text(log.path.read_text() + '{"step": 3, "lo')  # torn by a kill
    lines = MetricsLog(tmp_path, 3).path.read_text().splitlines()
    assert lines == ['{"step": 1, "loss": 1.0}', '{"step": 2, "loss": null}', '{"step": 3, "loss": 1.0}']
    assert MetricsLog(tmp_path, 0).path.read_text() == ""
