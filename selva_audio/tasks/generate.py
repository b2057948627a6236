"""The two halves of the main job: a video to features, features to sound.

``tasks.run`` is both with the files around them.
"""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from ..bundle import SelVAModel, load_model, load_model_under
from ..configs import SEGMENT_FRAMES, SYNC_RATE
from ..errors import InputError, MissingFileError, OutputError
from ..features import (
    FeatureCache,
    Pictures,
    VideoFeatures,
    encode_video,
    encoder_id,
    features_without_video,
    source_digest,
    source_name,
)
from ..files import safe_name
from ..media.loudness import normalize
from ..media.masks import Mask, load_mask, mask_from_array
from ..options import FeatureOptions, GenerateOptions
from ..progress import ProgressFn, ignore_progress, subtask
from ..records import Audio, Frames
from ..runtime import num_threads
from ..synthesis import MIN_DURATION, decode_latents, encode_prompts, sample_latents

__all__ = ["extract_features", "extract_numbered", "generate", "load_model", "load_model_under"]

MaskLike: TypeAlias = Mask | str | Path | np.ndarray | torch.Tensor

logger = logging.getLogger(__name__)


@torch.no_grad()
def extract_features(
    model: SelVAModel,
    video: str | Path | Frames | None,
    options: FeatureOptions | None = None,
    mask: MaskLike | None = None,
    *,
    on_progress: ProgressFn = ignore_progress,
) -> VideoFeatures:
    """Sync and CLIP features of a video for one prompt, from the cache where they are known.

    Args:
        model: bundle of ``load_model``.
        video: path of a video or image, or frames in memory; None makes features of no video
            (MMAudio variants; ``options.duration`` says how long).
        options: prompt, range, mask strength, cache.
        mask: 1 where the sounding source is; (H, W) or (T, H, W) of any size, or the path of a picture or
            video.
        on_progress: progress and cancel.

    Raises:
        MediaError: not a readable video.
        InputError: options or mask that do not fit the video or the variant.
    """
    options = options or FeatureOptions()
    if options.name:
        return extract_numbered(model, video, options, mask, on_progress=on_progress)[1]
    if video is None:
        if mask is not None:
            raise InputError("A mask was given, but there is no video to apply it to. Leave it out.")
        return features_without_video(model, options)
    return look_up(model, video, options, mask).features(model, on_progress=on_progress)


@dataclass(frozen=True, slots=True)
class Look:
    """One video with all that decides its features, before an encoder has seen it; see ``look_up``.

    Attributes:
        source: path, or frames in memory.
        options: prompt, range, mask strength, cache.
        mask: 1 where the sounding source is.
        cache: where features are remembered.
        key: the name of these ones there.
    """

    source: Path | Frames
    options: FeatureOptions
    mask: Mask | None
    cache: FeatureCache
    key: str

    @torch.no_grad()
    def features(
        self, model: SelVAModel, *, stream: Pictures | None = None, on_progress: ProgressFn = ignore_progress
    ) -> VideoFeatures:
        """From the cache, or encoded now; ``stream`` is of ``open_frames``, for when they are."""
        cached = self.cache.get(self.key)
        if cached is not None:
            # Neither is part of the key: they change no row.
            return replace(
                cached, negative_prompt=self.options.negative_prompt, source=source_name(self.source)
            )
        features = encode_video(
            model, self.source, self.options, self.mask, stream=stream, on_progress=on_progress
        )
        try:
            self.cache.put(self.key, features)
        except OutputError as error:
            logger.warning("The features were not kept for another time: %s", error)
        return features


def look_up(
    model: SelVAModel, video: str | Path | Frames, options: FeatureOptions, mask: MaskLike | None
) -> Look:
    """Read what decides the features of a video, and nothing of the model but the names of its weights.

    Raises:
        MissingFileError, InputError: a video or mask that is not there, or is something else.
        MediaError: the mask cannot be read.
    """
    source, mask = _source(video), as_mask(mask)
    config = model.config
    # Sums depend on device and thread count: features of another machine state would break "same recipe,
    # same sound". The encoders' sizes are there because two configurations can share weights.
    cache = FeatureCache(options.cache_dir)
    key = cache.key(
        source_digest(source),
        mask.digest() if mask is not None else "",
        options,
        encoder_id(model, options),
        {
            "variant": config.name,
            "encoders": repr((config.family, config.video_encoder, config.clip, config.t5)),
            "precision": model.policy.precision,
            "device": model.policy.device,
            "threads": num_threads(),
        },
    )
    return Look(source, options, mask, cache, key)


