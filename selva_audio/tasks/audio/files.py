"""From file to file: any sound or sound track in, wav or flac out."""

import os
from collections.abc import Callable
from pathlib import Path

from ...errors import InputError, OutputError
from ...media.audio import AUDIO_SUFFIXES, read_audio, write_audio
from ...progress import Progress, ProgressFn, ignore_progress, subtask
from .processed import Processed, Report


def process_file(
    tool: Callable[..., Processed[Report]],
    source: str | Path,
    output: str | Path,
    *,
    sample_format: str = "pcm24",
    on_progress: ProgressFn = ignore_progress,
) -> Processed[Report]:
    """Read a sound, run ``tool`` on it, and write the result whole or not at all.

    Args:
        tool: what is done, called as ``tool(audio, on_progress=...)``.
        source: sound file, or a video whose sound track is taken.
        output: a .wav or .flac file.
        sample_format: "pcm16", "pcm24" or "float32" (wav only).
        on_progress: progress and cancel.

    Raises:
        InputError: an output that cannot be written this way, or that is the input.
        MediaError: the source holds no readable sound.
        OutputError: the disk refuses the file.
    """
    source, output = Path(source), Path(output)
    _check_output(source, output, sample_format)
    on_progress(Progress("reading", 0, 1))
    audio = read_audio(source)
    result = tool(audio, on_progress=subtask(on_progress, 0.05, 0.95))
    write_audio(output, result.audio, subtype=sample_format)
    on_progress(Progress("writing", 1, 1))
    return result


def _check_output(source: Path, output: Path, sample_format: str) -> None:
    """Refuse before any work what could not be written after it."""
    suffix = output.suffix.lower()
    if suffix not in AUDIO_SUFFIXES:
        raise InputError(f"The output {output.name!r} must end in .wav or .flac. Give such a name.")
    if suffix == ".flac" and sample_format == "float32":
        raise InputError("A .flac file cannot hold float32 samples. Use pcm16 or pcm24, or write .wav.")
    if output.is_dir():
        raise OutputError(f"{output} is a folder. Give the path of a file to write.")
    if output.exists() and source.exists() and os.path.samefile(source, output):
        raise InputError(f"{output} is the input itself. Choose another output; inputs are never changed.")
