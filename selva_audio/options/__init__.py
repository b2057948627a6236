"""User settings: frozen pydantic models that every front end is generated from.

One module per task family. A setting is declared once, with its range and its description.
"""

from .base import Options
from .features import FeatureOptions
from .generate import GenerateOptions, LoadOptions
from .output import OutputOptions

__all__ = ["FeatureOptions", "GenerateOptions", "LoadOptions", "Options", "OutputOptions"]
