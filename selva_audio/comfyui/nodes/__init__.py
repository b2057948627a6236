"""All nodes of the pack, one file per family. The names of classes are the ids in saved workflows."""

from .adapters import SelvaLoraLoader
from .audio import (
    SelvaHarmonicExciter,
    SelvaHfSmoother,
    SelvaOutputNormalizer,
    SelvaSpectralMatcher,
    SelvaVaeRoundtrip,
)
from .dataset import (
    SelvaDatasetBrowser,
    SelvaDatasetInspector,
    SelvaDatasetItemExtractor,
    SelvaDatasetLoader,
    SelvaDatasetSaver,
)
from .dataset_tools import (
    SelvaDatasetAugmenter,
    SelvaDatasetCompressor,
    SelvaDatasetHfSmoother,
    SelvaDatasetLUFSNormalizer,
    SelvaDatasetResampler,
    SelvaDatasetSpectralMatcher,
)
from .generate import SelvaFeatureExtractor, SelvaFoley, SelvaModelLoader, SelvaSampler
from .training import SelvaLoraEvaluator, SelvaLoraScheduler, SelvaLoraTrainer, SelvaSkipExperiment
from .video import SelvaMux

NODES = (
    SelvaModelLoader,
    SelvaFeatureExtractor,
    SelvaSampler,
    SelvaFoley,
    SelvaMux,
    SelvaLoraLoader,
    SelvaLoraTrainer,
    SelvaLoraScheduler,
    SelvaSkipExperiment,
    SelvaLoraEvaluator,
    SelvaVaeRoundtrip,
    SelvaHfSmoother,
    SelvaSpectralMatcher,
    SelvaHarmonicExciter,
    SelvaOutputNormalizer,
    SelvaDatasetBrowser,
    SelvaDatasetLoader,
    SelvaDatasetResampler,
    SelvaDatasetLUFSNormalizer,
    SelvaDatasetCompressor,
    SelvaDatasetSpectralMatcher,
    SelvaDatasetHfSmoother,
    SelvaDatasetAugmenter,
    SelvaDatasetInspector,
    SelvaDatasetItemExtractor,
    SelvaDatasetSaver,
)
