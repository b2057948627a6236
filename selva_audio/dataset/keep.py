"""What of a video goes into a data set beside the features: its sound and its picture."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib import image

from ..errors import MediaError, OutputError, os_error_sentence
from ..files import atomic_path, inside
from ..media.audio import read_audio, read_audio_track
from ..media.encode import write_video
from ..media.video import probe, stream_frames
from ..records import Audio
from .sources import Source
from .windows import Window

VIDEOS, FRAMES = "videos", "frames"
_MAX_FPS = 60.0
_FLAC_CHANNELS = 8


def read_sound(source: Source) -> Audio:
    """The sound of a whole video: of the file beside it, else its own track.

    Raises:
        MediaError: neither is there, or its samples are no numbers.
    """
    audio = read_audio(source.sound) if source.sound else read_audio_track(source.path)
    if audio is None:
        raise MediaError(
            f"{source.path} has no sound track, and no sound file of its name lies beside it. "
            "Give videos with sound."
        )
    if not np.isfinite(audio.waveform.numpy()).all():
        raise MediaError(f"The sound of {source.path} holds NaN or infinite samples. Export it again.")
    if audio.waveform.shape[1] > _FLAC_CHANNELS:
        return Audio(audio.waveform.mean(dim=1, keepdim=True), audio.sample_rate)
    return audio


def keep_video(path: Path, window: Window | None, folder: Path, name: str) -> Path:
    """The picture of a clip below ``folder``: a copy of the file, or a stretch coded anew without sound."""
    if window is None:
        target = inside(folder, f"{VIDEOS}/{name}{path.suffix.lower()}")
        with atomic_path(target) as temporary:
            shutil.copyfile(path, temporary)
        return target
    pictures, rate = _pictures(path, window)
    return write_video(pictures, rate, inside(folder, f"{VIDEOS}/{name}.mp4"))


def keep_frames(path: Path, window: Window | None, folder: Path, name: str) -> Path:
    """The pictures of a clip as ``00001.png``, ... in a folder of its own, which appears when it is whole.

    Raises:
        OutputError: the disk refuses them.
    """
    target = inside(folder, f"{FRAMES}/{name}")
    temporary = target.with_name(f".{name}.part")
    pictures, _ = _pictures(path, window)
    try:
        for old in (temporary, target):
            remove(old)
        temporary.mkdir(parents=True)
        for number, picture in enumerate(pictures, 1):
            image.imsave(temporary / f"{number:05d}.png", np.ascontiguousarray(picture))
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"The pictures of {name} cannot be written. {os_error_sentence(error)}") from error
    finally:
        remove(temporary)
    return target


def remove(path: Path) -> None:
    """Delete a file or a folder of a clip; none is fine too."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _pictures(path: Path, window: Window | None) -> tuple[Iterator[np.ndarray], float]:
    """Pictures of a stretch (None = all) at the video's own rate, up to 60 a second, and that rate."""
    rate = min(probe(path).average_rate, _MAX_FPS)
    start, duration = (window.start, window.duration) if window is not None else (0.0, 0.0)
    stream = stream_frames(path, {rate: None}, start=start, duration=duration)
    return (sample.frame for sample in stream), rate
