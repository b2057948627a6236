"""DITTO: sound in the style of a folder of sounds, by choosing the noise that it starts from."""

from typing import Any

from comfy_api.latest import io

from ...options import DittoOptions, GenerateOptions
from ..curves import LossCurves
from ..folders import find, fingerprint, looked_at, with_inner
from ..host import job
from ..present import audio_player, output, picture_shown, told
from ..schema import AUDIO_PLAYER, FEATURES, MODEL, MODEL_TIP, MODELS_FIRST, PLAYER_TIP, filled, widgets
from ..styles import apply_styles, steering_inputs, token_inputs
from ..wires import audio_wire, image_wire

_NODE = "SelvaDittoOptimizer"


class SelvaDittoOptimizer(io.ComfyNode):
    """Features and sounds of a style to sound."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id=_NODE,
            display_name="SelVA DITTO Optimizer",
            category="SelVA",
            description="Makes the sound that is nearest to a folder of sounds, by changing the noise that "
            "it starts from. No weights change; it is done again for every clip, and takes minutes.",
            is_output_node=True,
            inputs=[
                MODEL.Input("model", tooltip=MODEL_TIP),
                FEATURES.Input("features", tooltip="From SelVA Feature Extractor."),
                *widgets(_NODE, GenerateOptions, "prompt", "negative_prompt"),
                io.String.Input(
                    "reference_dir",
                    default="",
                    tooltip=f"Sounds of the style, in this folder or in folders in it. {MODELS_FIRST}",
                ),
                *widgets(_NODE, DittoOptions, "n_opt_steps", "opt_lr", "n_ode_steps", "n_grad_steps"),
                *widgets(_NODE, DittoOptions, "style_weight", "gram_weight", "anchor_weight"),
                *widgets(_NODE, GenerateOptions, "steps", "cfg_strength", "seed"),
                *widgets(_NODE, GenerateOptions, "normalize", "target_lufs", optional=True),
                *widgets(_NODE, DittoOptions, "gradient", "surrogate_steps", "loss", optional=True),
                *widgets(_NODE, DittoOptions, "shell_weight", "renormalize", optional=True),
                *widgets(_NODE, DittoOptions, "check_every", "patience", optional=True),
                *widgets(_NODE, GenerateOptions, "duration", "solver", "loudness", optional=True),
                *widgets(_NODE, GenerateOptions, "true_peak_ceiling", "clip_conditioning", optional=True),
                *steering_inputs(),
                *token_inputs(),
                *widgets(_NODE, DittoOptions, "timing_weight", optional=True),
                AUDIO_PLAYER.Input("audioUI", optional=True, tooltip=PLAYER_TIP),
            ],
            outputs=[
                io.Audio.Output(display_name="audio", tooltip="The sound of the best noise."),
                io.Image.Output(display_name="loss_curve", tooltip="Style loss of each iteration."),
                io.String.Output(display_name="report", tooltip="Style loss before and after."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, reference_dir: str | None, **others: Any) -> str:
        """Changes with the sounds of the style."""
        found = looked_at(reference_dir, "reference_dir", "models")
        return fingerprint(*(each for folder in found for each in with_inner(folder)))

    @classmethod
    def execute(
        cls, model: Any, features: Any, reference_dir: str, audioUI: Any = None, **settings: Any
    ) -> io.NodeOutput:
        """Search the noise, then make its sound."""
        with job(cls) as run:
            from ...tasks.describe import describe_audio
            from ...tasks.describe_style import describe_search
            from ...tasks.ditto import ditto, ditto_figure
            from ...tasks.pictures import figure_picture

            model, settings, unused = apply_styles(model, filled(_NODE, settings))
            search = {name: settings.pop(name) for name in DittoOptions.model_fields if name in settings}
            result = ditto(
                model,
                features,
                find(reference_dir, "reference_dir", "models"),
                DittoOptions.parse(**search),
                GenerateOptions.parse(**settings),
                on_progress=LossCurves(run.progress, "optimising"),
            )
            picture = image_wire(figure_picture(ditto_figure(result.found)))
            text = told(run, *describe_search(result), describe_audio(result.audio), *unused)
        wire = audio_wire(result.audio)
        players = [audio_player(cls, wire), picture_shown(cls, picture)]
        return output(wire, picture, text, text=text, players=players)
