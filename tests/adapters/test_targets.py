import pytest
import torch
from small_generator import moved

from selva_audio.adapters import PRESETS, adapt, select_targets
from selva_audio.configs import VARIANTS
from selva_audio.errors import InputError
from selva_audio.models.generator import Generator


@pytest.fixture(scope="module")
def large() -> Generator:
    with torch.device("meta"):
        return Generator(VARIANTS["large_44k"].generator)


def test_names_and_endings_select_the_published_layers(large) -> None:
    assert len(select_targets(large, "qkv").targets) == 35
    assert len(select_targets(large, "attn.qkv").targets) == 35
    kinds = [each.kind for each in select_targets(large, "linear1").targets]
    assert (kinds.count("linear"), kinds.count("conv")) == (6, 27)
    assert {each.kind for each in select_targets(large, "conv").targets} == {"conv"}
    assert len(select_targets(large, "modulation").targets) == 36
    everything = [each.kind for each in select_targets(large, "all").targets]
    assert (everything.count("linear"), everything.count("conv")) == (107, 120)


@pytest.mark.parametrize("name", PRESETS)
def test_every_group_selects_something(large, name) -> None:
    assert select_targets(large, name).targets


def test_the_report_counts_what_each_name_matched(large) -> None:
    report = select_targets(large, "attn.qkv, linear1 qkv")
    assert report.counts == {"attn.qkv": 35, "linear1": 33, "qkv": 35}
    assert len(report.targets) == 68
    lines = report.lines(16)
    assert len(lines) == 69 and lines[0].startswith("68 layers")
    assert sum(each.num_parameters(16) for each in report.targets) == report.num_parameters(16)


def test_one_name_that_matches_nothing_is_an_error_beside_others(large) -> None:
    with pytest.raises(InputError, match=r"matches no layer.*'attn\.kqv'.*Did you mean 'attn\.qkv'"):
        select_targets(large, "qkv attn.kqv")
    with pytest.raises(InputError, match="No target"):
        select_targets(large, "  ")


def test_an_adapted_generator_has_the_same_layers(generator) -> None:
    adapted = adapt(generator, moved(generator, target="all"))
    assert select_targets(adapted, "all") == select_targets(generator, "all")