@torch.no_grad()
def extract_numbered(
    model: SelVAModel,
    video: str | Path | Frames | None,
    options: FeatureOptions,
    mask: MaskLike | None = None,
    *,
    on_progress: ProgressFn = ignore_progress,
) -> tuple[Path, VideoFeatures]:
    """Features into the next free ``name_001.npz``, ... of ``options.cache_dir``, past the cache.

    Raises:
        InputError: no video, or a name that cannot be a file name.
        MediaError: not a readable video.
    """
    if video is None:
        raise InputError(f"Features named {options.name!r} need a video.")
    safe_name(options.name)
    features = encode_video(model, _source(video), options, as_mask(mask), on_progress=on_progress)
    return FeatureCache(options.cache_dir).put_numbered(options.name, features), features


@torch.no_grad()
def generate(
    model: SelVAModel,
    features: VideoFeatures | None,
    options: GenerateOptions | None = None,
    *,
    noise: torch.Tensor | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> Audio:
    """Sound for features: one take per seed, cut to the exact duration, at the asked level.

    Args:
        model: bundle of ``load_model``, with whatever it samples with: adapters, textual inversion, steering.
        features: of a video; None makes sound from the prompt alone (MMAudio variants).
        options: prompt, seed, steps, guidance, takes, level.
        noise: (N, C) to start from in place of the seed's, as ``tasks.ditto`` finds it.
        on_progress: called after every solver step; raises to cancel.

    Returns:
        (takes, 1, L) at the variant's rate, L = round(duration * rate); ``notes`` tells what was unusual.

    Raises:
        InputError: options or features that do not fit the variant.
        GenerationError: the numbers are not finite.
    """
    options = options or GenerateOptions()
    if features is None:
        features = features_without_video(model, FeatureOptions(duration=options.duration))
    duration, notes = sound_duration(features, options)
    sampled = max(duration, MIN_DURATION)
    text = encode_prompts(
        model, options.prompt or features.prompt, options.negative_prompt or features.negative_prompt
    )
    latents = sample_latents(
        model,
        features,
        text,
        options,
        duration=sampled,
        noise=noise,
        on_progress=subtask(on_progress, 0, 0.85),
    )
    waveform = decode_latents(model, latents, duration=sampled, on_progress=subtask(on_progress, 0.85, 1))
    rate = model.config.sample_rate
    waveform = waveform[..., : round(duration * rate)]
    takes = []
    for index, take in enumerate(waveform):
        if options.normalize:
            take, note = normalize(
                take,
                rate,
                mode=options.loudness,
                target=options.target_lufs,
                ceiling=options.true_peak_ceiling,
            )
            if note:
                notes.append(f"Take {index + 1}: {note}" if options.takes > 1 else note)
        takes.append(take)
    for note in notes:
        logger.info(note)
    return Audio(torch.stack(takes), rate, notes=tuple(notes))


def _source(video: str | Path | Frames) -> Path | Frames:
    if isinstance(video, Frames):
        # Pictures with an alpha channel are used as if they were opaque.
        return Frames(video.pixels[..., :3], video.times)
    return existing_file(Path(video))


def as_mask(mask: MaskLike | None) -> Mask | None:
    """A mask from whatever users give: a path, an array, a ``Mask``."""
    if mask is None or isinstance(mask, Mask):
        return mask
    return load_mask(existing_file(Path(mask))) if isinstance(mask, (str, Path)) else mask_from_array(mask)


def existing_file(path: Path) -> Path:
    """``path`` itself, if it is a file that can be read.

    Raises:
        MissingFileError, InputError: there is none, or it is something else.
    """
    if not path.exists():
        raise MissingFileError(f"There is no file {path}. Check the path.")
    if not path.is_file() or not os.access(path, os.R_OK):
        raise InputError(f"{path} is not a file that can be read. Give the path of one video or picture.")
    return path


def sound_duration(features: VideoFeatures, options: GenerateOptions) -> tuple[float, list[str]]:
    """Seconds to make, and a note where that is not what was asked for."""
    wanted = options.duration or features.duration
    if not wanted:
        raise InputError("The features tell no duration. Set duration to the seconds of sound to make.")
    if not features.sync.shape[1]:
        return wanted, []
    # A file from elsewhere may claim any duration; the rows it holds end before this.
    covered = (features.sync.shape[1] + SEGMENT_FRAMES) / SYNC_RATE
    covered = min(features.duration or covered, covered)
    notes = []
    if wanted > covered:
        notes.append(
            f"The features cover {covered:.2f} s, so the sound is that long, not {wanted:g} s. "
            "Extract features of a longer stretch for more."
        )
    wanted = min(wanted, covered)
    if wanted < MIN_DURATION:
        notes.append(
            f"{wanted:.2f} s are under the {MIN_DURATION:g} s that a model makes at least: the last picture "
            "was held that long, and the sound cut to the clip."
        )
    return wanted, notes
