"""The audio tools on every sound of a data set, and variants of them."""

from typing import Any

from comfy_api.latest import io

from ...options import (
    AugmentOptions,
    CompressOptions,
    MatchOptions,
    NormalizeOptions,
    Options,
    ResampleOptions,
    SmoothOptions,
)
from ..host import job
from ..present import output, told
from ..schema import AUDIO_DATASET, DATASET_TIP, widgets
from ..sounds import read_sounds, sounds_wire, told_of


class SelvaDatasetResampler(io.ComfyNode):
    """One sample rate for all sounds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaDatasetResampler"
        usual = widgets(node, ResampleOptions, "target_sr")
        return _schema(node, "Resampler", "Brings every sound to one sample rate.", usual)

    @classmethod
    def execute(cls, dataset: Any, **settings: Any) -> io.NodeOutput:
        """The resampled sounds."""
        return _run(cls, "resample_sounds", ResampleOptions, settings, dataset)


class SelvaDatasetLUFSNormalizer(io.ComfyNode):
    """One level for all sounds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaDatasetLUFSNormalizer"
        usual = widgets(node, NormalizeOptions, "target_lufs", "true_peak_dbtp")
        about = "Brings every sound to a loudness and holds it under a true-peak ceiling."
        return _schema(node, "LUFS Normalizer", about, usual)

    @classmethod
    def execute(cls, dataset: Any, **settings: Any) -> io.NodeOutput:
        """The normalized sounds."""
        return _run(cls, "normalize_sounds", NormalizeOptions, settings, dataset)


class SelvaDatasetCompressor(io.ComfyNode):
    """What is loud turned down."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaDatasetCompressor"
        usual = widgets(node, CompressOptions, "threshold_db", "ratio", "attack_ms", "release_ms", "mix")
        about = "Turns down what is loud in every sound, and mixes that with the sound as it was."
        return _schema(node, "Compressor", about, usual)

    @classmethod
    def execute(cls, dataset: Any, **settings: Any) -> io.NodeOutput:
        """The compressed sounds."""
        return _run(cls, "compress_sounds", CompressOptions, settings, dataset)


class SelvaDatasetSpectralMatcher(io.ComfyNode):
    """Long-term spectra towards that of the VAE's training sounds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaDatasetSpectralMatcher"
        usual = widgets(node, MatchOptions, "mode", "strength", "max_gain_db")
        extras = widgets(node, MatchOptions, "keep_level", optional=True)
        about = "Brings the spectrum of every sound towards that of the sounds the VAE was trained on."
        return _schema(node, "Spectral Matcher", about, [*usual, *extras])

    @classmethod
    def execute(cls, dataset: Any, **settings: Any) -> io.NodeOutput:
        """The matched sounds."""
        return _run(cls, "match_sounds", MatchOptions, settings, dataset)


class SelvaDatasetHfSmoother(io.ComfyNode):
    """High frequencies turned down."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaDatasetHfSmoother"
        usual = widgets(node, SmoothOptions, "cutoff_hz", "blend")
        extras = widgets(node, SmoothOptions, "transition_hz", optional=True)
        about = "Turns high frequencies of every sound down without moving anything in time."
        return _schema(node, "HF Smoother", about, [*usual, *extras])

    @classmethod
    def execute(cls, dataset: Any, **settings: Any) -> io.NodeOutput:
        """The smoothed sounds."""
        return _run(cls, "smooth_sounds", SmoothOptions, settings, dataset)


class SelvaDatasetAugmenter(io.ComfyNode):
    """Variants of all sounds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        node = "SelvaDatasetAugmenter"
        usual = widgets(node, AugmentOptions, "variants_per_clip", "gain_range_db", "seed")
        ranges = widgets(node, AugmentOptions, "pitch_range_semitones", "time_stretch_range", optional=True)
        extras = widgets(node, AugmentOptions, "keep_originals", optional=True)
        about = "Makes variants of every sound: other levels, pitches and lengths."
        return _schema(node, "Augmenter", about, [*usual, *ranges, *extras])

    @classmethod
    def execute(cls, dataset: Any, **settings: Any) -> io.NodeOutput:
        """The sounds and their variants."""
        return _run(cls, "augment_sounds", AugmentOptions, settings, dataset)


def _run(
    node: Any, tool: str, options: type[Options], settings: dict[str, Any], dataset: Any
) -> io.NodeOutput:
    """One tool of ``tasks.sounds``, imported by name where a missing package becomes a sentence."""
    with job(node) as run:
        from ...tasks import sounds as tools

        parsed = options.parse(**settings)
        done = getattr(tools, tool)(read_sounds(dataset), parsed, on_progress=run.progress)
        text = told(run, told_of(done))
    return output(sounds_wire(done), text=text)


def _schema(node: str, name: str, about: str, inputs: list[io.Input]) -> io.Schema:
    return io.Schema(
        node_id=node,
        display_name=f"SelVA Dataset {name}",
        category="SelVA/dataset",
        description=about,
        inputs=[AUDIO_DATASET.Input("dataset", tooltip=DATASET_TIP), *inputs],
        outputs=[AUDIO_DATASET.Output(display_name="dataset", tooltip="For the other dataset nodes.")],
        hidden=[io.Hidden.unique_id],
    )
