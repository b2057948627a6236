"""``selva generate``: videos in, videos with sound (or the sound alone) out."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import SelVAError
from ..options import FeatureOptions, GenerateOptions
from .console import print_json, progress_bar, progress_bars, say
from .settings import (
    INVERSION,
    MODEL,
    SOUND,
    STEERING,
    WRITE,
    Adapters,
    InversionSettings,
    ModelSettings,
    SoundSettings,
    Steering,
    SteeringSettings,
    Strengths,
    TextualInversion,
    Vocoder,
    WriteSettings,
    pick,
)


def generate(
    *videos: Annotated[
        Path,
        Parameter(help="Videos, images, folders of videos, or feature files; none: sound from the prompt."),
    ],
    output: Annotated[
        Path,
        Parameter(
            name=("--output", "-o"),
            help=".wav or .flac: the sound alone; .mp4, .mov, .mkv or .webm: the video with it; "
            "a folder: one file per video.",
        ),
    ],
    mask: Annotated[
        Path | None, Parameter(help="Image or video, white where the sounding source is.")
    ] = None,
    format: Annotated[
        str,
        Parameter(
            help="Ending of files in an output folder: video (as the input), wav, flac, mp4, mov, mkv, webm."
        ),
    ] = "video",
    adapter: Adapters = (),
    adapter_strength: Strengths = (),
    textual_inversion: TextualInversion = None,
    inversion: InversionSettings = INVERSION,
    vocoder: Vocoder = None,
    steering: Steering = None,
    steering_settings: SteeringSettings = STEERING,
    sound: SoundSettings = SOUND,
    model: ModelSettings = MODEL,
    write: WriteSettings = WRITE,
    dry_run: Annotated[bool, Parameter(negative=(), help="Say what would be done, and do nothing.")] = False,
    json: Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")] = False,
) -> int:
    """Make the sound of what the prompt names, in sync with the picture."""
    from ..tasks.batch import JobResult, plan_jobs, preview_jobs, run_jobs
    from ..tasks.generate import load_model
    from ..tasks.style import with_files

    features = pick(sound, FeatureOptions)
    # One prompt and one duration serve both halves: generation takes them from the features.
    options = pick(sound, GenerateOptions, leave=("prompt", "negative_prompt", "duration"))
    jobs = plan_jobs(videos, output, format, takes=options.takes)

    def show(result: JobResult) -> None:
        for note in result.notes:
            say(f"  {note}")
        target = ", ".join(str(path) for path in result.outputs)
        if result.status != "failed":
            say(f"{result.status.capitalize()}: {target}")
        elif len(jobs) > 1:
            say(f"Failed: {result.video or target}: {result.error}")

    if dry_run:
        results = preview_jobs(jobs, model, features, options)
        for result in results:
            show(result)
    else:
        with progress_bar("Loading") as on_progress:
            bundle = load_model(**model.model_dump(), on_progress=on_progress)
        bundle = with_files(
            bundle,
            adapters=adapter,
            strengths=adapter_strength,
            textual_inversion=textual_inversion,
            inversion=inversion,
            vocoder=vocoder,
            steering=steering,
            steering_options=steering_settings,
        )
        with progress_bars() as bar_of:
            results = run_jobs(
                bundle,
                jobs,
                features,
                options,
                write,
                mask=mask,
                progress_for=lambda job: bar_of(job.video.name if job.video else job.output.name),
                on_result=show,
            )
    failed = [result for result in results if result.status == "failed"]
    if json:
        print_json({"results": [asdict(result) for result in results], "failed": len(failed)})
    if len(jobs) == 1 and failed:
        # A lone input that cannot be used is bad input (exit 2), not some of several.
        raise SelVAError(failed[0].error)
    if len(jobs) > 1:
        word = "planned" if dry_run else "done"
        say(f"{len(results) - len(failed)} of {len(results)} {word}, {len(failed)} failed.")
    return 1 if failed else 0
