"""Text-selective video-to-audio: a video and a sentence in, the sound of that source out, in sync.

The public names are imported at first use, so that ``import selva_audio`` loads neither torch nor
transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundle import SelVAModel, load_model
    from .configs import VARIANTS, ModelConfig
    from .errors import SelVAError
    from .features import VideoFeatures, load_features, save_features
    from .media.audio import read_audio, write_audio
    from .media.masks import Mask, load_mask, mask_from_array
    from .options import FeatureOptions, GenerateOptions, OutputOptions
    from .progress import Cancelled, Progress
    from .records import Audio, Frames, RunResult
    from .tasks.generate import extract_features, generate
    from .tasks.run import generate_for_video, run_video

__version__ = "0.1.0"

_HOMES = {
    "Audio": "records",
    "Cancelled": "progress",
    "FeatureOptions": "options",
    "Frames": "records",
    "GenerateOptions": "options",
    "ModelConfig": "configs",
    "OutputOptions": "options",
    "Progress": "progress",
    "RunResult": "records",
    "SelVAError": "errors",
    "SelVAModel": "bundle",
    "VARIANTS": "configs",
    "VideoFeatures": "features",
    "extract_features": "tasks.generate",
    "generate": "tasks.generate",
    "generate_for_video": "tasks.run",
    "load_features": "features",
    "load_model": "bundle",
    "save_features": "features",
    "Mask": "media.masks",
    "load_mask": "media.masks",
    "mask_from_array": "media.masks",
    "read_audio": "media.audio",
    "write_audio": "media.audio",
    "run_video": "tasks.run",
}

__all__ = [
    "VARIANTS",
    "Audio",
    "Cancelled",
    "FeatureOptions",
    "Frames",
    "GenerateOptions",
    "Mask",
    "ModelConfig",
    "OutputOptions",
    "Progress",
    "RunResult",
    "SelVAError",
    "SelVAModel",
    "VideoFeatures",
    "extract_features",
    "generate",
    "generate_for_video",
    "load_features",
    "load_mask",
    "load_model",
    "mask_from_array",
    "read_audio",
    "run_video",
    "save_features",
    "write_audio",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
