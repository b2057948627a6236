"""The instrument that compares us with the published code, on what needs no checkout of it."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import sections
from benchmarks.speed import fresh, media, ours
from benchmarks.speed.measure import Operations, Tally, error, in_turn, ratio
from benchmarks.speed.report import BARS, lines, lookup
from benchmarks.speed.upstream import open_checkout
from selva_audio.models.fast_attention import attend_over_time

ROW = {
    "ours": {"seconds": 2.0, "peak_gb": 0.1, "launched": 10, "error": {"max": 0.01}},
    "upstream": {"seconds": 8.0, "peak_gb": 1.0, "launched": 400, "error": {"max": 0.02}},
    "ratio": 4.0,
    "low": 3.5,
    "high": 4.5,
}
RESULT = {
    "measured": {"commit": "abc", "python": "3.11", "torch": "2.11.0", "threads": 1},
    "device": "cpu",
    "gpu": None,
    "steps": 25,
    "duration": 8.0,
    "stages": {"bf16": {"vocoder": ROW}},
    "processes": {"upstream, 8 s": {"not run": "no space left"}},
    "media": {
        "a.mp4": {
            "upstream": {"seconds": 10.0, "above_gb": 1.5},
            "ours": {"seconds": 0.5, "above_gb": 0.1},
            "ratio": 20.0,
            "memory_ratio": 15.0,
        },
        "b.mp4": {"upstream": {"seconds": 10.0, "above_gb": 1.5}, "ours": {"not run": "no video"}},
    },
    "training": {"fp32": {"batch": 4, "layers": 80, "ours": {"seconds": 3.0}}},
    "training_gradients": 2e-5,
    "launches": {"ours": {"first": 90, "third": 10}, "upstream": 300},
    "notes": ["a note"],
    "end_to_end": {"fp32_ratio": 1.2},
    "vocoder_ratio": 4.0,
}


def test_both_sides_run_in_turn_after_one_run_that_is_counted() -> None:
    calls = []
    upstream, own = in_turn(
        lambda run: calls.append(("a", run)), lambda run: calls.append(("b", run)), repeats=2, count=True
    )
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert len(upstream.seconds) == len(own.seconds) == 2 and own.launched == 0


def test_views_are_dispatched_and_not_launched() -> None:
    x = torch.ones(4, 4)
    with Operations() as operations:
        (x.transpose(0, 1) @ x).view(16)
    assert (operations.dispatched, operations.launched) == (3, 1)


def test_a_step_of_our_own_counts_as_one_operation() -> None:
    pytest.importorskip("numba")
    qkv = torch.zeros(1, 1 + 8 * 4, 3, 2, 16)
    with Operations() as operations:
        attend_over_time(qkv, 8)
    assert operations.launched == 1
    with Operations() as operations:
        pass
    assert operations.launched == 0


def test_errors_are_relative_to_what_is_expected() -> None:
    found = error(torch.tensor([1.0, 2.0, 4.4]), torch.tensor([1.0, 2.0, 4.0]))
    assert found["max"] == pytest.approx(0.1)
    assert found["rms"] == pytest.approx(0.4 / 21**0.5)


def test_the_ratio_is_of_pairs() -> None:
    found = ratio(Tally([4.0, 9.0, 8.0]), Tally([2.0, 3.0, 2.0]))
    assert found == {"ratio": 3.0, "low": 2.0, "high": 4.0}


def test_the_account_tells_what_holds_what_falls_short_and_what_was_not_run() -> None:
    told = "\n".join(lines(RESULT))
    assert "| vocoder | 8 | 2 | 4.00 (3.50 to 4.50) | 1 / 0.1 | 400 / 10 | 2.0e-02 | 1.0e-02 |" in told
    assert "| upstream, 8 s | not run: no space left |" in told
    assert "| end to end, fp32 | 1.20 | >= 1.5 | falls short |" in told
    assert "| vocoder, default precision | 4.00 | >= 4 | holds |" in told
    assert "| LoRA step, default precision | not run | >= 1.5 | - |" in told
    assert "| LoRA step, fp32: difference of gradients | 2.0e-05 | <= 1e-05 | falls short |" in told
    assert "LoRA step, fp32, 4 clips, 80 layers: ours 3.0 CPU s." in told
    assert "| a.mp4 | 10 | 0.5 | 20 | 1.5 | 0.1 | 15 |" in told
    assert "| b.mp4 | not run: no video | - | - | 1.5 | - | - |" in told
    assert "upstream 300 for each clip, ours 90 for the first, 10 for the third." in told
    assert told.endswith("- a note")
    assert [lookup(RESULT, key) for key, *_ in BARS].count(None) == len(BARS) - 3


def test_the_page_of_results_has_the_account() -> None:
    section = sections.SECTIONS["vs_upstream"](RESULT)
    assert "1 CPU thread" in section and "| vocoder | 8 | 2 |" in section


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    found = fresh.start("upstream", tmp_path / "nowhere", tmp_path / "a.mp4", checkout=tmp_path)
    assert "nowhere" in found["not run"]


def test_reading_and_writing_are_measured_in_a_process_of_their_own(make_clip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", np.arange(30) / 25)
    found = fresh.start("ours", tmp_path, clip, duration=1.0, job="media")
    assert 0 < found["seconds"] == min(found["runs"]) and found["above_gb"] >= 0


def test_media_are_measured_on_drawn_videos_and_on_those_of_the_user(
    make_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def start(side, work, video, **more):
        given.append((side, video.name, more["job"], more["duration"]))
        return {"seconds": 3.0 if side == "upstream" else 0.5, "above_gb": 1.0}

    monkeypatch.setattr(fresh, "start", start)
    monkeypatch.setattr(media, "write_clip", lambda work, seconds, still=False: work / f"{still}.mp4")
    video = make_clip(tmp_path / "mine.mp4", np.arange(30) / 25)
    rows = media.measure_media(tmp_path, [video], 1.0, tmp_path)
    assert list(rows) == [media.CAMERA, media.STILL, "mine.mp4"]
    assert all(row["ratio"] == 6.0 and row["memory_ratio"] == 1.0 for row in rows.values())
    assert [each[:2] for each in given[:4]] == [
        (side, name) for name in ("False.mp4", "True.mp4") for side in ("upstream", "ours")
    ]
    assert given[4][1].startswith("mine_") and {each[2:] for each in given} == {("media", 1.0)}
    assert "ratio" not in media.measure_media(tmp_path, [], 1.0, None)[media.CAMERA]


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    before = list(sys.path)
    with pytest.raises(SystemExit, match="no checkout of SelVA"):
        open_checkout(tmp_path)
    assert sys.path == before


def test_our_side_makes_the_sound_of_the_noise_it_is_given(
    make_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "VARIANT", "demo_16k")
    clip = make_clip(tmp_path / "clip.mp4", np.arange(30) / 25)
    side = ours.Ours(tmp_path, "fp32", "cpu", 1.0)
    side.load(("generator", "vocoder"))
    assert ours.read_sync(clip, 1.0).shape == (25, 3, 224, 224)
    noise = torch.randn(2, 1, 32, 20, generator=torch.Generator().manual_seed(0))
    made = [
        side.whole(clip, "metal ball", each, tmp_path / f"out{number}.mp4", 1)
        for number, each in enumerate((noise[0], noise[0], noise[1]))
    ]
    assert made[0].shape == (1, 16000)
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    assert (tmp_path / "out2.mp4").is_file()
