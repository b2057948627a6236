"""What can be done to a set of sounds before it is trained on: the audio tools on every sound, and more.

Every step keeps the names, and whose variant a sound is, so that features still find their sounds at the end.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..dataset.augment import augment_sounds
from ..dataset.inspection import Inspection, inspect_sounds, inspection_report
from ..dataset.save import SavedSounds, save_sounds
from ..dataset.sounds import SoundClip, SoundSet, each_sound, free_name, load_sounds, take_sound
from ..options import CompressOptions, MatchOptions, NormalizeOptions, ResampleOptions, SmoothOptions
from ..progress import ProgressFn, ignore_progress
from ..records import Audio
from .audio import Processed, compress, match_spectrum, normalize_output, resample_audio, smooth_hf

__all__ = [
    "Inspection",
    "SavedSounds",
    "SoundClip",
    "SoundSet",
    "augment_sounds",
    "compress_sounds",
    "free_name",
    "inspect_sounds",
    "inspection_report",
    "load_sounds",
    "match_sounds",
    "normalize_sounds",
    "resample_sounds",
    "save_sounds",
    "smooth_sounds",
    "take_sound",
]

# A recording for training, in the middle of what is usual; an output is -14 LUFS or louder.
_TRAINING_LEVEL = NormalizeOptions(target_lufs=-23.0)


def resample_sounds(
    sounds: SoundSet, options: ResampleOptions | None = None, *, on_progress: ProgressFn = ignore_progress
) -> SoundSet:
    """Bring every sound to one sample rate."""
    return _with_tool(sounds, resample_audio, options or ResampleOptions(), on_progress)


def normalize_sounds(
    sounds: SoundSet,
    options: NormalizeOptions = _TRAINING_LEVEL,
    *,
    on_progress: ProgressFn = ignore_progress,
) -> SoundSet:
    """Bring every sound to a level, -23 LUFS if nothing else is asked for, under a true-peak ceiling."""
    return _with_tool(sounds, normalize_output, options, on_progress)


def compress_sounds(
    sounds: SoundSet, options: CompressOptions | None = None, *, on_progress: ProgressFn = ignore_progress
) -> SoundSet:
    """Compress every sound and mix it with itself as it was."""
    return _with_tool(sounds, compress, options or CompressOptions(), on_progress)


def match_sounds(
    sounds: SoundSet, options: MatchOptions | None = None, *, on_progress: ProgressFn = ignore_progress
) -> SoundSet:
    """Bring the spectrum of every sound towards that of a VAE's training sounds."""
    return _with_tool(sounds, match_spectrum, options or MatchOptions(), on_progress)


def smooth_sounds(
    sounds: SoundSet, options: SmoothOptions | None = None, *, on_progress: ProgressFn = ignore_progress
) -> SoundSet:
    """Turn the high frequencies of every sound down."""
    return _with_tool(sounds, smooth_hf, options or SmoothOptions(), on_progress)


def _with_tool(
    sounds: SoundSet, tool: Callable[..., Processed[Any]], options: Any, on_progress: ProgressFn
) -> SoundSet:
    return each_sound(sounds, partial(_run, tool, options), on_progress=on_progress)


def _run(
    tool: Callable[..., Processed[Any]], options: Any, audio: Audio, on_progress: ProgressFn
) -> tuple[Audio, Sequence[str]]:
    done = tool(audio, options, on_progress=on_progress)
    return done.audio, [report.sentence for report in done.reports] + list(done.audio.notes)
