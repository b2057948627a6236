"""Several videos in one go: what is done is skipped, one bad file does not stop the rest."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..bundle import SelVAModel
from ..configs import TRAINED_DURATION, ModelConfig, get_config
from ..errors import InputError, MissingFileError, SelVAError, os_error_sentence, unknown_name
from ..features import check_without_video, load_features
from ..flow.windows import plan_windows
from ..media.audio import AUDIO_SUFFIXES
from ..media.mux import VIDEO_SUFFIXES
from ..media.video import IMAGE_SUFFIXES, probe
from ..options import FeatureOptions, GenerateOptions, LoadOptions, OutputOptions
from ..progress import ProgressFn
from ..records import RunResult
from ..synthesis import MIN_DURATION
from .models import where
from .pipeline import Outcome, has_free_core, run_in_turn, run_overlapped
from .run import FEATURES_SUFFIX, PlannedRun, check_output, plan_run, take_paths

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


def plan_jobs(videos: Sequence[Path], output: Path, ending: str = "video", *, takes: int = 1) -> list[Job]:
    """Match inputs with outputs.

    Args:
        videos: files, or folders whose videos are taken in order of name. Among several, one that is not
            there becomes a job that fails.
        output: a file for one input; a folder (existing, or a path without ending) for any number.
        ending: of the files in an output folder; "video" keeps the video's own container.
        takes: files per job.

    Raises:
        InputError: one output file for several videos, an unknown ending, or an output that is an input.
        MissingFileError: the only input is not there, or a folder holds no video.
    """
    jobs = _match(videos, output, ending)
    inputs = {job.video.resolve() for job in jobs if job.video is not None}
    for target in (path for job in jobs for path in take_paths(job.output, takes)):
        if target.resolve() in inputs:
            raise InputError(f"{target} is an input itself. Choose another output; inputs are never changed.")
    return jobs


def _match(videos: Sequence[Path], output: Path, ending: str) -> list[Job]:
    if ending not in _ENDINGS:
        raise InputError(unknown_name("format", ending, _ENDINGS))
    if len(videos) == 1 and not videos[0].exists():
        raise MissingFileError(
            f"There is no file or folder {videos[0]}. Check the path; a prompt goes in quotes behind -p."
        )
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
    taken: set[str] = set()
    for file in files:
        target = output / f"{file.stem}{_suffix(file, ending)}"
        number = 2
        while str(target).casefold() in taken:
            target = output / f"{file.stem}_{number}{_suffix(file, ending)}"
            number += 1
        taken.add(str(target).casefold())
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

    ``progress_for`` opens the progress display of one job; ``on_result`` hears of each when it ends. Where a
    core is free, the next video is read and the last result written while the model works (``pipeline``), and
    two displays may be open at once.
    """
    results: list[JobResult] = []

    def plan(job: Job) -> PlannedRun:
        return plan_run(
            model,
            job.video,
            job.output,
            feature_options,
            options,
            output_options=output_options,
            mask=mask,
            skip_done=True,
        )

    def on_end(job: Job, outcome: Outcome) -> None:
        results.append(_result(job, outcome))
        on_result(results[-1])

    is_overlapped = len(jobs) > 1 and has_free_core(model.policy.device)
    run_all = run_overlapped if is_overlapped else run_in_turn
    run_all(model, jobs, plan, progress_for, on_end)
    return results


def _result(job: Job, outcome: Outcome) -> JobResult:
    if isinstance(outcome, RunResult):
        return JobResult(
            job.video,
            outcome.outputs,
            "done" if outcome.seconds else "skipped",
            seconds=dict(outcome.seconds),
            notes=outcome.notes,
            duration=float(outcome.recipe.get("duration", 0.0)),
        )
    told = str(outcome) if isinstance(outcome, SelVAError) else os_error_sentence(outcome)
    return JobResult(job.video, (job.output,), "failed", told)


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
            outputs = tuple(take_paths(job.output, options.takes))
            for output in outputs:
                check_output(output, job.video)
            duration = _planned_duration(job.video, feature_options, config)
            windows = len(plan_windows(max(duration, MIN_DURATION), config))
            note = (
                f"{duration:.2f} s with {load.variant}: {options.takes} take(s), {windows} window(s) "
                f"of up to 8 s, {options.steps} steps; {weights}"
            )
            results.append(JobResult(job.video, outputs, "planned", notes=(note,), duration=duration))
        except SelVAError as error:
            results.append(JobResult(job.video, (job.output,), "failed", str(error)))
    return results


def _planned_duration(video: Path | None, options: FeatureOptions, config: ModelConfig) -> float:
    """Seconds of sound, from headers alone; the decoder may find another end."""
    if video is None or video.suffix.lower() in IMAGE_SUFFIXES:
        check_without_video(config)
        return options.duration or TRAINED_DURATION
    if video.suffix.lower() == FEATURES_SUFFIX:
        covered = load_features(video).duration
        return min(options.duration or covered, covered)
    end = probe(video, fps=options.fps).duration
    if options.start >= end:
        raise InputError(
            f"start = {options.start:g} s is past the end of {video.name} at {end:g} s. Give a smaller start."
        )
    return min(options.duration or end, end - options.start)


def _expand(video: Path) -> list[Path]:
    if not video.is_dir():
        return [video]
    known = VIDEO_SUFFIXES | _OTHER_VIDEO_SUFFIXES
    # Hidden files are parts of killed runs and other systems' resource forks.
    names = (file for file in sorted(video.iterdir()) if not file.name.startswith("."))
    files = [file for file in names if file.suffix.lower() in known and file.is_file()]
    if not files:
        raise MissingFileError(f"The folder {video} holds no video ({', '.join(sorted(known))}).")
    return files


def _suffix(file: Path, ending: str) -> str:
    if ending != "video":
        return f".{ending}"
    if file.suffix.lower() in IMAGE_SUFFIXES:
        return ".wav"
    suffix = file.suffix.lower()
    if suffix == ".gif":  # of the containers we write, only this one takes its pictures as they are
        return ".mov"
    return suffix if suffix in VIDEO_SUFFIXES else ".mp4"
