"""Reading a video and writing it with a sound, both sides in a process each, on several videos."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import fresh
from .clips import fit_clip, write_clip

# The row whose figures are those of the bars, unless there are videos of the user's alone.
CAMERA, STILL = "drawn, as by a camera", "drawn, standing still"


def measure_media(
    work: Path, videos: Sequence[Path], duration: float, checkout: Path | None
) -> dict[str, dict[str, Any]]:
    """``{name of the video: row}``, the drawn videos first.

    A row has for each side CPU seconds and GB above the imports, and their ratios.
    """
    # A little longer than what is used: upstream loses a grid time at the end of a video.
    seconds = duration + 0.2
    clips = {CAMERA: write_clip(work, seconds), STILL: write_clip(work, seconds, still=True)}
    clips |= {video.name: fit_clip(video, work, seconds) for video in videos}
    sides = ("upstream", "ours") if checkout else ("ours",)
    rows: dict[str, dict[str, Any]] = {}
    for name, clip in clips.items():
        row: dict[str, Any] = {
            side: fresh.start(side, work, clip, checkout=checkout, duration=duration, job="media")
            for side in sides
        }
        rows[name] = row | ratios(row)
    return rows


def ratios(row: Mapping[str, Any]) -> dict[str, float]:
    """How many times as much upstream takes; nothing where a side did not run."""
    upstream, ours = (row.get(side, {}) for side in ("upstream", "ours"))
    if "seconds" not in upstream or "seconds" not in ours:
        return {}
    return {
        "ratio": round(upstream["seconds"] / ours["seconds"], 2),
        "memory_ratio": round(upstream["above_gb"] / max(ours["above_gb"], 1e-3), 2),
    }
