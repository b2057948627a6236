"""A picture of a data set: the spectrograms of its first clips, with what is known of each."""

import math

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ..errors import InputError, MediaError, MissingFileError
from ..media.audio import read_audio
from ..progress import Progress, ProgressFn, ignore_progress
from .likeness import mel_picture
from .record import Dataset, Entry, count_by

_MOST, _COLUMNS = 24, 4
_WIDTH, _HEIGHT, _DPI = 3.4, 1.9, 110  # inches of a clip, dots per inch
_INK, _QUIET, _BAD, _VAL = "#1f2430", "#6b7280", "#b3261e", "#1f5fa8"
_LONGEST = 34


def overview_figure(dataset: Dataset, *, on_progress: ProgressFn = ignore_progress) -> Figure:
    """Up to 24 clips, spread evenly over the set; a title is red for faults and blue for validation.

    Raises:
        InputError: no clip has a sound that can be read.
    """
    entries = dataset.entries
    count = min(len(entries), _MOST)
    chosen = [entries[place * len(entries) // count] for place in range(count)]
    rows = math.ceil(max(count, 1) / _COLUMNS)
    columns = min(max(count, 1), _COLUMNS)
    figure = Figure(
        figsize=(_WIDTH * columns, _HEIGHT * rows + 0.7),
        dpi=_DPI,
        layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.06),
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    drawn = 0
    for place, axis in enumerate(axes):
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
        if place >= count:
            continue
        on_progress(Progress("drawing", place, count))
        entry = chosen[place]
        axis.set_title(_title(entry), loc="left", fontsize=8.5, color=_colour(entry))
        try:
            audio = read_audio(entry.audio) if entry.audio is not None else None
        except (MediaError, MissingFileError):
            audio = None
        if audio is None:
            axis.text(0.5, 0.5, "no sound", ha="center", va="center", fontsize=10, color=_BAD)
            continue
        mel = mel_picture(audio).mel
        axis.imshow(mel, origin="lower", aspect="auto", cmap="magma", vmin=-60, vmax=0)
        axis.set_xlabel(f"{audio.duration:.1f} s, {audio.sample_rate} Hz", fontsize=7.5, color=_QUIET)
        drawn += 1
    if not drawn:
        raise InputError(f"No clip of {dataset.root} has a sound to draw. Run `selva dataset check` on it.")
    labels = ", ".join(
        f"{name or 'no label'} {number}" for name, number in count_by(entries, "label").items()
    )
    figure.suptitle(
        f"{len(entries)} clips: {labels}"[:120].replace("$", r"\$"),
        x=0.008,
        ha="left",
        fontsize=11,
        color=_INK,
        fontweight="bold",
    )
    return figure


def _title(entry: Entry) -> str:
    name = entry.id if len(entry.id) <= _LONGEST else f"{entry.id[:_LONGEST]}…"
    about = ", ".join(entry.faults) or entry.prompt
    about = about if len(about) <= _LONGEST else f"{about[:_LONGEST]}…"
    side = f" ({entry.split})" if entry.split == "val" else ""
    return f"{name}{side}\n{about}".replace("$", r"\$")


def _colour(entry: Entry) -> str:
    if entry.faults:
        return _BAD
    return _VAL if entry.split == "val" else _INK
