"""The main job in one call for front ends that hold the results: sound, and the video with it."""

from dataclasses import dataclass
from pathlib import Path

from ..bundle import SelVAModel
from ..features import VideoFeatures
from ..options import FeatureOptions, GenerateOptions, OutputOptions
from ..progress import ProgressFn, ignore_progress, subtask
from ..records import Audio, Frames
from .generate import MaskLike, extract_features, generate
from .ignored import ignored_settings
from .mux import join_sound
from .recipe import build_recipe, short_recipe


@dataclass(frozen=True, slots=True)
class Foley:
    """What one call made.

    Attributes:
        audio: all takes.
        features: of the video.
        video: the file with the first take.
        notes: sentences the user should see.
    """

    audio: Audio
    features: VideoFeatures
    video: Path
    notes: tuple[str, ...]


def foley(
    model: SelVAModel,
    video: Path | Frames,
    output: Path,
    feature_options: FeatureOptions,
    options: GenerateOptions,
    output_options: OutputOptions,
    *,
    mask: MaskLike | None = None,
    original: Audio | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> Foley:
    """Features, sound, and ``output`` with the first take.

    Args:
        model: bundle of ``load_model``.
        video: file, or frames at ``feature_options.fps``.
        output: ends in .mp4, .mov, .mkv or .webm.
        feature_options: prompt, range, mask strength, cache.
        options: seed, steps, guidance, takes, level.
        output_options: what happens to the original sound, and coding.
        mask: 1 where the sounding source is.
        original: sound that belongs to frames.
        on_progress: one bar over all stages.

    Raises:
        SelVAError: any of its kinds; nothing is left half-written.
    """
    features = extract_features(
        model, video, feature_options, mask, on_progress=subtask(on_progress, 0, 0.35)
    )
    audio = generate(model, features, options, on_progress=subtask(on_progress, 0.35, 0.95))
    recipe = build_recipe(
        model, source=None, mask=None, features=feature_options, options=options, output=output_options
    )
    notes = ignored_settings(
        feature_options, options, output_options, has_mask=mask is not None, writes_video=True
    )
    notes += join_sound(
        video,
        audio,
        output,
        output_options,
        fps=feature_options.fps,
        original=original,
        start=feature_options.start,
        comment=short_recipe(recipe, 0),
        on_progress=subtask(on_progress, 0.95, 1),
    )
    return Foley(audio, features, output, (*audio.notes, *notes))
