"""User settings: frozen pydantic models that every front end is generated from.

One module per task family. A setting is declared once, with its range and its description.
"""

from .adapter import AdapterOptions
from .audio import (
    CompressOptions,
    ExciteOptions,
    MatchOptions,
    NormalizeOptions,
    ResampleOptions,
    RoundtripOptions,
    SmoothOptions,
)
from .base import Options
from .bench import BenchOptions
from .dataset import AugmentOptions, DatasetOptions, InspectOptions
from .ditto import DittoOptions
from .evaluate import Candidate, ComparisonOptions, SelectivityOptions
from .features import FeatureOptions
from .generate import GenerateOptions, LoadOptions
from .output import OutputOptions
from .scenes import SceneOptions
from .steering import SteeringExtractionOptions, SteeringOptions
from .style import InversionOptions, TextualInversionOptions, VocoderOptions
from .training import FitOptions, LoraOptions

__all__ = [
    "AdapterOptions",
    "AugmentOptions",
    "BenchOptions",
    "Candidate",
    "ComparisonOptions",
    "CompressOptions",
    "DatasetOptions",
    "DittoOptions",
    "ExciteOptions",
    "FeatureOptions",
    "FitOptions",
    "GenerateOptions",
    "InspectOptions",
    "InversionOptions",
    "LoadOptions",
    "LoraOptions",
    "MatchOptions",
    "NormalizeOptions",
    "Options",
    "OutputOptions",
    "ResampleOptions",
    "RoundtripOptions",
    "SceneOptions",
    "SelectivityOptions",
    "SmoothOptions",
    "SteeringExtractionOptions",
    "SteeringOptions",
    "TextualInversionOptions",
    "VocoderOptions",
]
