"""Training: one LoRA adapter, a series of them, a way to leave the one that runs, and a comparison."""

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ...options.training import LoraOptions
from ..curves import LossCurves
from ..folders import find, fingerprint, output_folder
from ..host import job
from ..plans import find_comparison, find_sweep
from ..present import output, picture_shown, told
from ..schema import MODEL, MODEL_TIP, filled, widgets
from ..wires import image_wire

_FILE_TIP = "Relative: looked for in ComfyUI's models folder, then in output, its own folder and input."


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
    def fingerprint_inputs(cls, data_dir: str, resume_path: str = "", **others: Any) -> str:
        """Changes with the files of the data set."""
        resume = [find(resume_path, "resume_path", "here")] if resume_path.strip() else []
        return fingerprint(find(data_dir, "data_dir", "here"), *resume)

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


class SelvaLoraScheduler(io.ComfyNode):
    """A series of trainings from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SelvaLoraScheduler",
            display_name="SelVA LoRA Scheduler",
            category="SelVA/train",
            description="Runs a series of LoRA trainings from a JSON file; what is done is not done again.",
            is_output_node=True,
            inputs=[
                MODEL.Input("model", tooltip=MODEL_TIP),
                io.String.Input(
                    "experiments_file",
                    default="experiments.json",
                    tooltip=f"JSON file of the series. {_FILE_TIP}",
                ),
                io.Boolean.Input(
                    "again",
                    default=False,
                    optional=True,
                    tooltip="Take up experiments that were skipped in an earlier run.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="summary_path", tooltip="JSON file that tells of every run."),
                io.Image.Output(display_name="comparison_curves", tooltip="Losses of all experiments."),
                io.String.Output(display_name="report", tooltip="What became of each experiment."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> float:
        """Always another one: what was cancelled, skipped or has failed can go on."""
        return float("nan")

    @classmethod
    def execute(cls, model: Any, experiments_file: str, again: bool = False) -> io.NodeOutput:
        """Train what is not done yet."""
        with job(cls) as run:
            from ...tasks.pictures import curves_picture
            from ...tasks.sweep import run_sweep

            plan = find_sweep(experiments_file)
            result = run_sweep(model, plan, again=again, on_progress=LossCurves(run.progress))
            picture = image_wire(curves_picture(result.summary))
            rows = [f"{each['id']}: {each['status']}" for each in result.summary["experiments"]]
            text = told(run, *rows, *result.notes)
        return output(
            str(result.summary_path), picture, text, text=text, players=[picture_shown(cls, picture)]
        )


class SelvaSkipExperiment(io.ComfyNode):
    """Leaves the experiment that runs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SelvaSkipExperiment",
            display_name="SelVA Skip Experiment",
            category="SelVA/train",
            description="Asks a series of trainings that runs elsewhere to leave the present one. A series "
            "of this ComfyUI holds the queue; the button on its node does the same.",
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "output_root",
                    default="",
                    tooltip="Folder of the series. Relative: looked for below the output folder.",
                )
            ],
            outputs=[io.String.Output(display_name="flag_path", tooltip="The request that was written.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> float:
        """Always another one: each run is a request."""
        return float("nan")

    @classmethod
    def execute(cls, output_root: str) -> io.NodeOutput:
        """Write the request."""
        with job(cls) as run:
            from ...tasks.sweep import skip_experiment

            path = skip_experiment(find(output_root, "output_root", "output"))
            text = told(run, f"Asked: {path}")
        return output(str(path), text=text)


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
                    f"{_FILE_TIP}",
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
    def fingerprint_inputs(cls, eval_file: str, **others: Any) -> str:
        """Changes with the file, its adapters and its clips."""
        plan = find_comparison(eval_file)
        files = [Path(each.path) for each in plan.adapters if each.path]
        return fingerprint(find(eval_file, "eval_file", "models"), Path(plan.data_dir), *files)

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
