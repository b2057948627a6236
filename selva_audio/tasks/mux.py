"""A sound joined with a picture: a file's pictures are copied, frames in memory are encoded."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..media.encode import write_video
from ..media.mux import VIDEO_SUFFIXES, check_picture_fits, mux
from ..options import OutputOptions
from ..progress import Progress, ProgressFn, ignore_progress
from ..records import Audio, Frames


def join_sound(
    video: Path | Frames,
    audio: Audio,
    output: Path,
    options: OutputOptions | None = None,
    *,
    take: int = 0,
    fps: float = 0.0,
    original: Audio | None = None,
    start: float = 0.0,
    comment: str = "",
    on_progress: ProgressFn = ignore_progress,
) -> tuple[str, ...]:
    """Write ``output`` with the picture of ``video`` and one take of ``audio``; returns notes to show.

    Args:
        video: a file, whose pictures are copied bit for bit, or frames, which are encoded; odd sizes get one
            more row or column.
        audio: cut or filled with silence to the length of the picture.
        output: ends in .mp4, .mov, .mkv or .webm.
        options: what happens to the original sound, and coding.
        take: number of the take, from 0.
        fps: frames per second, for frames.
        original: sound that belongs to frames; a file brings its own.
        start: seconds into the video where the sound begins.
        comment: text kept in the file.
        on_progress: progress and cancel.

    Raises:
        InputError: a take or a frame rate that there is not, or an ending that does not fit the picture.
    """
    options = options or OutputOptions()
    takes = len(audio.waveform)
    if not 0 <= take < takes:
        raise InputError(f"Take {take + 1} was asked for, but the sound has {takes}. Give 1 to {takes}.")
    single = Audio(audio.waveform[take : take + 1], audio.sample_rate)
    tags = {"comment": comment} if comment else None
    if isinstance(video, Path):
        return mux(video, single, output, options, audio_start=start, tags=tags, on_progress=on_progress)
    if not 0 < fps <= 1000:
        raise InputError(f"Frames need a rate between 0 and 1000 frames per second, not {fps:g}.")
    pictures = _Reported(video.pixels[..., :3], on_progress)
    with tempfile.TemporaryDirectory() as folder:
        is_webm = output.suffix.lower() == ".webm"
        place = Path(folder) / ("picture.webm" if is_webm else "picture.mov")
        coding = OutputOptions(codec="aac" if is_webm else "lossless")
        silent = write_video(pictures, fps, place, original, options=coding)
        return mux(silent, single, output, options, audio_start=start, tags=tags, on_progress=on_progress)


def fitting_suffix(video: Path | Frames, wanted: str = "auto") -> str:
    """Ending of a file that holds the picture of ``video`` as it is: its own where possible, else .mp4, .mkv.

    Raises:
        InputError: the wanted ending cannot hold the picture, or none can.
    """
    if wanted != "auto":
        if isinstance(video, Path):
            check_picture_fits(video, Path(f"x.{wanted}"))
        return f".{wanted}"
    if isinstance(video, Frames):
        return ".mp4"
    own = [video.suffix.lower()] if video.suffix.lower() in VIDEO_SUFFIXES else []
    for suffix in (*own, ".mp4"):
        try:
            check_picture_fits(video, Path(f"x{suffix}"))
            return suffix
        except InputError:
            continue
    check_picture_fits(video, Path("x.mkv"))
    return ".mkv"


class _Reported:
    """Pictures that report how many of them have been taken.

    Args:
        pixels: (T, H, W, 3) uint8.
        on_progress: progress and cancel.
    """

    def __init__(self, pixels: np.ndarray, on_progress: ProgressFn) -> None:
        self._pixels = pixels
        self._on_progress = on_progress

    def __len__(self) -> int:
        return len(self._pixels)

    def __iter__(self) -> Iterator[np.ndarray]:
        for index, picture in enumerate(self._pixels):
            self._on_progress(Progress("encoding video", index, len(self._pixels)))
            yield picture
