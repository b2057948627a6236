from dataclasses import replace

import pytest
import torch
from small_generator import make_generator, moved

from selva_audio.adapters import Delta, dense
from selva_audio.adapters.intruders import (
    THRESHOLDS,
    find_intruders,
    random_change,
    reduce_intruders,
    survey_intruders,
)
from selva_audio.adapters.targets import adaptable_layers

SIZE = 24
ALL_ZERO = dict.fromkeys(THRESHOLDS, 0)
ONE_EACH = dict.fromkeys(THRESHOLDS, 1)


def orthogonal(seed: int, size: int = SIZE) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=random, dtype=torch.float64))[0]


def base_weight(size: int = SIZE) -> torch.Tensor:
    """Strengths well apart from each other."""
    return (orthogonal(0, size) * torch.linspace(size, 1, size) ** 1.5) @ orthogonal(1, size).T


def planted(weight: torch.Tensor, size: float) -> Delta:
    """One direction that is an even mixture of the last half of the base's, with an input of its own."""
    u, _, vh = torch.linalg.svd(weight)
    half = len(weight) // 2
    mixture = u[:, half:].sum(dim=1, keepdim=True) / half**0.5
    inputs = vh[half:].sum(dim=0, keepdim=True) / half**0.5
    return Delta(inputs.float(), (size * mixture).float(), 1.0)


def test_a_planted_direction_is_the_one_intruder_and_comes_first() -> None:
    weight = base_weight()
    found = find_intruders(weight, planted(weight, 3000.0))
    assert found.counts == found.right.counts == ONE_EACH
    assert min(found.matches) == found.matches[0] < 0.3 and found.singular_values[0] > 2500
    assert min(found.right.matches) == found.right.matches[0] < 0.3
    changed = float((weight + dense(planted(weight, 3000.0))).square().sum())
    assert found.energy[0.5] == pytest.approx(found.singular_values[0] ** 2 / changed)


@pytest.mark.parametrize("factor", [0.0, 0.3])
def test_no_change_and_a_change_along_the_base_bring_none(factor: float) -> None:
    weight = base_weight()
    u, sigma, vh = torch.linalg.svd(weight)
    along = Delta(vh[:3].float(), (u[:, :3] * sigma[:3] * factor).float(), 1.0)
    found = find_intruders(weight, along)
    assert found.counts == found.right.counts == found.clustered_counts == ALL_ZERO
    assert min(found.matches) > 0.99 and set(found.energy.values()) == {0.0}


def test_the_control_has_the_norm_and_rank_of_the_change() -> None:
    change = dense(planted(base_weight(), 30.0))
    control = random_change(change, 3, 0)
    assert float(control.norm()) == pytest.approx(float(change.norm()))
    assert int(torch.linalg.matrix_rank(control)) == 3


def test_a_large_random_change_counts_as_its_control_does() -> None:
    weight = base_weight()
    u, sigma, vh = torch.linalg.svd(random_change(dense(planted(weight, 3000.0)), 4, seed=7))
    found = find_intruders(weight, Delta(vh[:4].float(), (u[:, :4] * sigma[:4]).float(), 1.0))
    assert found.counts[0.6] >= 3 and found.control[0.6] >= 3
    assert 0.5 <= found.ratio[0.6] <= 2 and found.ratio[0.6] == found.counts[0.6] / found.control[0.6]
    small = find_intruders(weight, planted(weight, 1e-3))
    assert small.control == ALL_ZERO and set(small.ratio.values()) == {None}


def test_directions_of_equal_strength_that_only_mix_are_not_new_in_the_cluster_variant() -> None:
    strengths = torch.cat((torch.linspace(50.03, 50, 4), torch.linspace(10, 1, SIZE - 4))).double()
    u, v = orthogonal(0), orthogonal(1)
    weight = (u * strengths) @ v.T
    # A little more of an even mixture of the four equal ones: the first vector turns into it.
    mixed, inputs = (each[:, :4].sum(dim=1) / 2 for each in (u, v))
    found = find_intruders(weight, Delta(inputs[None].float(), (0.5 * mixed[:, None]).float(), 1.0))
    assert found.counts[0.8] >= 1
    assert found.clustered_counts == ALL_ZERO and found.right.clustered_counts == ALL_ZERO
    assert all(c >= m for c, m in zip(found.clustered, found.matches, strict=True))


