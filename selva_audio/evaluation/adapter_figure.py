"""The picture of a comparison of adapters: one panel for each number, one bar for each adapter."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_INK, _QUIET, _BAR, _BASE, _LINE = "#1f2430", "#6b7280", "#3b6ea5", "#b8c1cc", "#f2a541"
_TITLE_SIZE, _TEXT_SIZE = 13, 9.5
_COLUMNS = 4
_LONGEST = 18
# Key, title, and whether it is one of the whole set.
_PANELS = (
    ("ltas_distance", "spectrum off by (dB)", True),
    ("mel_gram_distance", "mel Gram distance", True),
    ("kad_mel", "kernel distance (kad_mel)", True),
    ("onset_f1_50ms", "onset F1 at 50 ms", False),
    ("hf_energy_ratio", "energy over 4 kHz", False),
    ("spectral_centroid_hz", "centroid (Hz)", False),
    ("spectral_flatness", "flatness", False),
    ("temporal_variance", "temporal variance", False),
)


def comparison_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Bars with 90 % bounds; a line is the mean of the recordings, where the number is of single sounds.

    Args:
        summary: the content of ``eval_summary.json``.

    Returns:
        None where no adapter has numbers.
    """
    adapters = [each for each in summary["adapters"] if each.get("avg_metrics")]
    panels = [panel for panel in _PANELS if any(_value(each, panel) is not None for each in adapters)]
    if not panels:
        return None
    rows = -(-len(panels) // _COLUMNS)
    height = 0.9 + rows * (1.1 + 0.34 * len(adapters))
    figure = Figure(figsize=(13, height), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for place, (axis, panel) in enumerate(zip(axes, panels, strict=False)):
        _draw(axis, panel, adapters, summary["reference_avg"], named=place % _COLUMNS == 0)
    title = f"{summary['name'] or 'adapters'}: {summary['n_clips']} clips, {summary['variant']}"
    note = "thin lines: bounds of 90 %; orange: mean of the recordings"
    figure.supxlabel(note, x=0.01, ha="left", fontsize=_TEXT_SIZE, color=_QUIET)
    figure.suptitle(title, x=0.01, ha="left", fontsize=_TITLE_SIZE, color=_INK, fontweight="bold")
    return figure


def _draw(
    axis: Axes,
    panel: tuple[str, str, bool],
    adapters: Sequence[Mapping[str, Any]],
    reference: Mapping[str, Any],
    *,
    named: bool,
) -> None:
    key, title, of_set = panel
    for place, adapter in enumerate(adapters):
        found = _value(adapter, panel)
        if found is None:
            continue
        value, low, high = found
        axis.barh(-place, value, height=0.62, color=_BAR if adapter["path"] else _BASE)
        axis.plot([low, high], [-place, -place], color=_INK, linewidth=1.2)
        axis.text(
            max(value, high, 0), -place, f"  {_told(value)}", va="center", fontsize=_TEXT_SIZE, color=_INK
        )
    if not of_set and reference.get(key) is not None:
        axis.axvline(reference[key], color=_LINE, linewidth=1.6)
    names = [_shortened(adapter["id"]) for adapter in adapters] if named else [""] * len(adapters)
    axis.set_yticks([-place for place in range(len(adapters))], names)
    axis.margins(x=0.22)
    axis.set_title(title, loc="left", fontsize=_TEXT_SIZE + 1, color=_INK)
    axis.tick_params(labelsize=_TEXT_SIZE, labelcolor=_QUIET, length=0)
    axis.locator_params(axis="x", nbins=4)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _value(adapter: Mapping[str, Any], panel: tuple[str, str, bool]) -> tuple[float, float, float] | None:
    """Value and bounds of one number of one adapter."""
    key, _, of_set = panel
    if of_set:
        found = adapter["set_metrics"].get(key)
        return None if found is None or found["value"] is None else (found["value"], *_bounds(found))
    value = adapter["avg_metrics"].get(key)
    if value is None:
        return None
    low, high = adapter["intervals"][key]
    return value, low, high


def _bounds(found: Mapping[str, float | None]) -> tuple[float, float]:
    value = found["value"] or 0.0
    return (
        value if found["low"] is None else found["low"],
        value if found["high"] is None else found["high"],
    )


def _told(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
