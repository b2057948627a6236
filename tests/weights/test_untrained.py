import pytest
import torch

from selva_audio.configs import VARIANTS
from selva_audio.weights.untrained import untrained_component, untrained_state

DEMO = VARIANTS["demo_16k"]


@pytest.mark.parametrize("component", sorted(DEMO.files))
def test_every_part_builds_and_is_the_same_each_time(component: str) -> None:
    first, second = (untrained_component(component, DEMO).state_dict() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(bool(value.isfinite().all()) for value in first.values())


def test_what_comes_out_is_of_the_size_of_what_goes_in() -> None:
    weight = untrained_state("generator", DEMO)["fused_blocks.0.attn.qkv.weight"]
    inputs = torch.randn(512, weight.shape[1], generator=torch.Generator().manual_seed(1))
    assert 0.8 < float((inputs @ weight.T).std()) < 1.25


def test_the_image_tower_can_be_left_out() -> None:
    whole, text = (untrained_state("clip", DEMO, image_tower=wanted) for wanted in (True, False))
    assert text.keys() < whole.keys()
