"""The losses of all experiments of a sweep in one picture."""

import math
from collections.abc import Mapping
from itertools import cycle
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_SIZE, _DPI = (9.0, 4.2), 100  # inches, dots per inch
_INK, _QUIET_INK, _GRID = "#1f2430", "#6b7280", "#e5e7eb"
_COLOURS = ("#3b6fb6", "#d9822b", "#3f9b5f", "#b5446e", "#7a5cb8", "#8a6d3b", "#2a9d9d", "#6b7280")
_LINES = ("-", "--", ":", "-.")
_MOST_NAMED = 24


def comparison_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Smoothed loss over steps, one line for each experiment; None where there is no loss yet.

    Args:
        summary: of ``read_summary``.
    """
    records = [record for record in summary["experiments"] if record.get("curve", {}).get("steps")]
    if not records:
        return None
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    styles = cycle([(colour, line) for line in _LINES for colour in _COLOURS])
    for record, (colour, line) in zip(records, styles, strict=False):
        steps, losses = record["curve"]["steps"], record["curve"]["loss"]
        told = [math.nan if loss is None else loss for loss in losses]
        unfinished = "" if record["status"] == "done" else f" ({record['status']})"
        axis.plot(steps, told, color=colour, linestyle=line, linewidth=1.5, label=record["id"] + unfinished)
    axis.set_title(summary.get("sweep_name") or "", loc="left", color=_INK, fontsize=12)
    axis.set_xlabel("step", color=_QUIET_INK)
    axis.set_ylabel("loss, smoothed", color=_QUIET_INK)
    axis.grid(color=_GRID, linewidth=0.8)
    axis.tick_params(colors=_QUIET_INK, length=0)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    if len(records) <= _MOST_NAMED:
        axis.legend(frameon=False, fontsize=8, labelcolor=_INK, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
