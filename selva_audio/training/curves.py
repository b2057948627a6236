"""Loss curves: their smoothing, figures, and the log that they are drawn from."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..errors import OutputError, os_error_sentence
from ..files import write_text
from ..plots import save_figure

LOG = "metrics.jsonl"
RAW, SMOOTHED = "loss_raw.png", "loss_smoothed.png"
SMOOTHING = 0.9
_WIDTH, _HEIGHT, _DPI = 8.0, 3.8, 100  # 800 x 380, as users of the public pack know them
_LINE, _POINTS, _QUIET = "#3b6fb6", "#c2410c", "#6b7280"


def smoothed(losses: Sequence[float], factor: float = SMOOTHING) -> NDArray[np.float64]:
    """Exponential moving average, freed from the pull of its start; what is not finite is passed over."""
    values, mean, weight = np.full(len(losses), np.nan), 0.0, 0.0
    for place, loss in enumerate(losses):
        if math.isfinite(loss):
            mean, weight = factor * mean + (1 - factor) * loss, factor * weight + (1 - factor)
        if weight:
            values[place] = mean / weight
    return values


def loss_figure(
    losses: Sequence[float],
    validations: Sequence[Mapping[str, float]] = (),
    *,
    title: str = "",
    names: tuple[str, str] = ("training", "validation"),
) -> Figure:
    """Losses over steps, with those of validation as points.

    Args:
        losses: of step 1, 2, ...
        validations: each with ``step`` and ``val_loss``.
        title: above it.
        names: of the line and of the points.
    """
    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    # Fixed margins: finding them takes longer than a training step of a small model.
    figure.subplots_adjust(left=0.09, right=0.98, top=0.9, bottom=0.14)
    axis = figure.subplots()
    axis.plot(np.arange(1, len(losses) + 1), losses, color=_LINE, linewidth=1.2, label=names[0])
    points = [(each["step"], each["val_loss"]) for each in validations if "val_loss" in each]
    if points:
        steps, values = zip(*points, strict=True)
        axis.plot(steps, values, "o-", color=_POINTS, markersize=4, linewidth=1, label=names[1])
        axis.legend(frameon=False)
    axis.set_xlabel("step", color=_QUIET)
    axis.set_ylabel("loss", color=_QUIET)
    axis.set_title(title, loc="left")
    axis.grid(alpha=0.25)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure


def write_curves(
    folder: Path, losses: Sequence[float], validations: Sequence[Mapping[str, float]]
) -> tuple[Path, Path]:
    """``loss_raw.png`` and ``loss_smoothed.png``."""
    raw = loss_figure(losses, validations, title="loss")
    even = loss_figure(list(smoothed(losses)), validations, title=f"loss, smoothed by {SMOOTHING}")
    return save_figure(raw, folder / RAW), save_figure(even, folder / SMOOTHED)


class MetricsLog:
    """``metrics.jsonl``: one line for each step, and one for each validation.

    Lines after step ``step`` are of a run that is not gone on with, and are taken out.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / LOG
        lines = self.path.read_text(encoding="utf-8").splitlines() if step and self.path.is_file() else []
        kept = [line for line in lines if (_step_of(line) or math.inf) <= step]
        write_text(self.path, "".join(f"{line}\n" for line in kept))

    def write(self, values: Mapping[str, float]) -> None:
        """Append one line; numbers that are not finite become null.

        Raises:
            OutputError: the disk refuses it.
        """
        plain = {key: value if math.isfinite(value) else None for key, value in values.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(plain) + "\n")
        except OSError as error:
            raise OutputError(
                f"The log of the training cannot be written. {os_error_sentence(error)}"
            ) from error


def _step_of(line: str) -> float | None:
    """Step of a line; a last one that a kill has torn has none."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None
