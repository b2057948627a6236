"""The weights in the package, if they are there: size, format, and what they can do."""

import pytest
import torch

from recipes.demo_model import evaluate
from recipes.demo_model.classifier import MaterialClassifier
from recipes.demo_model.data import CONFIG, VARIANT
from selva_audio.weights import load_component
from selva_audio.weights.io import read_shapes, read_state_dict
from selva_audio.weights.places import BUNDLED

FILES = {part: BUNDLED / name for part, name in CONFIG.files.items()}
pytestmark = pytest.mark.skipif(
    not all(path.is_file() for path in FILES.values()), reason="the demo weights are not in this checkout"
)


def test_the_demo_model_is_at_most_16_megabytes():
    assert sum(path.stat().st_size for path in FILES.values()) <= 16e6


@pytest.mark.parametrize("part", FILES)
def test_parts_are_half_precision_and_load(part):
    shapes = read_shapes(FILES[part])
    assert all(dtype == torch.float16 for _, dtype in shapes.values() if dtype.is_floating_point)
    module = load_component(part, VARIANT, read_state_dict(FILES[part]))
    assert all(value.isfinite().all() for value in module.state_dict().values())


def test_the_card_lies_beside_the_weights_and_warns():
    card = (BUNDLED / "README.md").read_text()
    assert "means nothing on real footage" in card and "MIT" in card
    assert all(path.name in card for path in FILES.values())


@pytest.mark.slow
def test_eight_test_scenes_are_selective_and_on_time():
    demo = evaluate.Demo(BUNDLED)
    scores = evaluate.selectivity(demo, MaterialClassifier(), num_scenes=8, split="test", seed=0)
    assert scores["onset_f1_50ms"] >= 0.9 and scores["cross_hits"] <= 0.05
    # The bar over 64 scenes is .2; eight scenes scatter around it.
    assert scores["controls"]["null_sync"]["onset_f1_50ms"] < 0.3
    assert scores["controls"]["mixture"]["onset_f1_50ms"] <= 0.75
