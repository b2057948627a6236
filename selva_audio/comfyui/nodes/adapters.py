"""LoRA adapters in a loaded model."""

from typing import Any

from comfy_api.latest import io

from ..folders import find, fingerprint, looked_at
from ..host import job
from ..present import output, told
from ..schema import MODEL, MODEL_TIP


class SelvaLoraLoader(io.ComfyNode):
    """One more adapter in a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SelvaLoraLoader",
            display_name="SelVA LoRA Loader",
            category="SelVA",
            description="Gives a model with one more LoRA adapter; the model that comes in stays as it is.",
            inputs=[
                MODEL.Input("model", tooltip=f"{MODEL_TIP} Or from another SelVA LoRA Loader: they add up."),
                io.String.Input(
                    "adapter_path",
                    default="",
                    tooltip="A .pt or .safetensors file, or a PEFT folder. Relative: looked for in ComfyUI's "
                    "own folder, then in output, models and input.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-2.0,
                    max=2.0,
                    step=0.05,
                    tooltip="1 is as trained, 0 leaves the model as it is, under 0 goes the other way.",
                ),
            ],
            outputs=[
                MODEL.Output(display_name="model", tooltip="With the adapter."),
                io.String.Output(display_name="report", tooltip="What the adapter is."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter_path: str | None, **others: Any) -> str:
        """Changes with the file."""
        return fingerprint(*looked_at(adapter_path, "adapter_path", "base"))

    @classmethod
    def execute(cls, model: Any, adapter_path: str, strength: float) -> io.NodeOutput:
        """The model with the adapter; its generator is made at the first use."""
        with job(cls) as run:
            from ...tasks.adapter import describe_adapter, with_adapters

            path = find(adapter_path, "adapter_path", "base")
            adapted = with_adapters(model, [path], [strength])
            text = told(run, f"{path.name} at strength {strength:g}: {describe_adapter(path)}")
        return output(adapted, text, text=text)
