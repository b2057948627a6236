"""Training a LoRA adapter, and comparing adapters."""

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ...options.training import LoraOptions
from ..curves import LossCurves
from ..folders import find, fingerprint, looked_at, output_folder
from ..host import job
from ..plans import find_comparison
from ..present import output, picture_shown, told
from ..schema import MODEL, MODEL_TIP, MODELS_FIRST, filled, widgets
from ..wires import image_wire


class SelvaLoraTrainer(io.ComfyNode):
    """A folder of clips to an adapter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaLoraTrainer"
        return io.Schema(
            node_id=node,
            display_name="SelVA LoRA Trainer",
            category="SelVA/train",
            description="Trains a LoRA adapter on a folder of clips, and gives the model with it.",
            is_output_node=True,
            inputs=[
                MODEL.Input("model", tooltip=MODEL_TIP),
                io.String.Input(
                    "data_dir",
                    default="",
                    tooltip="Folder of NAME.npz with NAME.wav or .flac, or of videos. Relative: looked for "
                    "where ComfyUI was started, then in its output, models, own and input folders.",
                ),
                io.String.Input(
                    "output_dir",
                    default="lora_output",
                    tooltip="Folder for the adapter, its checkpoints, curves and samples; relative: below "
                    "the output folder.",
                ),
                *widgets(node, LoraOptions, "steps", "rank", "lr"),
                *widgets(node, LoraOptions, "alpha", "target", "batch_size", "warmup_steps", optional=True),
                *widgets(node, LoraOptions, "grad_accum", "save_every", optional=True),
                io.String.Input(
                    "resume_path",
                    default="",
                    optional=True,
                    tooltip="Step file to go on from, such as lora_output/adapter_step00500.pt; empty: from "
                    "the beginning.",
                ),
                *widgets(node, LoraOptions, "seed", "timestep_mode", "logit_normal_sigma", optional=True),
                *widgets(node, LoraOptions, "curriculum_switch", "lora_dropout", optional=True),
                *widgets(node, LoraOptions, "lora_plus_ratio", "init_mode", "use_rslora", optional=True),
                *widgets(node, LoraOptions, "lr_schedule", "latent_mixup_alpha", optional=True),
                *widgets(node, LoraOptions, "latent_noise_sigma", "use_dora", "ema_decay", optional=True),
                *widgets(node, LoraOptions, "video_dropout", "text_dropout", "uncond", optional=True),
                *widgets(node, LoraOptions, "clip_conditioning", "val_fraction", "patience", optional=True),
                *widgets(node, LoraOptions, "grad_checkpoint", "sample_steps", optional=True),
            ],
            outputs=[
                MODEL.Output(display_name="model", tooltip="With the adapter."),
                io.String.Output(display_name="adapter_path", tooltip="For SelVA LoRA Loader."),
                io.Image.Output(display_name="loss_curve", tooltip="Losses, and those of validation."),
                io.String.Output(display_name="summary_path", tooltip="JSON file that tells of the run."),
                io.String.Output(display_name="report", tooltip="What was trained and what came out."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, data_dir: str | None, resume_path: str | None = "", **others: Any) -> str:
        """Changes with the files of the data set."""
        data = looked_at(data_dir, "data_dir", "here")
        return fingerprint(*data, *looked_at(resume_path, "resume_path", "here"))

    @classmethod
    def execute(
        cls, model: Any, data_dir: str, output_dir: str, resume_path: str = "", **settings: Any
    ) -> io.NodeOutput:
        """Train, and load what came out."""
        with job(cls) as run:
            from ...tasks.adapter import with_adapters
            from ...tasks.describe import describe_training
            from ...tasks.pictures import training_picture
            from ...tasks.train import train_lora

            result = train_lora(
                model,
                find(data_dir, "data_dir", "here"),
                output_folder(output_dir, "output_dir"),
                lora_options(settings),
                resume=find(resume_path, "resume_path", "here") if resume_path.strip() else None,
                on_progress=LossCurves(run.progress),
            )
            adapted = with_adapters(model, [result.adapter_path])
            picture = image_wire(training_picture(result.losses, result.history))
            text = told(run, describe_training(result), *result.notes, *result.report)
        files = str(result.adapter_path), picture, str(result.summary_path)
        return output(adapted, *files, text, text=text, players=[picture_shown(cls, picture)])


class SelvaLoraEvaluator(io.ComfyNode):
    """Adapters beside each other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SelvaLoraEvaluator",
            display_name="SelVA LoRA Evaluator",
            category="SelVA/train",
            description="Makes the same sounds with each adapter of a JSON file, and measures them.",
            is_output_node=True,
            inputs=[
                MODEL.Input("model", tooltip=f"{MODEL_TIP} It is the base of the comparison."),
                io.String.Input(
                    "eval_file",
                    default="eval_batch.json",
                    tooltip="JSON file with data_dir, output_dir and adapters; one without path is the base. "
                    f"{MODELS_FIRST}",
                ),
            ],
            outputs=[
                io.String.Output(display_name="summary_path", tooltip="JSON file with every number."),
                io.Image.Output(display_name="comparison_image", tooltip="Bars of the numbers."),
                io.String.Output(display_name="report", tooltip="The main numbers of each adapter."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, eval_file: str | None, **others: Any) -> str:
        """Changes with the file, its adapters and its clips."""
        found = looked_at(eval_file, "eval_file", "models")
        plans = [find_comparison(str(path)) for path in found]
        files = [Path(each.path) for plan in plans for each in plan.adapters if each.path]
        return fingerprint(*found, *(Path(plan.data_dir) for plan in plans), *files)

    @classmethod
    def execute(cls, model: Any, eval_file: str) -> io.NodeOutput:
        """Sounds beside each other, a table and a picture."""
        with job(cls) as run:
            from ...tasks.describe import describe_comparison
            from ...tasks.evaluate_adapters import evaluate_adapters
            from ...tasks.pictures import evaluation_picture

            found = evaluate_adapters(model, find_comparison(eval_file), on_progress=run.progress)
            picture = image_wire(evaluation_picture(found.summary))
            text = told(run, *describe_comparison(found.summary), *found.failures)
        return output(
            str(found.summary_path), picture, text, text=text, players=[picture_shown(cls, picture)]
        )


def lora_options(settings: dict[str, Any]) -> LoraOptions:
    """Settings of the node, where an alpha of 0 means what it does in saved workflows: twice the rank."""
    settings = filled("SelvaLoraTrainer", settings)
    return LoraOptions.parse(**settings | {"alpha": settings["alpha"] or 2.0 * settings["rank"]})
