"""Sound and picture into one file."""

from typing import Any

from comfy_api.latest import InputImpl, io

from ...options import FeatureOptions, OutputOptions
from ..folders import output_file
from ..host import job
from ..present import output, told, video_player
from ..schema import VIDEO_INFO, widget, widgets
from ..wires import read_audio, read_clip

_CONTAINERS = ["auto", "mp4", "mov", "mkv", "webm"]


class SelvaMux(io.ComfyNode):
    """Picture and sound to a video file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaMux"
        return io.Schema(
            node_id=node,
            display_name="SelVA Mux",
            category="SelVA",
            description="Saves a video with a sound: one take, at the exact frame rate, in any size.",
            is_output_node=True,
            inputs=[
                io.MultiType.Input("video", [io.Image, io.Video], tooltip="An IMAGE batch, or a VIDEO."),
                io.Audio.Input("audio", tooltip="Cut, or filled with silence, to the length of the picture."),
                io.String.Input(
                    "filename_prefix",
                    default="video/SelVA",
                    tooltip="Path below the output folder, without number and ending.",
                ),
                VIDEO_INFO.Input(
                    "video_info", optional=True, tooltip="Of VHS Load Video: tells the frame rate."
                ),
                widget(node, FeatureOptions, "fps", optional=True),
                io.Int.Input(
                    "take", default=1, min=1, max=64, optional=True, tooltip="Which take of a batch."
                ),
                *widgets(node, OutputOptions, "original_audio", "original_gain_db", "duck_db", optional=True),
                io.Combo.Input(
                    "container",
                    options=_CONTAINERS,
                    default="auto",
                    optional=True,
                    tooltip="Kind of file; auto keeps a file's own where it can, else mp4.",
                ),
                *widgets(node, OutputOptions, "codec", "bitrate_kbps", optional=True),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The file that was saved."),
                io.String.Output(display_name="path", tooltip="Where it was saved."),
                io.String.Output(display_name="report", tooltip="What was used and what came out."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        video: Any,
        audio: Any,
        filename_prefix: str,
        video_info: Any = None,
        fps: float = 30.0,
        take: int = 1,
        container: str = "auto",
        **settings: Any,
    ) -> io.NodeOutput:
        """Write the file and show it."""
        with job(cls) as run:
            from ...tasks.describe import describe_audio
            from ...tasks.mux import fitting_suffix, join_sound

            options = OutputOptions.parse(**settings)
            clip, sound = read_clip(video, fps, video_info), read_audio(audio)
            path, subfolder = output_file(filename_prefix, fitting_suffix(clip.source, container))
            notes = join_sound(
                clip.source,
                sound,
                path,
                options,
                take=take - 1,
                fps=clip.fps,
                original=clip.original,
                on_progress=run.progress,
            )
            saved = f"{subfolder}/{path.name}".lstrip("/")
            text = told(run, saved, clip.text, f"take {take} of {describe_audio(sound)}", *notes)
        player = video_player(path, subfolder, saved=True)
        return output(InputImpl.VideoFromFile(str(path)), str(path), text, text=text, players=[player])
