"""Several videos in one go: what is done is skipped, one bad file does not stop the rest."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..bundle import SelVAModel
from ..configs import get_config
from ..errors import InputError, MissingFileError, SelVAError, unknown_name
from ..flow.windows import plan_windows
from ..media.audio import AUDIO_SUFFIXES
from ..media.mux import VIDEO_SUFFIXES
from ..media.video import IMAGE_SUFFIXES, probe
from ..options import FeatureOptions, GenerateOptions, LoadOptions, OutputOptions
from ..progress import ProgressFn
from ..synthesis import MIN_DURATION
from .generate import run_video
from .models import where

Status = Literal["done", "skipped", "failed", "planned"]
_ENDINGS = ("video", *(suffix.removeprefix(".") for suffix in sorted(AUDIO_SUFFIXES | VIDEO_SUFFIXES)))
_OTHER_VIDEO_SUFFIXES = {".m4v", ".avi", ".ts", ".mts", ".flv", ".gif", ".mpg", ".mpeg", ".3gp", ".ogv"}


@dataclass(frozen=True, slots=True)
class Job:
    """One video and where its result goes; ``video`` None is sound from the prompt alone."""

    video: Path | None
    output: Path


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of one job.

    Attributes:
        video: the input.
        outputs: files written, or that would be.
        status: "done", "skipped" (was done before), "failed" or "planned" (dry run).
        error: the sentence of a failure.
        seconds: wall seconds per stage.
        notes: sentences the user should see.
        duration: seconds of sound.
    """

    video: Path | None
    outputs: tuple[Path, ...]
    status: Status
    error: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    duration: float = 0.0


def plan_jobs(videos: Sequence[Path], output: Path, ending: str = "video") -> list[Job]:
    """Match inputs with outputs.

    Args:
        videos: files, or folders whose videos are taken in order of name.
        output: a file for one input; a folder (existing, or a path without ending) for any number.
        ending: of the files in an output folder; "video" keeps the video's own container.

    Raises:
        InputError: one output file for several videos, or an unknown ending.
        MissingFileError: an input is not there, or a folder holds no video.
    """
    if ending not in _ENDINGS:
        raise InputError(unknown_name("format", ending, _ENDINGS))
    files = [file for video in videos for file in _expand(video)]
    into_folder = output.is_dir() or not output.suffix
    if not files:
        if into_folder:
            raise InputError(f"Without a video, the output {output} must be a .wav or .flac file.")
        return [Job(None, output)]
    if not into_folder:
        if len(files) > 1:
            raise InputError(
                f"{len(files)} videos cannot all be written to {output}. Give a folder as the output."
            )
        return [Job(files[0], output)]
    jobs: list[Job] = []
    taken: set[Path] = set()
    for file in files:
        target = output / f"{file.stem}{_suffix(file, ending)}"
        number = 2
        while target in taken:
            target = output / f"{file.stem}_{number}{_suffix(file, ending)}"
            number += 1
        taken.add(target)
        jobs.append(Job(file, target))
    return jobs


def run_jobs(
    model: SelVAModel,
    jobs: Sequence[Job],
    feature_options: FeatureOptions,
    options: GenerateOptions,
    output_options: OutputOptions,
    *,
    mask: Path | None = None,
    progress_for: Callable[[Job], AbstractContextManager[ProgressFn]],
    on_result: Callable[[JobResult], None] = lambda result: None,
) -> list[JobResult]:
    """Run every job; a failure is recorded and the next one starts. Cancelling ends all.

    ``progress_for`` opens the progress display of one job; ``on_result`` hears of each when it ends.
    """
    results = []
    for job in jobs:
        try:
            with progress_for(job) as on_progress:
                run = run_video(
                    model,
                    job.video,
                    job.output,
                    feature_options,
                    options,
                    output_options=output_options,
                    mask=mask,
                    skip_done=True,
                    on_progress=on_progress,
                )
            result = JobResult(
                job.video,
                run.outputs,
                "done" if run.seconds else "skipped",
                seconds=dict(run.seconds),
                notes=run.notes,
                duration=float(run.recipe.get("duration", 0.0)),
            )
        except SelVAError as error:
            result = JobResult(job.video, (job.output,), "failed", str(error))
        results.append(result)
        on_result(result)
    return results


def preview_jobs(
    jobs: Sequence[Job], load: LoadOptions, feature_options: FeatureOptions, options: GenerateOptions
) -> list[JobResult]:
    """What ``run_jobs`` would do, told from headers alone; nothing is written or downloaded."""
    config = get_config(load.variant)
    missing = [item.name for item in where(load.variant, models_dir=load.models_dir) if item.found is None]
    weights = f"weights missing: {', '.join(missing)}" if missing else "all weights found"
    results = []
    for job in jobs:
        try:
            duration = feature_options.duration
            if job.video is not None and job.video.suffix.lower() not in IMAGE_SUFFIXES:
                whole = probe(job.video).duration - feature_options.start
                duration = min(duration, whole) if duration else whole
            windows = len(plan_windows(max(duration or 8.0, MIN_DURATION), config))
            note = (
                f"{duration or 8.0:.2f} s with {load.variant}: {options.takes} take(s), {windows} window(s) "
                f"of up to 8 s, {options.steps} steps; {weights}"
            )
            results.append(
                JobResult(job.video, (job.output,), "planned", notes=(note,), duration=duration or 8.0)
            )
        except SelVAError as error:
            results.append(JobResult(job.video, (job.output,), "failed", str(error)))
    return results


def _expand(video: Path) -> list[Path]:
    if not video.exists():
        raise MissingFileError(f"There is no file or folder {video}. Check the path.")
    if not video.is_dir():
        return [video]
    known = VIDEO_SUFFIXES | _OTHER_VIDEO_SUFFIXES
    files = [file for file in sorted(video.iterdir()) if file.suffix.lower() in known and file.is_file()]
    if not files:
        raise MissingFileError(f"The folder {video} holds no video ({', '.join(sorted(known))}).")
    return files


def _suffix(file: Path, ending: str) -> str:
    if ending != "video":
        return f".{ending}"
    return file.suffix.lower() if file.suffix.lower() in VIDEO_SUFFIXES else ".mp4"
