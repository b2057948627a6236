"""The main job: a video and a sentence in, its sound out.

``extract_features`` and ``generate`` are its two halves; ``run_video`` is both with the files around
them and a full account of the run, ``generate_for_video`` the same in one line.
"""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from ..bundle import SelVAModel, load_model
from ..configs import SEGMENT_FRAMES, SYNC_RATE
from ..errors import InputError, MissingFileError, OutputError
from ..features import (
    FeatureCache,
    VideoFeatures,
    encode_video,
    encoder_id,
    features_without_video,
    load_features,
    source_digest,
    source_name,
)
from ..files import file_digest, safe_name
from ..media.audio import AUDIO_SUFFIXES, write_audio
from ..media.loudness import normalize
from ..media.masks import Mask, load_mask, mask_from_array
from ..media.mux import VIDEO_SUFFIXES, check_picture_fits, mux
from ..media.video import IMAGE_SUFFIXES
from ..options import FeatureOptions, GenerateOptions, OutputOptions
from ..progress import ProgressFn, ignore_progress, subtask
from ..records import Audio, Frames, RunResult
from ..runtime import num_threads
from ..synthesis import MIN_DURATION, decode_latents, encode_prompts, sample_latents
from .ignored import ignored_settings
from .recipe import build_recipe, recorded, same_run, short_recipe

__all__ = ["extract_features", "generate", "generate_for_video", "load_model", "run_video"]

FEATURES_SUFFIX = ".npz"
MaskLike: TypeAlias = Mask | str | Path | np.ndarray | torch.Tensor

logger = logging.getLogger(__name__)

PLACEHOLDER_WARNING = (
    "the embedded demo model is an untrained placeholder: every stage of the real path runs, but the "
    "sound is shaped noise and follows neither picture nor prompt."
)


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
    source, mask = _source(video), _mask(mask)
    cache = FeatureCache(options.cache_dir)
    config = model.config
    # Sums depend on device and thread count: features of another machine state would break "same recipe,
    # same sound". The encoders' sizes are there because two configurations can share weights.
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
    cached = cache.get(key)
    if cached is not None:
        # Neither is part of the key: they change no row.
        return replace(cached, negative_prompt=options.negative_prompt, source=source_name(source))
    features = encode_video(model, source, options, mask, on_progress=on_progress)
    try:
        cache.put(key, features)
    except OutputError as error:
        logger.warning("The features were not kept for another time: %s", error)
    return features


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
    features = encode_video(model, _source(video), options, _mask(mask), on_progress=on_progress)
    return FeatureCache(options.cache_dir).put_numbered(options.name, features), features


