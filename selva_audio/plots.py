"""Figures of sound: mels and spectrograms, alone or as rows to compare.

Figures are objects of their own (``matplotlib.figure.Figure``); pyplot and its global state are never
touched, so that a server, a node and a test can draw at the same time.

Letters: M mel bands, F mel frames, L samples.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike, NDArray

from .configs import MelConfig
from .errors import InputError
from .files import atomic_path
from .models.mel import mel_frequencies, mel_spectrogram

_WIDTH, _ROW_HEIGHT, _FRAME_HEIGHT, _DPI = 10.0, 2.4, 1.0, 120  # inches, dots per inch
_TITLE_SIZE, _ROW_TITLE_SIZE, _TEXT_SIZE = 14, 12, 10.5
_INK, _QUIET_INK, _MARK, _BEYOND = "#1f2430", "#6b7280", "#7fe7dc", "#eceef2"
_RANGE_DB = 70.0
_LEAST_PEAK_DB = -30.0  # a silent clip is drawn dark, not as its own rounding noise
_TICKS_KHZ = (0.25, 0.5, 1, 2, 4, 8, 16)
_WINDOW_SECONDS = 0.055
_NUM_BANDS = 96


def mel_figure(mel: ArrayLike, config: MelConfig, *, title: str = "", marks: Sequence[float] = ()) -> Figure:
    """Picture of one log-mel (M, F) in the scale of ``mel_spectrogram``, with ``marks`` in seconds."""
    return _draw([(title, _decibels(mel, config), marks)], config, "")


def spectrogram_figure(
    waveform: ArrayLike, sample_rate: int, *, title: str = "", marks: Sequence[float] = ()
) -> Figure:
    """Picture of one waveform (L,) in [-1, 1], with ``marks`` in seconds."""
    return takes_figure([(title, waveform, marks)], sample_rate)


def takes_figure(
    takes: Sequence[tuple[str, ArrayLike, Sequence[float]]], sample_rate: int, *, title: str = ""
) -> Figure:
    """Spectrograms of several waveforms as rows of one time axis and one colour scale.

    Args:
        takes: per row its title, the waveform (L,) in [-1, 1], and the seconds to mark.
        sample_rate: hertz, of all rows.
        title: above all rows.

    Raises:
        InputError: no rows, or a waveform that is not (L,) or is shorter than one window.
    """
    if not takes:
        raise InputError("There is no sound to draw. Give at least one waveform.")
    config = _analysis(sample_rate)
    return _draw([(name, _analyse(wave, config), marks) for name, wave, marks in takes], config, title)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write ``figure`` as a PNG that appears whole or not at all; returns ``path``.

    Raises:
        InputError: the name does not end in .png.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"Pictures are written as PNG, not {path.name!r}. End the name in .png.")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi="figure")
    return path


def _analysis(sample_rate: int) -> MelConfig:
    """Bands fine enough to look at; the models' own analysis is coarser in time."""
    n_fft = 2 ** round(math.log2(_WINDOW_SECONDS * sample_rate))
    return MelConfig(
        sample_rate, n_fft, n_fft // 8, num_mels=_NUM_BANDS, fmin=0, fmax=sample_rate / 2, log_base="10"
    )


def _analyse(waveform: ArrayLike, config: MelConfig) -> NDArray[np.float32]:
    samples = torch.tensor(np.asarray(waveform, dtype=np.float32))
    if samples.ndim != 1:
        raise InputError(f"A row is one waveform (L,), not {tuple(samples.shape)}. Give one channel.")
    return _decibels(mel_spectrogram(samples[None], config)[0].numpy(), config)


def _decibels(mel: ArrayLike, config: MelConfig) -> NDArray[np.float32]:
    levels = np.asarray(mel, dtype=np.float32)
    if levels.ndim != 2 or levels.shape[0] != config.num_mels or levels.shape[1] < 1:
        raise InputError(f"A mel to draw is ({config.num_mels}, F), not {levels.shape}.")
    return levels * np.float32(20 if config.log_base == "10" else 20 / math.log(10))


def _draw(
    rows: Sequence[tuple[str, NDArray[np.float32], Sequence[float]]], config: MelConfig, title: str
) -> Figure:
    height = _FRAME_HEIGHT + _ROW_HEIGHT * len(rows)
    figure = Figure(
        figsize=(_WIDTH, height), dpi=_DPI, layout=ConstrainedLayoutEngine(h_pad=0.09), facecolor="white"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    peak = max(_LEAST_PEAK_DB, *(float(levels.max()) for _, levels, _ in rows))
    seconds = [levels.shape[1] * config.hop_length / config.sample_rate for _, levels, _ in rows]
    image = None
    for axis, (name, levels, marks), length in zip(axes, rows, seconds, strict=True):
        image = _draw_levels(axis, levels - peak, length)
        _label_frequencies(axis, config)
        _draw_marks(axis, marks, length)
        axis.set_title(name, loc="left", fontsize=_ROW_TITLE_SIZE, color=_INK, pad=9)
    axes[-1].set_xlim(0, max(seconds))
    axes[-1].set_xlabel("time (s)", fontsize=_TEXT_SIZE, color=_QUIET_INK)
    assert image is not None
    bar = figure.colorbar(image, ax=list(axes), pad=0.012, aspect=12 * len(rows), fraction=0.03)
    bar.set_label("level below peak (dB)", fontsize=_TEXT_SIZE, color=_QUIET_INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=_TEXT_SIZE, labelcolor=_QUIET_INK, length=0)
    if title:
        figure.suptitle(title, x=0.008, ha="left", fontsize=_TITLE_SIZE, color=_INK, fontweight="bold")
    return figure


def _draw_levels(axis: Axes, levels: NDArray[np.float32], seconds: float) -> AxesImage:
    image = axis.imshow(
        levels,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, levels.shape[0]),
        cmap="magma",
        vmin=-_RANGE_DB,
        vmax=0,
        interpolation="antialiased",
    )
    axis.set_facecolor(_BEYOND)  # after the end of a shorter row
    axis.tick_params(labelsize=_TEXT_SIZE, labelcolor=_QUIET_INK, color=_QUIET_INK, length=3)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return image


def _label_frequencies(axis: Axes, config: MelConfig) -> None:
    centres = mel_frequencies(config)
    ticks = [tick for tick in _TICKS_KHZ if centres[0] <= 1000 * tick <= centres[-1]]
    positions = np.interp([1000 * tick for tick in ticks], centres, np.arange(len(centres)) + 0.5)
    axis.set_yticks(positions, [f"{tick:g}" for tick in ticks])
    axis.set_ylabel("frequency (kHz)", fontsize=_TEXT_SIZE, color=_QUIET_INK)


def _draw_marks(axis: Axes, marks: Sequence[float], seconds: float) -> None:
    """Dashed lines with a pointer above the picture; marks outside it are left out."""
    inside = [mark for mark in marks if 0 <= mark <= seconds]
    if not inside:
        return
    style: dict[str, Any] = {"color": _MARK, "linewidth": 1.1, "alpha": 0.75}
    for mark in inside:
        axis.axvline(mark, linestyle=(0, (4, 3)), **style)
    axis.plot(
        inside,
        [1.025] * len(inside),
        linestyle="none",
        marker="v",
        markersize=5,
        color=_QUIET_INK,
        markeredgewidth=0,
        transform=axis.get_xaxis_transform(),
        clip_on=False,
    )
