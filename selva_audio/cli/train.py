"""``selva train``: adapters, learned tokens and vocoders out of clips.

What the user should see of a training is logged by it as it comes up, and so not said again at its end.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from ..options import LoraOptions, TextualInversionOptions, VocoderOptions
from .console import print_json, progress_bar, say, show
from .settings import MODEL, ModelSettings

if TYPE_CHECKING:
    from ..tasks.trained import Trained

Json = Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")]
LORA = LoraOptions()
TOKENS = TextualInversionOptions()
VOCODER = VocoderOptions()

train = App(name="train", help="Teach a model new sounds from clips.")


@train.command
def lora(
    *,
    data_dir: Annotated[
        Path,
        Parameter(help="Data set, folder of name.npz with name.wav, or folder of videos with sound."),
    ],
    output_dir: Annotated[Path, Parameter(help="Folder for the adapter and all that belongs to it.")],
    settings: Annotated[LoraOptions, Parameter(name="*", group="Training")] = LORA,
    resume: Annotated[Path | None, Parameter(help="Checkpoint of such a training to go on from.")] = None,
    model: ModelSettings = MODEL,
    json: Json = False,
) -> int:
    """Train a LoRA adapter of the generator."""
    from ..tasks.generate import load_model
    from ..tasks.train import train_lora

    with progress_bar("Loading") as on_progress:
        bundle = load_model(**model.model_dump(), on_progress=on_progress)
    with progress_bar("Training") as on_progress:
        result = train_lora(bundle, data_dir, output_dir, settings, resume=resume, on_progress=on_progress)
    for line in result.report:
        say(line)
    summary = result.summary
    if json:
        print_json(summary)
    else:
        show(f"{result.status}: {result.steps} steps, loss {summary['final_loss']}")
        if summary["validation"]:
            found = summary["validation"]
            show(f"validation loss {found['before']:.4f} -> {found['after']:.4f}")
        if found := summary["intruders"]:
            show(
                f"intruders (cosine under 0.5): {found['counts']['0.5']} of {found['directions']} directions"
                f"; random changes of the same size: {found['control']['0.5']}"
            )
    say(f"Wrote {result.adapter_path}")
    return 0


@train.command
def textual_inversion(
    *,
    data_dir: Annotated[
        Path,
        Parameter(help="Data set, folder of name.npz with name.wav, or folder of videos with sound."),
    ],
    output_dir: Annotated[Path, Parameter(help="Folder for the tokens and all that belongs to them.")],
    settings: Annotated[TextualInversionOptions, Parameter(name="*", group="Training")] = TOKENS,
    resume: Annotated[Path | None, Parameter(help="Checkpoint of such a training to go on from.")] = None,
    model: ModelSettings = MODEL,
    json: Json = False,
) -> int:
    """Learn tokens that stand beside the words of a prompt; the model stays as it is."""
    from ..tasks.generate import load_model
    from ..tasks.textual_inversion import train_textual_inversion

    with progress_bar("Loading") as on_progress:
        bundle = load_model(**model.model_dump(), on_progress=on_progress)
    with progress_bar("Training") as on_progress:
        result = train_textual_inversion(
            bundle, data_dir, output_dir, settings, resume=resume, on_progress=on_progress
        )
    return _tell(result, json)


@train.command
def vocoder(
    *,
    data_dir: Annotated[
        Path, Parameter(help="Folder of .wav, .flac, .ogg and .mp3 files, and of folders with them.")
    ],
    output_dir: Annotated[Path, Parameter(help="Folder for the vocoder and all that belongs to it.")],
    settings: Annotated[VocoderOptions, Parameter(name="*", group="Training")] = VOCODER,
    resume: Annotated[Path | None, Parameter(help="Checkpoint of such a training to go on from.")] = None,
    model: ModelSettings = MODEL,
    json: Json = False,
) -> int:
    """Tune the vocoder on sounds, in float32 whatever the precision."""
    from ..tasks.generate import load_model
    from ..tasks.vocoder import train_vocoder

    with progress_bar("Loading") as on_progress:
        bundle = load_model(**model.model_dump(), on_progress=on_progress)
    with progress_bar("Training") as on_progress:
        result = train_vocoder(bundle, data_dir, output_dir, settings, resume=resume, on_progress=on_progress)
    return _tell(result, json)


def _tell(result: "Trained", json: bool) -> int:
    for line in result.report:
        say(line)
    if json:
        print_json(result.summary)
    else:
        show(f"{result.status}: {result.steps} steps, loss {result.summary['final_loss']}")
        if found := result.summary["validation"]:
            show(f"validation loss {found['before']:.4f} -> {found['after']:.4f}")
    say(f"Wrote {result.path}")
    return 0
