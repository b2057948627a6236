"""Pictures of sound as arrays, for front ends that show pictures instead of writing files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..evaluation.adapter_figure import comparison_figure as adapters_figure
from ..media.audio import resample
from ..media.masks import apply_mask
from ..media.transforms import to_clip
from ..media.video import FrameStream, stream_arrays, stream_frames
from ..plots import takes_figure
from ..records import Audio, Frames
from ..training.curves import loss_figure, smoothed
from ..training.sweep_figure import comparison_figure
from .generate import MaskLike, as_mask

_LEAST_SECONDS = 0.1  # the analysis needs one window
_PREVIEW_SIZE = 512, 192
_PREVIEW_DECADES = 3.5


def spectrogram_picture(audio: Audio, *, title: str = "") -> NDArray[np.uint8]:
    """Spectrograms of all takes, one row each: (H, W, 3). Channels are averaged."""
    rate = audio.sample_rate
    waves = _waves(audio)
    names = [f"take {index + 1}" if len(waves) > 1 else "" for index in range(len(waves))]
    return figure_picture(
        takes_figure([(name, wave, ()) for name, wave in zip(names, waves, strict=True)], rate, title=title)
    )


def comparison_picture(before: Audio, after: Audio) -> NDArray[np.uint8]:
    """Spectrograms before and after, two rows per take: (H, W, 3), at the rate of ``after``."""
    rate = after.sample_rate
    original = Audio(resample(before.waveform, before.sample_rate, rate), rate)
    rows = []
    for index, (old, new) in enumerate(zip(_waves(original), _waves(after), strict=True)):
        take = f"take {index + 1}, " if len(after.waveform) > 1 else ""
        rows += [(f"{take}before", old, ()), (f"{take}after", new, ())]
    return figure_picture(takes_figure(rows, rate))


def masked_picture(
    video: Path | Frames, mask: MaskLike, strength: float, *, fps: float = 0.0, start: float = 0.0
) -> NDArray[np.uint8]:
    """The first frame as the encoders see it through the mask: (H, W, 3)."""
    known = as_mask(mask)
    assert known is not None
    read: Callable[..., FrameStream] = stream_arrays if isinstance(video, Frames) else stream_frames
    stream = read(video, {1.0: None}, start=start, fps=fps)
    sample = next(stream)
    stream.close()
    values = known.at(
        [sample.time],
        sources=[sample.source],
        num_frames=stream.info.num_frames,
        duration=stream.info.duration,
    )
    seen = apply_mask(to_clip(sample.frame[None, ..., :3]), values, strength)[0]
    pixels: NDArray[np.uint8] = (seen * 255).round().byte().permute(1, 2, 0).numpy()
    return pixels


def losses_picture(losses: Mapping[str, Sequence[float]]) -> NDArray[np.uint8]:
    """Losses of trainings that run, by name and step, smoothed and over each other: (H, W, 3)."""
    records = [
        {
            "id": name,
            "status": "done",
            "curve": {"steps": list(range(1, len(each) + 1)), "loss": smoothed(each).tolist()},
        }
        for name, each in losses.items()
    ]
    return curves_picture({"experiments": records})


def training_picture(
    losses: Sequence[float], validations: Sequence[Mapping[str, float]]
) -> NDArray[np.uint8]:
    """Smoothed losses of one training that has ended, with those of its validations: (H, W, 3)."""
    return figure_picture(loss_figure(list(smoothed(losses)), validations))


def curves_picture(summary: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Losses of a sweep, from its summary: (H, W, 3); an empty picture where there are none."""
    return figure_picture(comparison_figure(summary) or Figure())


def evaluation_picture(summary: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Numbers of a comparison of adapters, from its summary: (H, W, 3); empty where there are none."""
    return figure_picture(adapters_figure(summary) or Figure())


def figure_picture(figure: Figure) -> NDArray[np.uint8]:
    """A drawn figure as pixels (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return pixels[..., :3].copy()


def mel_picture(mel: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A log mel (M, F) as pixels (H, W, 3), quickly and without axes: for previews while a sound is made."""
    width, height = _PREVIEW_SIZE
    rows = np.linspace(mel.shape[0] - 1, 0, height).round().astype(int)
    columns = np.linspace(0, mel.shape[1] - 1, width).round().astype(int)
    levels = np.nan_to_num(mel)[np.ix_(rows, columns)]
    shade = np.clip((levels - levels.max()) / _PREVIEW_DECADES + 1, 0, 1)
    pixels: NDArray[np.uint8] = (colormaps["magma"](shade)[..., :3] * 255).astype(np.uint8)
    return pixels


def _waves(audio: Audio) -> NDArray[np.float32]:
    """(B, L) of averaged channels, long enough for one analysis window."""
    short = max(round(_LEAST_SECONDS * audio.sample_rate) - audio.waveform.shape[-1], 0)
    return np.pad(audio.waveform.mean(1).numpy(), ((0, 0), (0, short)))