def test_a_direction_planted_in_the_values_alone_is_found_there_alone() -> None:
    weight = torch.zeros(3 * SIZE, SIZE, dtype=torch.float64)
    for row in range(3):
        weight[row::3] = base_weight()
    inside = planted(base_weight(), 3000.0)
    b = torch.zeros(3 * SIZE, 1)
    b[2::3] = inside.b
    delta = Delta(inside.a, b, 1.0)
    found = find_intruders(weight, delta, path="fused_blocks.0.attn.qkv")
    assert list(found.parts) == ["q", "k", "v"]
    assert [part.counts for part in found.parts.values()] == [ALL_ZERO, ALL_ZERO, ONE_EACH]
    assert find_intruders(weight, delta, path="fused_blocks.0.linear1").parts == {}


def test_taking_the_intruder_out_leaves_none_and_half_of_it_less() -> None:
    generator = make_generator()
    path = "joint_blocks.0.latent_block.attn.qkv"
    weight = adaptable_layers(generator)[path].weight
    u, sigma, vh = torch.linalg.svd(weight.detach().double(), full_matrices=True)
    new = u[:, -1:]  # more outputs than inputs: the base has nothing in this direction
    delta = Delta(vh[-1:].float(), (5 * sigma[0] * new).float(), 1.0)
    adapter = replace(moved(generator, target="qkv"), deltas={path: delta})
    assert find_intruders(weight, delta).counts == ONE_EACH
    without, done = reduce_intruders(generator, adapter, 0.0)
    assert [(each.path, each.intruders) for each in done] == [(path, 1)]
    assert find_intruders(weight, without.deltas[path]).counts == ALL_ZERO
    assert without.deltas[path].rank == delta.rank and 0 <= done[0].relative_error <= 1
    half, _ = reduce_intruders(generator, adapter, 0.5)
    strength = [float(new[:, 0] @ dense(each) @ vh[-1]) for each in (delta, half.deltas[path])]
    assert strength[1] == pytest.approx(0.5 * strength[0], rel=0.05)


def test_what_has_no_intruders_is_left_as_it_is() -> None:
    generator = make_generator()
    adapter = moved(generator, target="qkv conv", amount=1e-3, init_mode="pissa")
    same, done = reduce_intruders(generator, adapter, 0.0, threshold=0.3)
    assert all(each.intruders == 0 and each.relative_error < 1e-6 for each in done)
    for path, delta in adapter.deltas.items():
        assert float((dense(same.deltas[path]) - dense(delta)).norm() / dense(delta).norm()) < 1e-4


def test_a_survey_adds_up_the_layers_with_their_control_and_leaves_some_out_evenly() -> None:
    generator = make_generator()
    adapter = moved(generator, target="qkv conv", amount=1.0)
    layers = adaptable_layers(generator)
    each = [find_intruders(layers[path].weight, delta) for path, delta in adapter.deltas.items()]
    found = survey_intruders(generator, adapter)
    assert found.layers == found.of == len(each)
    assert found.counts[0.5] == sum(one.counts[0.5] for one in each) > 0
    assert found.control[0.5] == sum(one.control[0.5] for one in each)
    assert found.ratio[0.5] == found.counts[0.5] / found.control[0.5]
    assert found.directions == sum(len(one.matches) for one in each)
    some = survey_intruders(generator, adapter, most_work=200_000)
    assert 1 < some.layers < some.of == found.of
    assert survey_intruders(generator, adapter, most_work=0).layers == 1
    nothing = {path: replace(delta, b=torch.zeros_like(delta.b)) for path, delta in adapter.deltas.items()}
    still = survey_intruders(generator, replace(adapter, deltas=nothing))
    assert still.counts == still.clustered_counts == ALL_ZERO
