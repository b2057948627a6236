"""Series of trainings from a file: adapters, learned tokens, vocoders; and how to leave the one that runs."""

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..curves import LossCurves
from ..folders import find
from ..host import job
from ..plans import SCHEDULERS, find_sweep
from ..present import output, picture_shown, told
from ..schema import MODEL, MODEL_TIP, MODELS_FIRST
from ..wires import image_wire

if TYPE_CHECKING:
    from ...options.sweep import Kind

_OF = {"lora": "LoRA trainings", "ti": "textual inversions", "vocoder": "tunings of the vocoder"}


class SelvaLoraScheduler(io.ComfyNode):
    """A series of trainings from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return _schema("SelvaLoraScheduler", "lora", "experiments.json")

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> float:
        """Always another one: what was cancelled, skipped or has failed can go on."""
        return float("nan")

    @classmethod
    def execute(cls, model: Any, experiments_file: str, again: bool = False) -> io.NodeOutput:
        """Train what is not done yet."""
        return _run(cls, "lora", model, experiments_file, again)


class SelvaTiScheduler(io.ComfyNode):
    """A series of textual inversions from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return _schema("SelvaTiScheduler", "ti", "ti_experiments.json")

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> float:
        """Always another one: what was cancelled, skipped or has failed can go on."""
        return float("nan")

    @classmethod
    def execute(cls, model: Any, experiments_file: str, again: bool = False) -> io.NodeOutput:
        """Train what is not done yet."""
        return _run(cls, "ti", model, experiments_file, again)


class SelvaBigvganScheduler(io.ComfyNode):
    """A series of vocoder tunings from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return _schema("SelvaBigvganScheduler", "vocoder", "bigvgan_experiments.json")

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> float:
        """Always another one: what was cancelled, skipped or has failed can go on."""
        return float("nan")

    @classmethod
    def execute(cls, model: Any, experiments_file: str, again: bool = False) -> io.NodeOutput:
        """Train what is not done yet."""
        return _run(cls, "vocoder", model, experiments_file, again)


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


def _schema(node: str, kind: "Kind", file: str) -> io.Schema:
    return io.Schema(
        node_id=node,
        display_name=SCHEDULERS[kind],
        category="SelVA/train",
        description=f"Runs a series of {_OF[kind]} from a JSON file; what is done is not done again.",
        is_output_node=True,
        inputs=[
            MODEL.Input("model", tooltip=MODEL_TIP),
            io.String.Input(
                "experiments_file", default=file, tooltip=f"JSON file of the series. {MODELS_FIRST}"
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


def _run(node: Any, kind: "Kind", model: Any, experiments_file: str, again: bool) -> io.NodeOutput:
    with job(node) as run:
        from ...tasks.pictures import curves_picture
        from ...tasks.sweep import run_sweep

        plan = find_sweep(experiments_file, kind)
        result = run_sweep(model, plan, again=again, on_progress=LossCurves(run.progress))
        picture = image_wire(curves_picture(result.summary))
        rows = [f"{each['id']}: {each['status']}" for each in result.summary["experiments"]]
        text = told(run, *rows, *result.notes)
    return output(str(result.summary_path), picture, text, text=text, players=[picture_shown(node, picture)])
