"""What came out of a task, in one line for people."""

from pathlib import Path

from ..configs import SEGMENT_STEP, SYNC_RATE
from ..features import VideoFeatures
from ..media.loudness import peak_dbfs, rms_dbfs
from ..media.video import probe
from ..records import Audio, Frames


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
