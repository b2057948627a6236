"""The weights in the package: size and format."""

import pytest
import torch

from recipes.demo_model.data import CONFIG, VARIANT
from selva_audio.weights import load_component
from selva_audio.weights.io import read_shapes, read_state_dict
from selva_audio.weights.places import BUNDLED

FILES = {part: BUNDLED / name for part, name in CONFIG.files.items()}


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
