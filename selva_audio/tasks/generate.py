"""The main job: a video and a sentence in, its sound out.

``extract_features`` and ``generate`` are its two halves; ``run_video`` is both with the files around
them and a full account of the run, ``generate_for_video`` the same in one line.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..bundle import SelVAModel, load_model
from ..errors import InputError, MissingFileError
from ..features import (
    FeatureCache,
    VideoFeatures,
    encode_video,
    encoder_id,
    features_without_video,
    source_digest,
)
from ..files import file_digest
from ..media.audio import AUDIO_SUFFIXES, write_audio
from ..media.loudness import normalize
from ..media.masks import Mask, load_mask
from ..media.mux import VIDEO_SUFFIXES, mux
from ..options import FeatureOptions, GenerateOptions, OutputOptions
from ..progress import ProgressFn, ignore_progress, subtask
from ..records import Audio, Frames, RunResult
from ..synthesis import MIN_DURATION, decode_latents, encode_prompts, sample_latents
from .recipe import build_recipe, same_run, short_recipe, write_sidecar

__all__ = ["extract_features", "generate", "generate_for_video", "load_model", "run_video"]

logger = logging.getLogger(__name__)


@torch.no_grad()
def extract_features(
    model: SelVAModel,
    video: str | Path | Frames | None,
    options: FeatureOptions | None = None,
    mask: Mask | str | Path | None = None,
    *,
    on_progress: ProgressFn = ignore_progress,
) -> VideoFeatures:
    """Sync and CLIP features of a video for one prompt, from the cache where they are known.

    Args:
        model: bundle of ``load_model``.
        video: path of a video or image, or frames in memory; None makes features of no video
            (MMAudio variants; ``options.duration`` says how long).
        options: prompt, range, mask strength, cache.
        mask: 1 where the sounding source is; static or per frame, any size. A path is read.
        on_progress: progress and cancel.

    Raises:
        MediaError: not a readable video.
        InputError: options or mask that do not fit the video or the variant.
    """
    options = options or FeatureOptions()
    if options.name:
        return extract_numbered(model, video, options, mask, on_progress=on_progress)[1]
    if video is None:
        return features_without_video(model, options)
    source, mask = _source(video), _mask(mask)
    cache = FeatureCache(options.cache_dir)
    key = cache.key(
        source_digest(source),
        mask.digest() if mask is not None else "",
        options,
        encoder_id(model, options),
        {"variant": model.config.name, "precision": model.policy.precision},
    )
    cached = cache.get(key)
    if cached is not None:
        return cached
    features = encode_video(model, source, options, mask, on_progress=on_progress)
    cache.put(key, features)
    return features


@torch.no_grad()
def extract_numbered(
    model: SelVAModel,
    video: str | Path | Frames | None,
    options: FeatureOptions,
    mask: Mask | str | Path | None = None,
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
        logger.warning(note)
    return Audio(torch.stack(takes), rate, notes=tuple(notes))


def generate_for_video(
    model: SelVAModel,
    video: str | Path,
    output: str | Path,
    feature_options: FeatureOptions | None = None,
    options: GenerateOptions | None = None,
    *,
    output_options: OutputOptions | None = None,
    mask: Mask | str | Path | None = None,
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
    mask: Mask | str | Path | None = None,
    skip_done: bool = False,
    on_progress: ProgressFn = ignore_progress,
) -> RunResult:
    """Generate the sound of one video and write it, with its recipe beside it.

    Args:
        model: bundle of ``load_model``.
        video: path of a video or image; None for sound from the prompt alone.
        output: .wav or .flac for the sound, .mp4, .mov, .mkv or .webm for the video with it. Several takes
            become ``name_01``, ``name_02``, ...
        feature_options: prompt, range, mask strength, cache.
        options: seed, steps, guidance, takes, level.
        output_options: what happens to the original sound, and coding.
        mask: 1 where the sounding source is; a path or ``Mask``.
        skip_done: write nothing where the output already has this very recipe.
        on_progress: one bar over all stages.

    Raises:
        SelVAError: any of its kinds; nothing is left half-written.
    """
    feature_options = feature_options or FeatureOptions()
    options = options or GenerateOptions()
    output_options = output_options or OutputOptions()
    output = Path(output)
    paths = _take_paths(output, options.takes)
    source = _existing(Path(video)) if video is not None else None
    _check_output(output, source)
    recipe = build_recipe(
        model,
        source=_account(source),
        mask=_account(Path(mask) if isinstance(mask, (str, Path)) else mask),
        features=feature_options,
        options=options,
        output=output_options,
    )
    if skip_done and all(same_run(path, recipe) for path in paths):
        return RunResult(tuple(paths), recipe, notes=("already done",))

    started = time.perf_counter()
    features = extract_features(
        model, source, feature_options, mask, on_progress=subtask(on_progress, 0, 0.35)
    )
    extracted = time.perf_counter()
    audio = generate(model, features, options, on_progress=subtask(on_progress, 0.35, 0.95))
    generated = time.perf_counter()
    recipe |= {"duration": audio.duration}
    notes = list(audio.notes)
    for take, path in enumerate(paths):
        single = Audio(audio.waveform[take : take + 1], audio.sample_rate)
        tags = {"comment": short_recipe(recipe, take)}
        if path.suffix.lower() in AUDIO_SUFFIXES:
            write_audio(path, single, subtype=output_options.subtype, tags=tags)
        else:
            assert source is not None
            notes += mux(
                source,
                single,
                path,
                output_options,
                audio_start=feature_options.start,
                tags=tags,
                on_progress=subtask(on_progress, 0.95, 1),
            )
        write_sidecar(path, recipe | {"take": take})
    seconds = {
        "features": extracted - started,
        "generate": generated - extracted,
        "write": time.perf_counter() - generated,
    }
    return RunResult(tuple(paths), recipe, seconds, tuple(notes))


def _source(video: str | Path | Frames) -> Path | Frames:
    return video if isinstance(video, Frames) else _existing(Path(video))


def _mask(mask: Mask | str | Path | None) -> Mask | None:
    return load_mask(_existing(Path(mask))) if isinstance(mask, (str, Path)) else mask


def _existing(path: Path) -> Path:
    if not path.exists():
        raise MissingFileError(f"There is no file {path}. Check the path.")
    return path


def _duration(features: VideoFeatures, options: GenerateOptions) -> tuple[float, list[str]]:
    """Seconds to make, and a note where the wish exceeds what the features cover."""
    if options.duration <= 0:
        return features.duration, []
    if features.sync.shape[1] and options.duration > features.duration:
        note = (
            f"The features cover {features.duration:.2f} s, so the sound is that long, not "
            f"{options.duration:g} s. Extract features of a longer stretch for more."
        )
        return features.duration, [note]
    return options.duration, []


def _take_paths(output: Path, takes: int) -> list[Path]:
    if takes == 1:
        return [output]
    return [output.with_stem(f"{output.stem}_{take + 1:02d}") for take in range(takes)]


def _check_output(output: Path, source: Path | None) -> None:
    suffix = output.suffix.lower()
    if suffix not in AUDIO_SUFFIXES | VIDEO_SUFFIXES:
        raise InputError(
            f"The output {output.name!r} has the ending {suffix or 'none'!r}. Use .wav or .flac for the "
            "sound alone, or .mp4, .mov, .mkv or .webm for the video with it."
        )
    if suffix in VIDEO_SUFFIXES and source is None:
        raise InputError(f"There is no video to put into {output.name}. Write .wav or .flac instead.")
    if source is not None and output.exists() and output.samefile(source):
        raise InputError(f"{output} is the input itself. Choose another output; inputs are never changed.")


def _account(item: Path | Mask | None) -> Mapping[str, Any] | None:
    """How a recipe names an input: where it was, and a digest of its content."""
    if item is None:
        return None
    if isinstance(item, Path):
        path = _existing(item)
        return {"path": str(path.resolve()), "sha256": file_digest(path) if path.is_file() else ""}
    return {"path": "", "sha256": item.digest()}
