"""What came out of a task, in one line for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..configs import SEGMENT_STEP, SYNC_RATE
from ..features import VideoFeatures
from ..media.loudness import peak_dbfs, rms_dbfs
from ..media.video import probe
from ..records import Audio, Frames

if TYPE_CHECKING:
    from .train import TrainingResult

_COMPARED = ("ltas_distance", "mel_gram_distance", "mel_l1", "onset_f1_50ms", "diversity")


def describe_video(video: Path | Frames, fps: float = 0.0) -> str:
    """Frames and rate: ``81 frames, 16 fps``; of a file as its headers have them."""
    if isinstance(video, Frames):
        count, rate = len(video.pixels), fps
    else:
        info = probe(video, fps=fps)
        count, rate = info.num_frames, info.average_rate
    return f"{count} frame{'s' if count != 1 else ''}, {rate:.5g} fps"


def describe_features(features: VideoFeatures) -> str:
    """Length and token counts: ``5.06 s -> 40 clip, 126 sync frames``."""
    clip = features.clip.shape[1]
    seen = f"{clip} clip" if clip else "no clip"
    sync = int(features.duration * SYNC_RATE) if features.sync.shape[1] else 0
    segments = features.sync.shape[1] // SEGMENT_STEP
    return f"{features.duration:.2f} s -> {seen}, {sync} sync frames in {segments} segments"


def describe_audio(audio: Audio) -> str:
    """Length, rate, takes and level: ``5.06 s at 16000 Hz, 1 take, -27.0 dBFS RMS, peak -12.1 dBFS``."""
    takes, channels = audio.waveform.shape[:2]
    sound = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
    level = f"{rms_dbfs(audio.waveform):.1f} dBFS RMS, peak {peak_dbfs(audio.waveform):.1f} dBFS"
    number = "1 take" if takes == 1 else f"{takes} takes"
    return f"{audio.duration:.2f} s at {audio.sample_rate} Hz, {sound}, {number}, {level}"


def describe_training(result: "TrainingResult") -> str:
    """What a training came to: ``500 steps, loss 0.612, validation 0.701 -> 0.633: adapter_final.pt``."""
    loss, checked = result.summary["final_loss"], result.summary["validation"]
    told = [f"{result.steps} steps", f"loss {loss:.4g}" if loss is not None else ""]
    if checked is not None:
        told.append(f"validation {checked['before']:.4g} -> {checked['after']:.4g}")
    return f"{', '.join(filter(None, told))}: {result.adapter_path.name}"


def describe_comparison(summary: Mapping[str, Any]) -> list[str]:
    """A line for each adapter of a comparison: ``trained: ltas_distance 3.1, mel_l1 0.42, copies 0``."""
    lines = []
    for adapter in summary["adapters"]:
        if adapter["status"] != "completed":
            lines.append(f"{adapter['id']}: {adapter['status']}")
            continue
        # Numbers of the whole set go before means over its clips; some are not there for one clip.
        whole = {
            key: found["value"] for key, found in adapter["set_metrics"].items() if isinstance(found, dict)
        }
        numbers = {key: (adapter["avg_metrics"] | whole).get(key) for key in _COMPARED}
        shown = [f"{key} {value:.3g}" for key, value in numbers.items() if value is not None]
        lines.append(f"{adapter['id']}: {', '.join(shown)}, copies {len(adapter['copies'])}")
    return lines
