"""The picture of a selectivity result: onset F1 of every prompted clip, and of the controls beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_INK, _QUIET, _BAR, _DOT = "#1f2430", "#6b7280", "#3b6ea5", "#f2a541"
_TITLE_SIZE, _TEXT_SIZE = 13, 10.5
_CONTROLS = {
    "truth": "true stem",
    "truth_coded": "true stem through VAE and vocoder",
    "mixture": "mixture, nothing selected",
    "prompt_exchanged": "another object's prompt",
    "null_sync": "no sync features",
    "other_scene": "stem of another scene",
}


def selectivity_figure(result: Mapping[str, Any]) -> Figure:
    """Bars of onset F1 at 50 ms: per prompted material with a dot per clip; and per control.

    Args:
        result: of ``evaluate_selectivity``; without controls, only the first panel is drawn.
    """
    controls = result.get("controls")
    figure = Figure(
        figsize=(11.5 if controls else 6.5, 4.4), dpi=120, layout="constrained", facecolor="white"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 if controls else 1, squeeze=False)[0]
    _draw_materials(axes[0], result["clips"])
    if controls:
        _draw_controls(axes[1], result["onset_f1_50ms"], controls)
    figure.suptitle(
        f"{result['variant']}: onset F1 at 50 ms {result['onset_f1_50ms']:.3f}, "
        f"cross hits {result['cross_hits']:.3f}, material accuracy {result['material_accuracy']:.3f}",
        x=0.01,
        ha="left",
        fontsize=_TITLE_SIZE,
        color=_INK,
        fontweight="bold",
    )
    return figure


def _draw_materials(axis: Axes, clips: Sequence[Mapping[str, Any]]) -> None:
    names = sorted({clip["prompt"] for clip in clips})
    for place, name in enumerate(names):
        values = [clip["onset_f1_50ms"] for clip in clips if clip["prompt"] == name]
        mean = float(np.mean(values))
        axis.bar(place, mean, width=0.62, color=_BAR)
        spread = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else [0.0]
        axis.plot(place + np.asarray(spread), values, "o", color=_DOT, markersize=4, markeredgewidth=0)
        axis.text(place, 1.03, f"{mean:.2f}", ha="center", fontsize=_TEXT_SIZE, color=_INK)
    axis.set_xticks(range(len(names)), names)
    axis.set_ylim(0, 1.1)
    axis.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axis.set_title("prompted object; a dot per clip", loc="left", fontsize=_TEXT_SIZE + 1, color=_INK)
    _tidy(axis)


def _draw_controls(axis: Axes, prompted: float, controls: Mapping[str, Mapping[str, Any]]) -> None:
    rows = [("prompted object", prompted)]
    rows += [(text, controls[key]["onset_f1_50ms"]) for key, text in _CONTROLS.items()]
    for place, (_, value) in enumerate(rows):
        axis.barh(-place, value, height=0.62, color=_DOT if place == 0 else _BAR)
        axis.text(value + 0.015, -place, f"{value:.2f}", va="center", fontsize=_TEXT_SIZE, color=_INK)
    axis.set_yticks([-place for place in range(len(rows))], [text for text, _ in rows])
    axis.set_xlim(0, 1.12)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axis.set_title("against controls", loc="left", fontsize=_TEXT_SIZE + 1, color=_INK)
    _tidy(axis)


def _tidy(axis: Axes) -> None:
    axis.tick_params(labelsize=_TEXT_SIZE, labelcolor=_QUIET, length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
