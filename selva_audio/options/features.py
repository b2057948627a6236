"""Settings of feature extraction: what of the video is looked at, and for which prompt."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ..configs import MAX_DURATION
from .base import Options

ClipConditioning = Literal["auto", "on", "off"]
CLIP_CONDITIONING_HELP = (
    "Feed CLIP features of the frames to the generator; auto follows how the variant was trained."
)


class FeatureOptions(Options):
    """What of the video is looked at, and for which prompt."""

    prompt: str = Field(default="", max_length=4000, description="Sentence that names the source to hear.")
    negative_prompt: str = Field(
        default="", max_length=4000, description="Sentence that names what not to hear."
    )
    fps: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="Frames per second to assume instead of the file's own timestamps; 0 = its own.",
    )
    start: float = Field(
        default=0.0, ge=0, le=MAX_DURATION, description="Seconds into the video where the sound begins."
    )
    duration: float = Field(
        default=0.0, ge=0, le=MAX_DURATION, description="Seconds of video to use; 0 = to its end."
    )
    cache_dir: Path | None = Field(
        default=None, description="Folder for feature files; default: the user cache folder."
    )
    name: str = Field(
        default="",
        max_length=120,
        description="Write name_001.npz, name_002.npz, ... in cache_dir (for data sets), past the cache.",
    )
    mask_strength: float = Field(
        default=1.0, ge=0, le=1, description="How strongly pixels outside the mask are replaced by mid-grey."
    )
    mask_clip: bool = Field(default=True, description="Apply the mask to the CLIP frames.")
    mask_sync: bool = Field(default=True, description="Apply the mask to the sync frames.")
    clip_conditioning: ClipConditioning = Field(default="auto", description=CLIP_CONDITIONING_HELP)
