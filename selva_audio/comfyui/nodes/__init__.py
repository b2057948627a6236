"""All nodes of the pack, one file per family. The names of classes are the ids in saved workflows."""

from .audio import (
    SelvaHarmonicExciter,
    SelvaHfSmoother,
    SelvaOutputNormalizer,
    SelvaSpectralMatcher,
    SelvaVaeRoundtrip,
)
from .generate import SelvaFeatureExtractor, SelvaFoley, SelvaModelLoader, SelvaSampler
from .video import SelvaMux

NODES = (
    SelvaModelLoader,
    SelvaFeatureExtractor,
    SelvaSampler,
    SelvaFoley,
    SelvaMux,
    SelvaVaeRoundtrip,
    SelvaHfSmoother,
    SelvaSpectralMatcher,
    SelvaHarmonicExciter,
    SelvaOutputNormalizer,
)
