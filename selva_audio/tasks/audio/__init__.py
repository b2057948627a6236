"""Audio tools: a sound in, a sound and a report per take out.

``smooth_hf``, ``match_spectrum``, ``excite`` and ``normalize_output`` need no model; ``roundtrip`` needs one.
``process_file`` does any of them from file to file.
"""

from .colour import ExciteReport, MatchReport, SmoothReport, excite, match_spectrum, smooth_hf
from .files import process_file
from .level import NormalizeReport, normalize_output
from .processed import Processed
from .roundtrip import RoundtripReport, roundtrip

__all__ = [
    "ExciteReport",
    "MatchReport",
    "NormalizeReport",
    "Processed",
    "RoundtripReport",
    "SmoothReport",
    "excite",
    "match_spectrum",
    "normalize_output",
    "process_file",
    "roundtrip",
    "smooth_hf",
]
