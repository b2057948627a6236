"""Audio tools: a sound in, a sound and a report per take out.

Only ``roundtrip`` needs a model.
``process_file`` does any of them from file to file.
"""

from .colour import ExciteReport, MatchReport, SmoothReport, excite, match_spectrum, smooth_hf
from .dynamics import CompressReport, compress
from .files import process_file
from .level import NormalizeReport, normalize_output
from .processed import Processed
from .rate import ResampleReport, resample_audio
from .roundtrip import RoundtripReport, roundtrip

__all__ = [
    "CompressReport",
    "ExciteReport",
    "MatchReport",
    "NormalizeReport",
    "Processed",
    "ResampleReport",
    "RoundtripReport",
    "SmoothReport",
    "compress",
    "excite",
    "match_spectrum",
    "normalize_output",
    "process_file",
    "resample_audio",
    "roundtrip",
    "smooth_hf",
]
