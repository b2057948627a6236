"""The videos that the comparison with the published code measures."""

from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.speed.clips import fit_clip, write_clip


def _packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def _times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


@pytest.mark.parametrize("still", [False, True])
def test_a_drawn_video_is_the_same_each_time_and_made_once(tmp_path: Path, still: bool) -> None:
    size = {"width": 160, "height": 96, "still": still}
    first, second = (write_clip(tmp_path / name, 0.4, **size) for name in "ab")
    assert first.read_bytes() == second.read_bytes() and len(_times(first)) == 10
    first.write_bytes(b"kept")
    assert write_clip(tmp_path / "a", 0.4, **size).read_bytes() == b"kept"


def test_a_camera_costs_more_bits_after_the_first_picture_than_one_that_stands_still(tmp_path: Path) -> None:
    camera, still = (
        _packets(write_clip(tmp_path, 1.0, width=320, height=192, still=still)) for still in (False, True)
    )
    assert sum(map(len, camera[1:])) > 1.5 * sum(map(len, still[1:]))


@pytest.mark.parametrize("reordered", ["0", "2"])
def test_a_video_is_cut_or_looped_without_coding_it_anew(make_clip, tmp_path: Path, reordered: str) -> None:
    video = make_clip(tmp_path / "in.mp4", np.arange(50) / 25, options={"bf": reordered})
    cut, looped = fit_clip(video, tmp_path / "work", 1.0), fit_clip(video, tmp_path / "work", 5.0)
    assert _packets(cut) == _packets(video)[: len(_packets(cut))]
    assert 23 <= len(_times(cut)) <= 27
    packets = _packets(video)
    assert _packets(looped) == (packets * 3)[: len(_packets(looped))]
    times = np.array(_times(looped))
    assert len(times) >= 122
    assert np.diff(times[:120]) == pytest.approx(1 / 25, abs=1e-3)
    assert fit_clip(video, tmp_path / "work", 1.0) == cut
