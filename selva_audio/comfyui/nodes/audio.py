"""Tools for a sound that exists already: each gives the sound, a picture of before and after, a report."""

from typing import Any

from comfy_api.latest import io

from ...options import ExciteOptions, MatchOptions, NormalizeOptions, Options, RoundtripOptions, SmoothOptions
from ..host import job
from ..present import audio_player, output, told
from ..schema import AUDIO_PLAYER, MODEL, MODEL_TIP, PLAYER_TIP, widgets
from ..wires import audio_wire, image_wire, read_audio


class SelvaVaeRoundtrip(io.ComfyNode):
    """A sound through the model's VAE and vocoder and back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        model = MODEL.Input("model", tooltip=MODEL_TIP)
        extras = widgets("SelvaVaeRoundtrip", RoundtripOptions, "split", optional=True)
        return _schema(
            "SelvaVaeRoundtrip",
            "SelVA VAE Roundtrip",
            "What of a sound the model can say at all: encoded, decoded, and measured.",
            [model, _audio(), *extras],
            name="audio_reconstructed",
        )

    @classmethod
    def execute(cls, model: Any, audio: Any, audioUI: Any = None, **settings: Any) -> io.NodeOutput:
        """The sound after the round trip."""
        return _run(cls, "roundtrip", RoundtripOptions, settings, audio, model)


class SelvaHfSmoother(io.ComfyNode):
    """High frequencies turned down."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaHfSmoother"
        usual = widgets(node, SmoothOptions, "cutoff_hz", "blend")
        extras = widgets(node, SmoothOptions, "transition_hz", optional=True)
        about = "Turns high frequencies down without moving anything in time."
        return _schema(node, "SelVA HF Smoother", about, [_audio(), *usual, *extras])

    @classmethod
    def execute(cls, audio: Any, audioUI: Any = None, **settings: Any) -> io.NodeOutput:
        """The smoothed sound."""
        return _run(cls, "smooth_hf", SmoothOptions, settings, audio)


class SelvaSpectralMatcher(io.ComfyNode):
    """Long-term spectrum towards that of the VAE's training sounds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaSpectralMatcher"
        usual = widgets(node, MatchOptions, "mode", "strength", "max_gain_db")
        extras = widgets(node, MatchOptions, "keep_level", optional=True)
        about = "Brings the long-term spectrum towards that of the sounds the VAE was trained on."
        return _schema(node, "SelVA Spectral Matcher", about, [_audio(), *usual, *extras])

    @classmethod
    def execute(cls, audio: Any, audioUI: Any = None, **settings: Any) -> io.NodeOutput:
        """The matched sound."""
        return _run(cls, "match_spectrum", MatchOptions, settings, audio)


class SelvaHarmonicExciter(io.ComfyNode):
    """Overtones added."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaHarmonicExciter"
        usual = widgets(node, ExciteOptions, "cutoff_hz", "drive", "mix")
        about = "Adds overtones of what lies above a frequency."
        return _schema(node, "SelVA Harmonic Exciter", about, [_audio(), *usual])

    @classmethod
    def execute(cls, audio: Any, audioUI: Any = None, **settings: Any) -> io.NodeOutput:
        """The brighter sound."""
        return _run(cls, "excite", ExciteOptions, settings, audio)


class SelvaOutputNormalizer(io.ComfyNode):
    """One level for every take."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaOutputNormalizer"
        usual = widgets(node, NormalizeOptions, "target_lufs", "true_peak_dbtp")
        extras = widgets(node, NormalizeOptions, "loudness", optional=True)
        about = "Brings each take to a level and holds it under a true-peak ceiling."
        return _schema(node, "SelVA Output Normalizer", about, [_audio(), *usual, *extras])

    @classmethod
    def execute(cls, audio: Any, audioUI: Any = None, **settings: Any) -> io.NodeOutput:
        """The normalized sound."""
        return _run(cls, "normalize_output", NormalizeOptions, settings, audio)


def _run(
    node: Any, tool: str, options: type[Options], settings: dict[str, Any], audio: Any, *models: Any
) -> io.NodeOutput:
    """One tool of ``tasks.audio``, imported by name where a missing package becomes a sentence."""
    with job(node) as run:
        from ...tasks import audio as tools
        from ...tasks.describe import describe_audio
        from ...tasks.pictures import comparison_picture

        sound = read_audio(audio)
        done = getattr(tools, tool)(*models, sound, options.parse(**settings), on_progress=run.progress)
        picture = image_wire(comparison_picture(sound, done.audio))
        sentences = [report.sentence for report in done.reports]
        text = told(run, *sentences, *done.audio.notes, describe_audio(done.audio))
    wire = audio_wire(done.audio)
    return output(wire, picture, text, text=text, players=[audio_player(node, wire)])


def _schema(
    node: str, display_name: str, about: str, inputs: list[io.Input], *, name: str = "audio"
) -> io.Schema:
    return io.Schema(
        node_id=node,
        display_name=display_name,
        category="SelVA/audio",
        description=about,
        is_output_node=True,
        inputs=[*inputs, AUDIO_PLAYER.Input("audioUI", optional=True, tooltip=PLAYER_TIP)],
        outputs=[
            io.Audio.Output(display_name=name, tooltip="Every take of the sound that came in."),
            io.Image.Output(display_name="spectrogram", tooltip="Before and after."),
            io.String.Output(display_name="report", tooltip="What was done and measured."),
        ],
        hidden=[io.Hidden.unique_id],
    )


def _audio() -> io.Input:
    return io.Audio.Input("audio", tooltip="Any AUDIO; every take and channel is worked on.")
