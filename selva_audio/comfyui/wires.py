"""What travels on ComfyUI's wires, to and from our records.

IMAGE is (T, H, W, C) float in 0..1, MASK (T, H, W) or (H, W), AUDIO a mapping that may do its work when it is
read, VIDEO an object over a file or over frames.
"""

import io as streams
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError, MediaError, shown
from ..records import Audio, Frames
from .folders import temporary_file

_SUFFIXES = {
    "mp4": ".mp4",
    "mov": ".mp4",
    "matroska": ".mkv",
    "webm": ".webm",
    "avi": ".avi",
    "mpegts": ".ts",
}
_SAME_SECONDS = 0.01
_USUAL_FPS = 30.0  # of the widget, which says nothing as long as it stands there


@dataclass(frozen=True, slots=True)
class Clip:
    """A picture that came in over a wire.

    Attributes:
        source: a file, or frames.
        fps: of frames; 0 for a file, which has its own clock.
        text: what came in and where its rate is from, for people.
        original: sound that came with frames.
    """

    source: Path | Frames
    fps: float
    text: str
    original: Audio | None = None


def read_clip(video: Any, fps: float = 0.0, video_info: Any = None) -> Clip:
    """A VIDEO or an IMAGE batch.

    Args:
        video: the value on the wire.
        fps: of the widget; counts for an IMAGE without ``video_info``.
        video_info: VHS_VIDEOINFO; its loaded_ fields tell of the frames on the wire.

    Raises:
        InputError: not a picture, no frames, or a rate that is not one.
    """
    from ..tasks.describe import describe_video

    widget = _checked_rate(fps, "fps") if fps else 0.0
    unused = "; the fps widget does not count" if widget not in (0.0, _USUAL_FPS) else ""
    if isinstance(video, torch.Tensor):
        rate, origin = widget, "widget"
        if isinstance(video_info, Mapping) and "loaded_fps" in video_info:
            rate, origin = _checked_rate(video_info["loaded_fps"], "video_info"), f"video_info{unused}"
        frames = _frames(video, _checked_rate(rate, "fps"))
        return Clip(frames, rate, f"{describe_video(frames, rate)} ({origin})")
    if not hasattr(video, "get_components"):
        raise InputError(f"video is {shown(video)}, not pictures. Connect an IMAGE batch or a VIDEO.")
    path = _file(video)
    if path is not None:
        return Clip(path, 0.0, f"{describe_video(path)} (VIDEO{unused})")
    parts = video.get_components()
    rate = _checked_rate(float(parts.frame_rate), "the VIDEO")
    frames = _frames(parts.images, rate)
    original = read_audio(parts.audio) if parts.audio is not None else None
    return Clip(frames, rate, f"{describe_video(frames, rate)} (VIDEO{unused})", original)


def read_mask(mask: Any) -> tuple[np.ndarray | None, str]:
    """A MASK of any size and count, (T, H, W) in 0..1, and a note; one that is all zero counts as none."""
    if mask is None:
        return None, ""
    if not isinstance(mask, torch.Tensor) or mask.ndim not in (2, 3, 4) or mask.numel() == 0:
        raise InputError(f"mask is {shown(mask)}, not (T, H, W). Connect a MASK.")
    values = mask.reshape(-1, *mask.shape[-2:]).detach().cpu().float()
    values = values.nan_to_num(0.0).clamp(0, 1)
    if not bool(values.any()):
        return None, "The mask is zero everywhere, which other nodes send for none, so it was not applied."
    return values.numpy(), ""


def read_audio(audio: Any) -> Audio:
    """An AUDIO, (B, C, L) float32 on the CPU.

    Raises:
        InputError: nothing on the wire, or no samples.
        MediaError: a lazy AUDIO that cannot be read.
    """
    if audio is None:
        raise InputError("There is no sound on the audio input. Connect an AUDIO; a silent video has none.")
    try:
        waveform, rate = audio["waveform"], int(audio["sample_rate"])
    except (TypeError, KeyError) as error:
        raise InputError(
            f"audio is {shown(audio)}, without waveform and sample_rate. Connect an AUDIO."
        ) from error
    except (RuntimeError, ValueError) as error:  # a loader that reads its file only now
        raise MediaError(f"The sound on the audio input cannot be read: {error}") from error
    while waveform.ndim < 3:
        waveform = waveform[None]
    if waveform.numel() == 0:
        raise InputError("The sound on the audio input is empty. Connect another AUDIO.")
    return Audio(waveform.detach().cpu().float(), rate)


def audio_wire(audio: Audio) -> dict[str, Any]:
    """An AUDIO for ComfyUI."""
    return {"waveform": audio.waveform.contiguous(), "sample_rate": audio.sample_rate}


def image_wire(*pictures: np.ndarray) -> torch.Tensor:
    """An IMAGE of pictures (H, W, 3) uint8 of one size."""
    return torch.from_numpy(np.stack(pictures)).float() / 255


def _file(video: Any) -> Path | None:
    """The file behind a VIDEO; None for frames, and for a part of a file, which only its frames tell."""
    if type(video).__name__ != "VideoFromFile":
        return None
    source = video.get_stream_source()
    if isinstance(source, streams.BytesIO):
        kind = video.get_container_format().split(",")[0]
        path = temporary_file(_SUFFIXES.get(kind, ".mkv"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.getbuffer())
    else:
        path = Path(source)
    whole = type(video)(str(path))
    return path if abs(whole.get_duration() - video.get_duration()) < _SAME_SECONDS else None


def _frames(images: torch.Tensor, fps: float) -> Frames:
    if images.ndim == 3:
        images = images[None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or 0 in images.shape:
        raise InputError(
            f"The pictures are {tuple(images.shape)}, not (frames, height, width, 3). Connect an IMAGE."
        )
    channels = max(images.shape[-1], 3)
    pixels = np.empty((*images.shape[:3], channels), dtype=np.uint8)
    for place, image in zip(pixels, images, strict=True):
        place[:] = image.detach().cpu().float().nan_to_num(0.0).clamp(0, 1).mul(255).round().numpy()
    return Frames(pixels, np.arange(len(pixels)) / fps)


def _checked_rate(fps: Any, origin: str) -> float:
    if not isinstance(fps, (int, float)) or not math.isfinite(fps) or not 0 < fps <= 1000:
        raise InputError(f"{origin} gives {shown(fps)} frames per second. Give a rate between 0 and 1000.")
    return float(fps)
