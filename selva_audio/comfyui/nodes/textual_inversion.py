"""Textual inversion: learning tokens from clips, and loading them for the sampler."""

from typing import Any

from comfy_api.latest import io

from ...options import TextualInversionOptions
from ..curves import LossCurves
from ..folders import find, fingerprint, folder_beside, keep_result, looked_at, result_file
from ..host import job
from ..present import output, picture_shown, told
from ..schema import MODEL, MODEL_TIP, MODELS_FIRST, OUTPUT_FIRST, TEXTUAL_INVERSION, filled, widgets
from ..styles import TokensFile
from ..unused import without_effect
from ..wires import image_wire

_TRAINER = "SelvaTextualInversionTrainer"
_LIMIT = (
    "Text reaches most of the model as one mean over 77 positions: tokens can name a kind of sound, and "
    "timbre in detail cannot get through."
)


class SelvaTextualInversionTrainer(io.ComfyNode):
    """A folder of clips to learned tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id=_TRAINER,
            display_name="SelVA Textual Inversion Trainer",
            category="SelVA/train",
            description="Learns a few tokens that mean the sound of some clips; the model stays as it is. "
            f"{_LIMIT}",
            is_output_node=True,
            inputs=[
                MODEL.Input("model", tooltip=MODEL_TIP),
                io.String.Input(
                    "data_dir",
                    default="",
                    tooltip=f"Folder of NAME.npz with NAME.wav or .flac, or of videos. {MODELS_FIRST}",
                ),
                io.String.Input(
                    "output_path",
                    default="textual_inversion.pt",
                    tooltip="File for the tokens, .pt or .safetensors; relative: below the output folder. "
                    "Checkpoints, curves and samples go into a folder of that name beside it.",
                ),
                *widgets(_TRAINER, TextualInversionOptions, "n_tokens", "steps", "lr", "batch_size"),
                *widgets(_TRAINER, TextualInversionOptions, "seed", "save_every"),
                *widgets(_TRAINER, TextualInversionOptions, "inject_mode", "init_text", optional=True),
                *widgets(_TRAINER, TextualInversionOptions, "warmup_steps", optional=True),
                io.String.Input(
                    "resume_path",
                    default="",
                    optional=True,
                    tooltip="Checkpoint to go on from, such as textual_inversion/embeddings_step01000.pt; "
                    "empty: from the beginning.",
                ),
                *widgets(_TRAINER, TextualInversionOptions, "space", "template", optional=True),
                *widgets(_TRAINER, TextualInversionOptions, "lr_schedule", "timestep_mode", optional=True),
                *widgets(_TRAINER, TextualInversionOptions, "clip_conditioning", "pad", optional=True),
                *widgets(_TRAINER, TextualInversionOptions, "val_fraction", "patience", optional=True),
                *widgets(_TRAINER, TextualInversionOptions, "sample_steps", optional=True),
            ],
            outputs=[
                io.String.Output(
                    display_name="embeddings_path", tooltip="For SelVA Textual Inversion Loader."
                ),
                io.Image.Output(display_name="loss_curve", tooltip="Losses, and those of validation."),
                io.String.Output(display_name="report", tooltip="What was trained and what came out."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, data_dir: str | None, resume_path: str | None = "", **others: Any) -> str:
        """Changes with the files of the data set."""
        data = looked_at(data_dir, "data_dir", "models")
        return fingerprint(*data, *looked_at(resume_path, "resume_path"))

    @classmethod
    def execute(
        cls, model: Any, data_dir: str, output_path: str, resume_path: str = "", **settings: Any
    ) -> io.NodeOutput:
        """Train, and put the tokens where they were asked for."""
        with job(cls) as run:
            from ...tasks.describe_style import describe_trained
            from ...tasks.pictures import training_picture
            from ...tasks.textual_inversion import train_textual_inversion

            options = TextualInversionOptions.parse(**filled(_TRAINER, settings))
            place = result_file(output_path, "output_path", ".pt", ".safetensors")
            result = train_textual_inversion(
                model,
                find(data_dir, "data_dir", "models"),
                folder_beside(place, "output_path"),
                options,
                resume=find(resume_path, "resume_path") if resume_path.strip() else None,
                on_progress=LossCurves(run.progress),
            )
            path = keep_result(result.path.with_suffix(place.suffix), place)
            picture = image_wire(training_picture(result.losses, result.history))
            idle = "inject_mode" if options.space == "token" else "template"
            unused = without_effect(f"space is {options.space}", options, _TRAINER, idle)
            text = told(run, *describe_trained(result, path), *unused)
        return output(str(path), picture, text, text=text, players=[picture_shown(cls, picture)])


class SelvaTextualInversionLoader(io.ComfyNode):
    """A file of learned tokens for the sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SelvaTextualInversionLoader",
            display_name="SelVA Textual Inversion Loader",
            category="SelVA",
            description="Reads learned tokens for SelVA Sampler, from a file of the trainer or of older "
            f"packs. {_LIMIT}",
            inputs=[
                io.String.Input(
                    "path",
                    default="textual_inversion.pt",
                    tooltip=f"A .pt or .safetensors file. {OUTPUT_FIRST}",
                )
            ],
            outputs=[
                TEXTUAL_INVERSION.Output(display_name="textual_inversion", tooltip="For SelVA Sampler."),
                io.String.Output(display_name="report", tooltip="What the tokens are."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, path: str | None) -> str:
        """Changes with the file."""
        return fingerprint(*looked_at(path, "path"))

    @classmethod
    def execute(cls, path: str) -> io.NodeOutput:
        """Where the tokens are; what they are is looked at now."""
        with job(cls) as run:
            from ...tasks.describe_style import describe_inversion

            found = find(path, "path")
            text = told(run, *describe_inversion(found))
        return output(TokensFile(found), text, text=text)
