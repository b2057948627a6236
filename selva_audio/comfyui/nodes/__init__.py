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
from .ditto import SelvaDittoOptimizer
from .generate import SelvaFeatureExtractor, SelvaFoley, SelvaModelLoader, SelvaSampler
from .steering import SelvaActivationSteeringExtractor, SelvaActivationSteeringLoader
from .sweeps import SelvaBigvganScheduler, SelvaLoraScheduler, SelvaSkipExperiment, SelvaTiScheduler
from .textual_inversion import SelvaTextualInversionLoader, SelvaTextualInversionTrainer
from .training import SelvaLoraEvaluator, SelvaLoraTrainer
from .video import SelvaMux
from .vocoder import SelvaBigvganLoader, SelvaBigvganTrainer

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
    SelvaTextualInversionTrainer,
    SelvaTextualInversionLoader,
    SelvaTiScheduler,
    SelvaActivationSteeringExtractor,
    SelvaActivationSteeringLoader,
    SelvaBigvganTrainer,
    SelvaBigvganLoader,
    SelvaBigvganScheduler,
    SelvaDittoOptimizer,
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
