"""Activation steering: finding directions of a style, and loading them for the sampler."""

from typing import Any

from comfy_api.latest import io

from ...options import SteeringExtractionOptions, SteeringOptions
from ..folders import find, fingerprint, free_file, looked_at, result_file
from ..host import job
from ..present import output, told
from ..schema import MODEL, MODEL_TIP, MODELS_FIRST, OUTPUT_FIRST, STEERING_VECTORS, filled, widgets
from ..styles import VectorsFile

_EXTRACTOR, _LOADER = "SelvaActivationSteeringExtractor", "SelvaActivationSteeringLoader"
_FOLDER_TIP = f"Folder of NAME.npz with NAME.wav or .flac, or a data set. {MODELS_FIRST}"


class SelvaActivationSteeringExtractor(io.ComfyNode):
    """A folder of clips to steering vectors."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id=_EXTRACTOR,
            display_name="SelVA Activation Steering Extractor",
            category="SelVA/train",
            description="Finds how the conditions of some clips move the model, as directions that the "
            "sampler can add. What they are contrasted with decides what they mean.",
            is_output_node=True,
            inputs=[
                MODEL.Input("model", tooltip=MODEL_TIP),
                io.String.Input("data_dir", default="", tooltip=f"Clips of the style. {_FOLDER_TIP}"),
                io.String.Input(
                    "output_path",
                    default="steering_vectors.pt",
                    tooltip="File for the vectors, .pt; relative: below the output folder.",
                ),
                *widgets(_EXTRACTOR, SteeringExtractionOptions, "n_samples", "seed"),
                io.String.Input(
                    "contrast_dir",
                    default="",
                    optional=True,
                    tooltip="Clips of another style, to be steered away from: without them the direction "
                    f"mostly says that something is asked for. {_FOLDER_TIP}",
                ),
                *widgets(_EXTRACTOR, SteeringExtractionOptions, "time_bins", "prompt", optional=True),
                *widgets(_EXTRACTOR, SteeringExtractionOptions, "contrast_prompt", optional=True),
            ],
            outputs=[
                io.String.Output(
                    display_name="steering_path", tooltip="For SelVA Activation Steering Loader."
                ),
                io.String.Output(
                    display_name="report", tooltip="Length and consistency of the direction in each block."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, data_dir: str | None, contrast_dir: str | None = "", **others: Any) -> str:
        """Changes with the files of the data sets."""
        data = looked_at(data_dir, "data_dir", "models")
        return fingerprint(*data, *looked_at(contrast_dir, "contrast_dir", "models"))

    @classmethod
    def execute(
        cls, model: Any, data_dir: str, output_path: str, contrast_dir: str = "", **settings: Any
    ) -> io.NodeOutput:
        """Find the vectors and write them."""
        with job(cls) as run:
            from ...tasks.describe_style import describe_directions
            from ...tasks.steer import extract_steering

            options = SteeringExtractionOptions.parse(**filled(_EXTRACTOR, settings))
            result = extract_steering(
                model,
                find(data_dir, "data_dir", "models"),
                free_file(result_file(output_path, "output_path", ".pt")),
                options,
                contrast_dir=find(contrast_dir, "contrast_dir", "models") if contrast_dir.strip() else None,
                on_progress=run.progress,
            )
            text = told(run, *describe_directions(result))
        return output(result["output"], text, text=text)


class SelvaActivationSteeringLoader(io.ComfyNode):
    """A file of steering vectors for the sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id=_LOADER,
            display_name="SelVA Activation Steering Loader",
            category="SelVA",
            description="Reads steering vectors for SelVA Sampler, from a file of the extractor or of older "
            "packs, and says how they act.",
            inputs=[
                io.String.Input(
                    "path",
                    default="steering_vectors.pt",
                    tooltip=f"A .pt file. {OUTPUT_FIRST}",
                ),
                *widgets(_LOADER, SteeringOptions, "steering_mode", "steering_branch", optional=True),
                *widgets(_LOADER, SteeringOptions, "steering_blocks", optional=True),
            ],
            outputs=[
                STEERING_VECTORS.Output(display_name="steering_vectors", tooltip="For SelVA Sampler."),
                io.String.Output(display_name="report", tooltip="What the vectors are."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, path: str | None, **others: Any) -> str:
        """Changes with the file."""
        return fingerprint(*looked_at(path, "path"))

    @classmethod
    def execute(cls, path: str, **settings: Any) -> io.NodeOutput:
        """Where the vectors are and how they act; what they are is looked at now."""
        with job(cls) as run:
            from ...tasks.describe_style import describe_steering

            options = SteeringOptions.parse(**settings)
            found = find(path, "path")
            text = told(run, *describe_steering(found))
        how = options.model_dump(include={"steering_mode", "steering_branch", "steering_blocks"})
        return output(VectorsFile(found, how), text, text=text)
