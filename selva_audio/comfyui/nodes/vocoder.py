"""Tuning the vocoder on a folder of sounds, and loading a tuned one."""

from typing import Any

from comfy_api.latest import io

from ...options import VocoderOptions
from ..curves import LossCurves
from ..folders import Place, find, fingerprint, folder_beside, keep_result, looked_at, result_file, with_inner
from ..host import job
from ..present import output, picture_shown, told
from ..schema import MODEL, MODEL_TIP, MODELS_FIRST, OUTPUT_FIRST, filled, widgets
from ..unused import without_effect
from ..wires import image_wire

_TRAINER = "SelvaBigvganTrainer"
# Files that a training reads, and where a relative path is meant to be.
_FILES: dict[str, Place] = {"discriminator_path": "output", "lora_adapter": "base"}


class SelvaBigvganTrainer(io.ComfyNode):
    """A folder of sounds to a tuned vocoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id=_TRAINER,
            display_name="SelVA BigVGAN Trainer",
            category="SelVA/train",
            description="Tunes the vocoder on recordings, so that every sound gets their colour: a room, a "
            "microphone, upper partials. It decides neither what sounds nor when. The model stays as it is.",
            is_output_node=True,
            inputs=[
                MODEL.Input("model", tooltip=f"{MODEL_TIP} Its own vocoder is tuned, whatever is loaded."),
                io.String.Input(
                    "data_dir",
                    default="",
                    tooltip=f"Folder of .wav, .flac, .ogg or .mp3, searched with its folders. {MODELS_FIRST}",
                ),
                io.String.Input(
                    "output_path",
                    default="bigvgan_bj.pt",
                    tooltip="File for the vocoder, .pt or .safetensors; relative: below the output folder. "
                    "Checkpoints, curves and samples go into a folder of that name beside it.",
                ),
                *widgets(_TRAINER, VocoderOptions, "train_mode", "steps", "lr", "batch_size"),
                *widgets(_TRAINER, VocoderOptions, "segment_seconds", "lambda_l2sp", "use_gafilter"),
                *widgets(
                    _TRAINER, VocoderOptions, "gafilter_kernel_size", "lambda_phase", "save_every", "seed"
                ),
                *widgets(_TRAINER, VocoderOptions, "discriminator_path", "lora_adapter", optional=True),
                io.String.Input(
                    "resume_path",
                    default="",
                    optional=True,
                    tooltip="Checkpoint to go on from, such as bigvgan_bj/vocoder_step00500.pt; empty: from "
                    "the beginning.",
                ),
                *widgets(_TRAINER, VocoderOptions, "loss", "lambda_stft", "lr_schedule", optional=True),
                *widgets(_TRAINER, VocoderOptions, "warmup_steps", "val_fraction", "patience", optional=True),
                *widgets(_TRAINER, VocoderOptions, "grad_checkpoint", optional=True),
            ],
            outputs=[
                io.String.Output(display_name="checkpoint_path", tooltip="For SelVA BigVGAN Loader."),
                io.Image.Output(display_name="loss_curve", tooltip="Losses, and those of validation."),
                io.String.Output(display_name="report", tooltip="What was tuned and what came out."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, data_dir: str | None, resume_path: str | None = "", **others: Any) -> str:
        """Changes with the sounds, and with the files that the training reads."""
        folders = [each for data in looked_at(data_dir, "data_dir", "models") for each in with_inner(data)]
        read = [file for name, place in _FILES.items() for file in looked_at(others.get(name), name, place)]
        return fingerprint(*folders, *looked_at(resume_path, "resume_path"), *read)

    @classmethod
    def execute(
        cls, model: Any, data_dir: str, output_path: str, resume_path: str = "", **settings: Any
    ) -> io.NodeOutput:
        """Tune, and put the vocoder where it was asked for."""
        with job(cls) as run:
            from ...tasks.describe_style import describe_trained
            from ...tasks.pictures import training_picture
            from ...tasks.vocoder import train_vocoder

            files = {name: str(find(settings[name], name, _FILES[name])) for name in _given(settings)}
            options = VocoderOptions.parse(**filled(_TRAINER, settings | files))
            place = result_file(output_path, "output_path", ".pt", ".safetensors")
            result = train_vocoder(
                model,
                find(data_dir, "data_dir", "models"),
                folder_beside(place, "output_path"),
                options,
                resume=find(resume_path, "resume_path") if resume_path.strip() else None,
                on_progress=LossCurves(run.progress),
            )
            path = keep_result(result.path.with_suffix(place.suffix), place)
            picture = image_wire(training_picture(result.losses, result.history))
            idle = () if options.use_gafilter else ("gafilter_kernel_size",)
            unused = without_effect("use_gafilter is off", options, _TRAINER, *idle)
            text = told(run, *describe_trained(result, path), *unused)
        return output(str(path), picture, text, text=text, players=[picture_shown(cls, picture)])


class SelvaBigvganLoader(io.ComfyNode):
    """A tuned vocoder in a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SelvaBigvganLoader",
            display_name="SelVA BigVGAN Loader",
            category="SelVA",
            description="Gives a model with a tuned vocoder; the model that comes in stays as it is.",
            inputs=[
                MODEL.Input("model", tooltip=f"{MODEL_TIP} Or from SelVA LoRA Loader, in either order."),
                io.String.Input(
                    "path",
                    default="bigvgan_bj.pt",
                    tooltip="A file of the trainer or of older packs, or a BigVGAN generator. "
                    f"{OUTPUT_FIRST}",
                ),
            ],
            outputs=[
                MODEL.Output(display_name="model", tooltip="With the tuned vocoder."),
                io.String.Output(display_name="report", tooltip="What was tuned."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, path: str | None, **others: Any) -> str:
        """Changes with the file."""
        return fingerprint(*looked_at(path, "path"))

    @classmethod
    def execute(cls, model: Any, path: str) -> io.NodeOutput:
        """The model with the vocoder, which is made at the first use."""
        with job(cls) as run:
            from ...tasks.describe_style import describe_vocoder
            from ...tasks.style import with_vocoder

            found = find(path, "path")
            tuned = with_vocoder(model, found)
            text = told(run, *describe_vocoder(found))
        return output(tuned, text, text=text)


def _given(settings: dict[str, Any]) -> list[str]:
    """Which of the files were typed."""
    return [name for name in _FILES if isinstance(settings.get(name), str) and settings[name].strip()]
