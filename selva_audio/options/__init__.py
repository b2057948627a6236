"""User settings: frozen pydantic models that every front end is generated from.

One module per task family. A setting is declared once, with its range and its description.
"""

from .adapter import AdapterOptions
from .audio import ExciteOptions, MatchOptions, NormalizeOptions, RoundtripOptions, SmoothOptions
from .base import Options
from .dataset import DatasetOptions
from .evaluate import SelectivityOptions
from .features import FeatureOptions
from .generate import GenerateOptions, LoadOptions
from .output import OutputOptions
from .scenes import SceneOptions

__all__ = [
    "AdapterOptions",
    "DatasetOptions",
    "ExciteOptions",
    "FeatureOptions",
    "GenerateOptions",
    "LoadOptions",
    "MatchOptions",
    "NormalizeOptions",
    "Options",
    "OutputOptions",
    "RoundtripOptions",
    "SceneOptions",
    "SelectivityOptions",
    "SmoothOptions",
]
