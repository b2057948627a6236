"""Training curves of all stages as one picture."""

import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLUMNS = 3
_HIDDEN = ("stage", "step", "cpu", "norm", "loss")


def save_curves(folder: Path) -> Path:
    """Draw every ``*.jsonl`` log of ``folder`` into ``curves.png`` there."""
    logs = sorted(folder.glob("*.jsonl"))
    rows = -(-len(logs) // _COLUMNS)
    figure = Figure(figsize=(5 * _COLUMNS, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for index, log in enumerate(logs):
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        axes = figure.add_subplot(rows, _COLUMNS, index + 1)
        steps = [entry["step"] for entry in entries]
        names = [name for name in entries[0] if name not in _HIDDEN] or ["loss"]
        for name in names:
            axes.plot(steps, [entry[name] for entry in entries], label=name, linewidth=1)
        axes.set_yscale("log")
        axes.set_title(log.stem)
        axes.set_xlabel("step")
        axes.legend(fontsize="x-small", ncols=2)
    path = folder / "curves.png"
    figure.savefig(path, dpi=110)
    return path
