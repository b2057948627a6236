"""The main job with the files around it: a video and a sentence in, a file with its sound out.

``generate_for_video`` is one line for a library user, ``run_video`` the same with a full account.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..bundle import SelVAModel
from ..errors import InputError, OutputError
from ..features import Pictures, VideoFeatures, load_features
from ..files import file_digest
from ..flow.noise_file import read_noise
from ..media.audio import AUDIO_SUFFIXES, write_audio
from ..media.masks import Mask
from ..media.mux import VIDEO_SUFFIXES, check_picture_fits, mux
from ..media.video import IMAGE_SUFFIXES
from ..options import FeatureOptions, GenerateOptions, OutputOptions
from ..progress import ProgressFn, ignore_progress, subtask
from ..records import Audio, RunResult
from .generate import Look, MaskLike, as_mask, existing_file, extract_features, generate
from .ignored import ignored_settings
from .recipe import build_recipe, recorded, same_run, short_recipe

FEATURES_SUFFIX = ".npz"


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
    noise: str | Path | None = None,
    account: Mapping[str, Any] | None = None,
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
        noise: file of ``selva ditto`` with the noise to start from in place of the seed's.
        account: what the recipe is to tell beside its own fields.
        skip_done: write nothing where the output already has this very recipe.
        on_progress: one bar over all stages.

    Raises:
        SelVAError: any of its kinds; nothing is left half-written.
    """
    run = plan_run(
        model,
        video,
        output,
        feature_options,
        options,
        output_options=output_options,
        mask=mask,
        noise=noise,
        account=account,
        skip_done=skip_done,
    )
    if run.is_done:
        return run.skipped()
    return write_sound(run, make_sound(model, run, on_progress=on_progress), on_progress=on_progress)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run whose inputs and output were found good, before anything of it is made; see ``plan_run``.

    Attributes:
        source: video, image or feature file; None for sound from the prompt alone.
        mask: path, or the mask itself.
        noise: file with the noise to start from.
        paths: files to write, one for each take.
        features: how the video is seen.
        options: how the sound is made.
        output: how it is written.
        recipe: the account of the run, but for its duration.
        is_done: all files are there already, with this very recipe, and were to be skipped then.
    """

    source: Path | None
    mask: Path | Mask | None
    noise: Path | None
    paths: tuple[Path, ...]
    features: FeatureOptions
    options: GenerateOptions
    output: OutputOptions
    recipe: Mapping[str, Any]
    is_done: bool

    @property
    def needs_frames(self) -> bool:
        """Whether a video is to be looked at for its features."""
        endings = IMAGE_SUFFIXES | {FEATURES_SUFFIX}
        is_video = self.source is not None and self.source.suffix.lower() not in endings
        return is_video and not self.is_done and not self.features.name

    def skipped(self) -> RunResult:
        """The result of a run that was done before."""
        return RunResult(self.paths, self.recipe, notes=("already done",))


@dataclass(frozen=True, slots=True)
class MadeSound:
    """The takes of a run, its recipe with their duration, seconds per stage, and notes."""

    audio: Audio
    recipe: Mapping[str, Any]
    seconds: Mapping[str, float]
    notes: tuple[str, ...]


def plan_run(
    model: SelVAModel,
    video: str | Path | None,
    output: str | Path,
    feature_options: FeatureOptions | None = None,
    options: GenerateOptions | None = None,
    *,
    output_options: OutputOptions | None = None,
    mask: MaskLike | None = None,
    noise: str | Path | None = None,
    account: Mapping[str, Any] | None = None,
    skip_done: bool = False,
) -> PlannedRun:
    """Check everything that can be checked before any work; arguments and errors of ``run_video``."""
    feature_options = feature_options or FeatureOptions()
    options = options or GenerateOptions()
    output_options = output_options or OutputOptions()
    paths = take_paths(Path(output), options.takes)
    source = existing_file(Path(video)) if video is not None else None
    mask = existing_file(Path(mask)) if isinstance(mask, (str, Path)) else as_mask(mask)
    for path in paths:
        check_output(path, source, mask if isinstance(mask, Path) else None)
    noise = existing_file(Path(noise)) if noise is not None else None
    recipe = {**(account or {})} | build_recipe(
        model,
        source=_account(source),
        mask=_account(mask),
        noise=_account(noise),
        features=feature_options,
        options=options,
        output=output_options,
    )
    is_done = skip_done and all(same_run(path, recipe) for path in paths)
    return PlannedRun(
        source, mask, noise, tuple(paths), feature_options, options, output_options, recipe, is_done
    )


def make_sound(
    model: SelVAModel,
    run: PlannedRun,
    *,
    look: Look | None = None,
    stream: Pictures | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> MadeSound:
    """All that the model does for a run, and nothing of the files it writes.

    Args:
        model: bundle of ``plan_run``.
        run: not done yet.
        look: what ``look_up`` found for its video; None looks here.
        stream: frames of ``open_frames``, with ``look``; None opens them here if they are needed.
        on_progress: reports up to 95 % of one bar.

    Raises:
        SelVAError: any of its kinds.
    """
    started = time.perf_counter()
    options, on_features = run.options, subtask(on_progress, 0, 0.35)
    if run.source is not None and run.source.suffix.lower() == FEATURES_SUFFIX:
        features, options = stored_features(run.source, run.features, options)
    elif look is not None:
        features = look.features(model, stream=stream, on_progress=on_features)
    else:
        features = extract_features(model, run.source, run.features, run.mask, on_progress=on_features)
    extracted = time.perf_counter()
    start = read_noise(run.noise) if run.noise is not None else None
    audio = generate(model, features, options, noise=start, on_progress=subtask(on_progress, 0.35, 0.95))
    seconds = {"features": extracted - started, "generate": time.perf_counter() - extracted}
    notes = ignored_settings(
        run.features, options, run.output, has_mask=run.mask is not None, writes_video=_writes_video(run)
    )
    if not (options.prompt or features.prompt):
        notes.append("No prompt was given, so no source was named: the sound is of whatever is likely.")
    notes += [*_shortened(run.features, features), *audio.notes]
    return MadeSound(audio, {**run.recipe, "duration": audio.duration}, seconds, tuple(notes))


def write_sound(run: PlannedRun, sound: MadeSound, *, on_progress: ProgressFn = ignore_progress) -> RunResult:
    """Write the takes of a run, each with its recipe beside it, and nothing that needs the model.

    Args:
        run: of ``plan_run``.
        sound: of ``make_sound``.
        on_progress: reports from 95 % of one bar on.

    Raises:
        SelVAError: any of its kinds; nothing is left half-written.
    """
    started = time.perf_counter()
    paths, audio, notes = run.paths, sound.audio, list(sound.notes)
    for take, path in enumerate(paths):
        on_take = subtask(on_progress, 0.95 + 0.05 * take / len(paths), 0.95 + 0.05 * (take + 1) / len(paths))
        single = Audio(audio.waveform[take : take + 1], audio.sample_rate)
        tags = {"comment": short_recipe(sound.recipe, take)}
        with recorded(path, {**sound.recipe, "take": take}):
            if not _writes_video(run):
                write_audio(path, single, subtype=run.output.sample_format, tags=tags)
                continue
            assert run.source is not None
            muxed = mux(
                run.source,
                single,
                path,
                run.output,
                audio_start=run.features.start,
                tags=tags,
                on_progress=on_take,
            )
            notes += [note for note in muxed if note not in notes]
    seconds = {**sound.seconds, "write": time.perf_counter() - started}
    return RunResult(paths, sound.recipe, seconds, tuple(notes))


def _writes_video(run: PlannedRun) -> bool:
    return run.paths[0].suffix.lower() in VIDEO_SUFFIXES


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


def stored_features(
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
