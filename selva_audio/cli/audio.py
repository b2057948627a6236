"""``selva audio``: work on sounds that exist already."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from ..options import (
    CompressOptions,
    ExciteOptions,
    MatchOptions,
    NormalizeOptions,
    OutputOptions,
    ResampleOptions,
    RoundtripOptions,
    SmoothOptions,
)
from .console import print_json, progress_bar, say
from .settings import MODEL, ModelSettings

if TYPE_CHECKING:
    from ..tasks.audio import Processed

Input = Annotated[Path, Parameter(help="Sound file, or a video whose sound track is taken.")]
Output = Annotated[Path, Parameter(name=("--output", "-o"), help="A .wav or .flac file.")]
SampleFormat = Annotated[
    Literal["pcm16", "pcm24", "float32"],
    Parameter(help=OutputOptions.model_fields["sample_format"].description),
]
Json = Annotated[bool, Parameter(negative=(), help="Report as JSON on stdout.")]

MEASURE, SMOOTH, MATCH = RoundtripOptions(), SmoothOptions(), MatchOptions()
EXCITE, LEVEL = ExciteOptions(), NormalizeOptions()
COMPRESS, RATE = CompressOptions(), ResampleOptions()

audio = App(name="audio", help="Sounds that exist already: VAE round trip, smoothing, matching, level, rate.")


@audio.command
def roundtrip(
    input: Input,
    output: Output,
    *,
    settings: Annotated[RoundtripOptions, Parameter(name="*", group="Measuring")] = MEASURE,
    model: ModelSettings = MODEL,
    sample_format: SampleFormat = "pcm24",
    json: Json = False,
) -> int:
    """Send a sound through the model's VAE and vocoder and back, and tell what that loses."""
    from ..tasks.audio import roundtrip as task
    from ..tasks.generate import load_model

    with progress_bar("Loading") as on_progress:
        bundle = load_model(**model.model_dump(), on_progress=on_progress)
    return _run(partial(task, bundle, options=settings), input, output, sample_format, json)


@audio.command
def smooth_hf(
    input: Input,
    output: Output,
    *,
    settings: Annotated[SmoothOptions, Parameter(name="*", group="Smoothing")] = SMOOTH,
    sample_format: SampleFormat = "pcm24",
    json: Json = False,
) -> int:
    """Turn high frequencies down without moving anything in time."""
    from ..tasks.audio import smooth_hf as task

    return _run(partial(task, options=settings), input, output, sample_format, json)


@audio.command
def match_spectrum(
    input: Input,
    output: Output,
    *,
    settings: Annotated[MatchOptions, Parameter(name="*", group="Matching")] = MATCH,
    sample_format: SampleFormat = "pcm24",
    json: Json = False,
) -> int:
    """Bring the spectrum of a sound towards that of the VAE's training sounds."""
    from ..tasks.audio import match_spectrum as task

    return _run(partial(task, options=settings), input, output, sample_format, json)


@audio.command
def excite(
    input: Input,
    output: Output,
    *,
    settings: Annotated[ExciteOptions, Parameter(name="*", group="Exciter")] = EXCITE,
    sample_format: SampleFormat = "pcm24",
    json: Json = False,
) -> int:
    """Add overtones of what lies above a frequency."""
    from ..tasks.audio import excite as task

    return _run(partial(task, options=settings), input, output, sample_format, json)


@audio.command
def normalize(
    input: Input,
    output: Output,
    *,
    settings: Annotated[NormalizeOptions, Parameter(name="*", group="Level")] = LEVEL,
    sample_format: SampleFormat = "pcm24",
    json: Json = False,
) -> int:
    """Bring a sound to a level, and turn it down as a whole to the true-peak ceiling."""
    from ..tasks.audio import normalize_output as task

    return _run(partial(task, options=settings), input, output, sample_format, json)


@audio.command
def compress(
    input: Input,
    output: Output,
    *,
    settings: Annotated[CompressOptions, Parameter(name="*", group="Compressor")] = COMPRESS,
    sample_format: SampleFormat = "pcm24",
    json: Json = False,
) -> int:
    """Turn down what is loud, and mix that with the sound as it was."""
    from ..tasks.audio import compress as task

    return _run(partial(task, options=settings), input, output, sample_format, json)


@audio.command
def resample(
    input: Input,
    output: Output,
    *,
    settings: Annotated[ResampleOptions, Parameter(name="*", group="Rate")] = RATE,
    sample_format: SampleFormat = "pcm24",
    json: Json = False,
) -> int:
    """Bring a sound to another sample rate."""
    from ..tasks.audio import resample_audio as task

    return _run(partial(task, options=settings), input, output, sample_format, json)


def _run(
    tool: "Callable[..., Processed[Any]]", source: Path, output: Path, sample_format: str, json: bool
) -> int:
    """One tool from file to file, with its report as sentences and, if asked for, as JSON."""
    from ..tasks.audio import process_file

    with progress_bar(source.name) as on_progress:
        result = process_file(tool, source, output, sample_format=sample_format, on_progress=on_progress)
    (report,) = result.reports
    for note in result.audio.notes:
        say(f"  {note}")
    say(f"  {report.sentence}")
    say(f"Done: {output}")
    if json:
        print_json({"output": output, "notes": result.audio.notes, **asdict(report)})
    return 0
