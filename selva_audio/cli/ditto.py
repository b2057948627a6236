"""``selva ditto``: sound for a video in the style of a folder of sounds."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..options import DittoOptions, FeatureOptions, GenerateOptions
from . import CANCELLED
from .console import print_json, progress_bar, say
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

DITTO = DittoOptions()


def ditto(
    video: Annotated[Path, Parameter(help="Video, or a feature file.")],
    /,
    *,
    reference_dir: Annotated[Path, Parameter(help="Sounds of the style, in this folder or below it.")],
    output: Annotated[
        Path,
        Parameter(
            name=("--output", "-o"),
            help=".wav or .flac: the sound alone; .mp4, .mov, .mkv or .webm: the video with it.",
        ),
    ],
    settings: Annotated[DittoOptions, Parameter(name="*", group="Optimisation")] = DITTO,
    mask: Annotated[
        Path | None, Parameter(help="Image or video, white where the sounding source is.")
    ] = None,
    figure: Annotated[Path | None, Parameter(help="PNG file for a picture of the losses.")] = None,
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
    json: Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")] = False,
) -> int:
    """Choose the noise that the sound starts from, so that it comes near to a style."""
    from ..tasks.ditto import run_ditto
    from ..tasks.generate import load_model
    from ..tasks.style import with_files

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
    with progress_bar(video.name) as on_progress:
        result = run_ditto(
            bundle,
            video,
            output,
            reference_dir,
            settings,
            pick(sound, FeatureOptions),
            pick(sound, GenerateOptions, leave=("prompt", "negative_prompt", "duration")),
            output_options=write,
            mask=mask,
            figure=figure,
            on_progress=on_progress,
        )
    for note in result.notes:
        say(f"  {note}")
    found = result.recipe["ditto"]
    say(
        f"Style loss {found['style_loss_before']:.4g} -> {found['style_loss_after']:.4g}, of iteration "
        f"{found['best_step']} of {found['options']['n_opt_steps']}."
    )
    say(f"{found['status'].capitalize()}: {result.outputs[0]}")
    if json:
        print_json({"outputs": result.outputs, "seconds": result.seconds, "recipe": result.recipe})
    return CANCELLED if found["status"] == "cancelled" else 0
