"""From a model's name and a video to a sound: loader, extractor, sampler, and all of it in one node."""

from pathlib import Path
from typing import Any

from comfy_api.latest import InputImpl, io

from ...options import FeatureOptions, GenerateOptions, LoadOptions, OutputOptions
from ..folders import cache_folder, fingerprint, temporary_file
from ..host import choose_policy, job
from ..present import audio_player, output, picture_shown, told, video_player
from ..schema import (
    AUDIO_PLAYER,
    FEATURES,
    MODEL,
    MODEL_TIP,
    PLAYER_TIP,
    VIDEO_INFO,
    widget,
    widgets,
)
from ..styles import apply_styles, steering_inputs, token_inputs
from ..unused import ignored_by
from ..wires import audio_wire, image_wire, read_clip, read_mask

_MASK_TIP = (
    "White where the sounding thing is; any size, one mask or one per frame. The rest becomes mid-grey."
)


class SelvaModelLoader(io.ComfyNode):
    """Variant to model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaModelLoader"
        return io.Schema(
            node_id=node,
            display_name="SelVA Model Loader",
            category="SelVA",
            description="Finds the files of a model, and downloads what is missing into models/selva.",
            inputs=[
                *widgets(node, LoadOptions, "variant", "precision"),
                widget(node, LoadOptions, "offload_strategy", field="offload"),
            ],
            outputs=[MODEL.Output(display_name="model", tooltip="For the other SelVA nodes.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, variant: str, precision: str, offload_strategy: str) -> Any:
        """Changes with the files of the variant, so that a replaced file is read again."""
        from ...tasks.models import where

        return fingerprint(*(Path(item.found) for item in where(variant) if item.found))

    @classmethod
    def execute(cls, variant: str, precision: str, offload_strategy: str) -> io.NodeOutput:
        """Locate every file; the parts are read at their first use."""
        with job(cls) as run:
            from ...tasks.generate import load_model_under
            from ...tasks.models import list_models

            options = LoadOptions.parse(variant=variant, precision=precision, offload=offload_strategy)
            policy, placed = choose_policy(options.precision, options.offload)
            model = load_model_under(policy, options.variant, on_progress=run.progress)
            files = next(info.files for info in list_models() if info.variant == options.variant)
            licences = "; ".join(dict.fromkeys(file.licence for file in files))
            rate = f"{options.variant}: {model.config.sample_rate} Hz, {placed}"
            text = told(run, rate, f"Licences of the weights, not legal advice: {licences}")
        return output(model, text=text)


class SelvaFeatureExtractor(io.ComfyNode):
    """Picture and prompt to features."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaFeatureExtractor"
        return io.Schema(
            node_id=node,
            display_name="SelVA Feature Extractor",
            category="SelVA",
            description="Looks at a video for the one source that the prompt names.",
            is_output_node=True,
            inputs=[
                MODEL.Input("model", tooltip=MODEL_TIP),
                io.MultiType.Input("video", [io.Image, io.Video], tooltip="An IMAGE batch, or a VIDEO."),
                widget(node, FeatureOptions, "prompt"),
                VIDEO_INFO.Input(
                    "video_info", optional=True, tooltip="Of VHS Load Video: tells the frame rate."
                ),
                *widgets(node, FeatureOptions, "fps", "duration", "cache_dir", "name", optional=True),
                io.Mask.Input("mask", optional=True, tooltip=_MASK_TIP),
                *widgets(node, FeatureOptions, "mask_strength", "mask_clip", "mask_sync", optional=True),
                *widgets(node, FeatureOptions, "start", "clip_conditioning", optional=True),
            ],
            outputs=[
                FEATURES.Output(display_name="features", tooltip="For SelVA Sampler."),
                io.Float.Output(display_name="fps", tooltip="Frames per second that were used."),
                io.String.Output(display_name="prompt", tooltip="The prompt, to type it only once."),
                io.String.Output(display_name="report", tooltip="What was used and what came out."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        video: Any,
        prompt: str,
        video_info: Any = None,
        fps: float = 30.0,
        cache_dir: str = "",
        mask: Any = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Features from the cache, or made now."""
        with job(cls) as run:
            from ...tasks.describe import describe_features
            from ...tasks.generate import extract_features
            from ...tasks.pictures import masked_picture

            clip = read_clip(video, fps, video_info)
            masks, note = read_mask(mask)
            options = FeatureOptions.parse(
                prompt=prompt, fps=clip.fps, cache_dir=cache_folder(cache_dir), **settings
            )
            features = extract_features(model, clip.source, options, masks, on_progress=run.progress)
            ignored = ignored_by(options, GenerateOptions(), has_mask=masks is not None)
            came = f"{clip.text}, {describe_features(features)}"
            text = told(run, came, note, *ignored)
            shown = []
            if masks is not None:
                seen = masked_picture(
                    clip.source, masks, options.mask_strength, fps=clip.fps, start=options.start
                )
                shown = [picture_shown(cls, image_wire(seen))]
        return output(features, features.fps, features.prompt, text, text=text, players=shown)


class SelvaSampler(io.ComfyNode):
    """Features to sound."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaSampler"
        return io.Schema(
            node_id=node,
            display_name="SelVA Sampler",
            category="SelVA",
            description="Makes the sound of the source that the features were extracted for.",
            is_output_node=True,
            inputs=[
                MODEL.Input("model", tooltip=MODEL_TIP),
                FEATURES.Input("features", tooltip="From SelVA Feature Extractor."),
                *widgets(node, GenerateOptions, "prompt", "negative_prompt", "duration", "steps"),
                *widgets(node, GenerateOptions, "cfg_strength", "seed"),
                *steering_inputs(),
                *widgets(node, GenerateOptions, "normalize", "target_lufs", optional=True),
                *token_inputs(),
                *widgets(node, GenerateOptions, "takes", "solver", "loudness", optional=True),
                *widgets(node, GenerateOptions, "true_peak_ceiling", "clip_conditioning", optional=True),
                AUDIO_PLAYER.Input("audioUI", optional=True, tooltip=PLAYER_TIP),
            ],
            outputs=[
                io.Audio.Output(display_name="audio", tooltip="One batch item per take."),
                io.Image.Output(display_name="spectrogram", tooltip="Picture of the sound."),
                io.String.Output(display_name="report", tooltip="What came out."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        features: Any,
        audioUI: Any = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """The sound, one take per seed."""
        with job(cls) as run:
            from ...tasks.describe import describe_audio
            from ...tasks.generate import generate
            from ...tasks.pictures import spectrogram_picture

            model, settings, unused = apply_styles(model, settings)
            options = GenerateOptions.parse(**settings)
            audio = generate(model, features, options, on_progress=run.progress)
            picture = image_wire(spectrogram_picture(audio))
            ignored = ignored_by(FeatureOptions(), options)
            seed = f"seed {options.seed}"
            text = told(run, f"{describe_audio(audio)}, {seed}", *audio.notes, *ignored, *unused)
        wire = audio_wire(audio)
        return output(wire, picture, text, text=text, players=[audio_player(cls, wire)])


class SelvaFoley(io.ComfyNode):
    """Video to video with its sound."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaFoley"
        return io.Schema(
            node_id=node,
            display_name="SelVA Foley",
            category="SelVA",
            description="A video in, the same video with the sound of the source that the prompt names out.",
            is_output_node=True,
            inputs=[
                MODEL.Input("model", tooltip=MODEL_TIP),
                io.Video.Input("video", tooltip="Its pictures are copied where they come from a file."),
                *widgets(node, GenerateOptions, "prompt", "negative_prompt", "steps", "cfg_strength", "seed"),
                io.Mask.Input("mask", optional=True, tooltip=_MASK_TIP),
                *widgets(node, OutputOptions, "original_audio", "original_gain_db", "duck_db", optional=True),
                *widgets(node, GenerateOptions, "takes", "normalize", "target_lufs", optional=True),
                *steering_inputs(),
                *token_inputs(),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="With the first take."),
                io.Audio.Output(
                    display_name="audio", tooltip="The new sound alone, one batch item per take."
                ),
                io.Image.Output(display_name="spectrogram", tooltip="Picture of the sound."),
                io.String.Output(display_name="report", tooltip="What was used and what came out."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        video: Any,
        prompt: str,
        negative_prompt: str = "",
        mask: Any = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Features, sound, and the video with it in the temp folder, for Save Video."""
        with job(cls) as run:
            from ...tasks.describe import describe_audio, describe_features
            from ...tasks.foley import foley
            from ...tasks.mux import fitting_suffix
            from ...tasks.pictures import spectrogram_picture

            model, settings, unused = apply_styles(model, settings)
            clip, (masks, note) = read_clip(video), read_mask(mask)
            result = foley(
                model,
                clip.source,
                temporary_file(fitting_suffix(clip.source)),
                *_foley_options(prompt, negative_prompt, clip.fps, settings),
                mask=masks,
                original=clip.original,
                on_progress=run.progress,
            )
            picture = image_wire(spectrogram_picture(result.audio))
            came = f"{clip.text}, {describe_features(result.features)}"
            text = told(run, came, describe_audio(result.audio), note, *result.notes, *unused)
        made = InputImpl.VideoFromFile(str(result.video))
        player = video_player(result.video, result.video.parent.name, saved=False)
        return output(made, audio_wire(result.audio), picture, text, text=text, players=[player])


def _foley_options(
    prompt: str, negative_prompt: str, fps: float, settings: dict[str, Any]
) -> tuple[FeatureOptions, GenerateOptions, OutputOptions]:
    mixing = {name: value for name, value in settings.items() if name in OutputOptions.model_fields}
    sampling = {name: value for name, value in settings.items() if name not in mixing}
    looking = FeatureOptions.parse(
        prompt=prompt, negative_prompt=negative_prompt, fps=fps, cache_dir=cache_folder("")
    )
    return looking, GenerateOptions.parse(**sampling), OutputOptions.parse(**mixing)