@torch.no_grad()
def generate(
    model: SelVAModel,
    features: VideoFeatures | None,
    options: GenerateOptions | None = None,
    *,
    on_progress: ProgressFn = ignore_progress,
) -> Audio:
    """Sound for features: one take per seed, cut to the exact duration, at the asked level.

    Args:
        model: bundle of ``load_model``.
        features: of a video; None makes sound from the prompt alone (MMAudio variants).
        options: prompt, seed, steps, guidance, takes, level.
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
    duration, notes = _duration(features, options)
    if model.placeholder:
        notes.append(f"NOTE: {PLACEHOLDER_WARNING}")
    sampled = max(duration, MIN_DURATION)
    text = encode_prompts(
        model, options.prompt or features.prompt, options.negative_prompt or features.negative_prompt
    )
    latents = sample_latents(
        model, features, text, options, duration=sampled, on_progress=subtask(on_progress, 0, 0.85)
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


def generate_for_video(
    model: SelVAModel,
    video: str | Path,
    output: str | Path,
    feature_options: FeatureOptions | None = None,
    options: GenerateOptions | None = None,
    *,
    output_options: OutputOptions | None = None,
    mask: MaskLike | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> Path:
    """The whole main job; returns the first file written. See ``run_video``."""
    result = run_video(
        model,
        video,
        output,
        feature_options,
        options,
        output_options=output_options,
        mask=mask,
        on_progress=on_progress,
    )
    return result.outputs[0]


def run_video(
    model: SelVAModel,
    video: str | Path | None,
    output: str | Path,
    feature_options: FeatureOptions | None = None,
    options: GenerateOptions | None = None,
    *,
    output_options: OutputOptions | None = None,
    mask: MaskLike | None = None,
    skip_done: bool = False,
    on_progress: ProgressFn = ignore_progress,
) -> RunResult:
    """Generate the sound of one video and write it, with its recipe beside it.

    Args:
        model: bundle of ``load_model``.
        video: path of a video, an image or a feature file (.npz); None for sound from the prompt alone.
        output: .wav or .flac for the sound, .mp4, .mov, .mkv or .webm for the video with it. Several takes
            become ``name_01``, ``name_02``, ...
        feature_options: prompt, range, mask strength, cache.
        options: seed, steps, guidance, takes, level.
        output_options: what happens to the original sound, and coding.
        mask: 1 where the sounding source is; see ``extract_features``.
        skip_done: write nothing where the output already has this very recipe.
        on_progress: one bar over all stages.

    Raises:
        SelVAError: any of its kinds; nothing is left half-written.
    """
    feature_options = feature_options or FeatureOptions()
    options = options or GenerateOptions()
    output_options = output_options or OutputOptions()
    output = Path(output)
    paths = take_paths(output, options.takes)
    source = _existing(Path(video)) if video is not None else None
    mask = _existing(Path(mask)) if isinstance(mask, (str, Path)) else _mask(mask)
    for path in paths:
        check_output(path, source, mask if isinstance(mask, Path) else None)
    recipe = build_recipe(
        model,
        source=_account(source),
        mask=_account(mask),
        features=feature_options,
        options=options,
        output=output_options,
    )
    if skip_done and all(same_run(path, recipe) for path in paths):
        return RunResult(tuple(paths), recipe, notes=("already done",))

    started = time.perf_counter()
    if source is not None and source.suffix.lower() == FEATURES_SUFFIX:
        features, options = _stored(source, feature_options, options)
    else:
        features = extract_features(
            model, source, feature_options, mask, on_progress=subtask(on_progress, 0, 0.35)
        )
    extracted = time.perf_counter()
    audio = generate(model, features, options, on_progress=subtask(on_progress, 0.35, 0.95))
    generated = time.perf_counter()
    recipe |= {"duration": audio.duration}
    writes_video = output.suffix.lower() in VIDEO_SUFFIXES
    notes = ignored_settings(
        feature_options, options, output_options, has_mask=mask is not None, writes_video=writes_video
    )
    if not (options.prompt or features.prompt):
        notes.append("No prompt was given, so no source was named: the sound is of whatever is likely.")
    notes += [*_shortened(feature_options, features), *audio.notes]
    for take, path in enumerate(paths):
        on_take = subtask(on_progress, 0.95 + 0.05 * take / len(paths), 0.95 + 0.05 * (take + 1) / len(paths))
        single = Audio(audio.waveform[take : take + 1], audio.sample_rate)
        tags = {"comment": short_recipe(recipe, take)}
        with recorded(path, recipe | {"take": take}):
            if not writes_video:
                write_audio(path, single, subtype=output_options.sample_format, tags=tags)
                continue
            assert source is not None
            muxed = mux(
                source,
                single,
                path,
                output_options,
                audio_start=feature_options.start,
                tags=tags,
                on_progress=on_take,
            )
            notes += [note for note in muxed if note not in notes]
    seconds = {
        "features": extracted - started,
        "generate": generated - extracted,
        "write": time.perf_counter() - generated,
    }
    return RunResult(tuple(paths), recipe, seconds, tuple(notes))


def _stored(
    path: Path, wishes: FeatureOptions, options: GenerateOptions
) -> tuple[VideoFeatures, GenerateOptions]:
    """Features of a file, with the prompts and the duration asked for now in place of its own."""
    features = load_features(path)
    features = replace(
        features,
        prompt=wishes.prompt or features.prompt,
        negative_prompt=wishes.negative_prompt or features.negative_prompt,
    )
    return features, options.model_copy(update={"duration": options.duration or wishes.duration})


def _source(video: str | Path | Frames) -> Path | Frames:
    if isinstance(video, Frames):
        # Pictures with an alpha channel are used as if they were opaque.
        return Frames(video.pixels[..., :3], video.times)
    return _existing(Path(video))


def _mask(mask: MaskLike | None) -> Mask | None:
    if mask is None or isinstance(mask, Mask):
        return mask
    return load_mask(_existing(Path(mask))) if isinstance(mask, (str, Path)) else mask_from_array(mask)


def take_paths(output: Path, takes: int) -> list[Path]:
    """Files of a run: ``output`` itself, or ``name_01``, ``name_02``, ... for several takes."""
    if takes == 1:
        return [output]
    return [output.with_stem(f"{output.stem}_{take + 1:02d}") for take in range(takes)]


def check_output(output: Path, source: Path | None, mask: Path | None = None) -> None:
    """Refuse, before any work, an output that cannot or must not be written.

    Raises:
        InputError: an unknown ending, a picture that is not there or that the container cannot hold, or
            the output is an input.
        MediaError: the video whose picture is to be kept cannot be read.
        OutputError: its folder cannot be made.
    """
    suffix = output.suffix.lower()
    if suffix not in AUDIO_SUFFIXES | VIDEO_SUFFIXES:
        raise InputError(
            f"The output {output.name!r} has the ending {suffix or 'none'!r}. Use .wav or .flac for the "
            "sound alone, or .mp4, .mov, .mkv or .webm for the video with it."
        )
    is_still = source is None or source.suffix.lower() in IMAGE_SUFFIXES | {FEATURES_SUFFIX}
    if suffix in VIDEO_SUFFIXES and is_still:
        raise InputError(f"There is no video to put into {output.name}. Write .wav or .flac instead.")
    if output.is_dir():
        raise OutputError(f"{output} is a folder. Give the path of a file to write.")
    for given in (source, mask):
        if given is not None and output.exists() and output.samefile(given):
            raise InputError(f"{output} is an input itself. Choose another output; inputs are never changed.")
    parent = next(folder for folder in output.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise OutputError(
            f"{output} cannot be written, because {parent} is a file. Choose an output below a folder."
        )
    if suffix in VIDEO_SUFFIXES:
        assert source is not None
        check_picture_fits(source, output)
    if not os.access(parent, os.W_OK):
        raise OutputError(
            f"{output} cannot be written, because this user may not write into {parent}. "
            "Choose another folder."
        )


def _existing(path: Path) -> Path:
    if not path.exists():
        raise MissingFileError(f"There is no file {path}. Check the path.")
    if not path.is_file() or not os.access(path, os.R_OK):
        raise InputError(f"{path} is not a file that can be read. Give the path of one video or picture.")
    return path


def _duration(features: VideoFeatures, options: GenerateOptions) -> tuple[float, list[str]]:
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


def _shortened(options: FeatureOptions, features: VideoFeatures) -> list[str]:
    if options.duration <= features.duration + 1e-3:
        return []
    return [
        f"The video ends {features.duration:.2f} s after the start, so the sound is that long, "
        f"not {options.duration:g} s."
    ]


def _account(item: Path | Mask | None) -> Mapping[str, Any] | None:
    """How a recipe names an input: where it was, and a digest of its content."""
    if item is None:
        return None
    if isinstance(item, Path):
        return {"path": str(item.resolve()), "sha256": file_digest(item)}
    return {"path": "", "sha256": item.digest()}
