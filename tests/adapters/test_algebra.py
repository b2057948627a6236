import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_generator import make_generator, moved

from selva_audio.adapters import Adapter, Delta, adapt, concatenate, dense, merge, plain, resize, uniform
from selva_audio.adapters.algebra import spectrum
from selva_audio.errors import InputError


def random_delta(seed: int, *, rank: int = 3, kernel: int = 0, offset: bool = False) -> Delta:
    random = torch.Generator().manual_seed(seed)
    shape = (rank, 7, kernel) if kernel else (rank, 7)
    a, b = torch.randn(shape, generator=random), torch.randn(5, rank, generator=random)
    if not offset:
        return Delta(a, b, 0.7)
    return Delta(a + 0.1 * torch.randn(shape, generator=random), b, 0.7, a, b)


deltas = st.builds(
    random_delta,
    st.integers(0, 1000),
    rank=st.integers(1, 4),
    kernel=st.sampled_from([0, 3]),
    offset=st.booleans(),
)


def off_by(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm().clamp(min=1e-9))


@settings(max_examples=25)
@given(deltas)
def test_the_factored_spectrum_is_that_of_the_change(delta) -> None:
    u, s, vh = spectrum(delta)
    assert torch.allclose(torch.linalg.svdvals(dense(delta).flatten(1))[: len(s)], s)
    assert off_by((u * s @ vh).reshape(delta.weight_shape), dense(delta)) < 1e-6
    assert len(s) <= (2 if delta.a0 is not None else 1) * delta.rank


@settings(max_examples=25)
@given(deltas)
def test_the_plain_form_is_the_same_change(delta) -> None:
    result = plain(Adapter({"x": delta})).deltas["x"]
    assert result.is_plain and off_by(dense(result), dense(delta)) < 1e-5


def test_the_plain_form_of_pissa_keeps_its_change_in_16_bits_where_its_own_matrices_do_not() -> None:
    """FINETUNING 3.1: what training moved by a per cent is lost when the matrices are rounded."""
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(8, 64, generator=random), torch.randn(96, 8, generator=random)
    moved_a, moved_b = (each + 0.01 * torch.randn(each.shape, generator=random) for each in (a, b))
    delta = Delta(moved_a, moved_b, 1.0, a, b)
    exported = plain(Adapter({"x": delta})).deltas["x"]

    def in_half(found: Delta) -> float:
        halves = [
            None if each is None else each.half().float() for each in (found.a, found.b, found.a0, found.b0)
        ]
        return off_by(dense(Delta(halves[0], halves[1], found.scale, *halves[2:])), dense(delta))

    assert in_half(exported) < 1e-3 < 0.01 < in_half(delta)


@settings(max_examples=25)
@given(deltas, st.integers(1, 4))
def test_resizing_keeps_the_energy_it_reports_and_no_rank_could_keep_more(delta, rank) -> None:
    smaller, (kept,) = resize(Adapter({"x": delta}), rank)
    full = dense(delta)
    assert smaller.deltas["x"].rank <= rank and smaller.deltas["x"].rank == kept.rank_after
    singular = torch.linalg.svdvals(full.flatten(1))
    assert kept.energy == pytest.approx(
        float(singular[:rank].square().sum() / singular.square().sum()), abs=1e-6
    )
    assert off_by(dense(smaller.deltas["x"]), full) == pytest.approx(kept.relative_error, abs=2e-3)


def test_resizing_by_energy_keeps_at_least_that(generator) -> None:
    adapter = moved(generator, rank=4, target="qkv conv")
    _, kept = resize(adapter, energy=0.9)
    assert all(each.energy >= 0.9 for each in kept) and any(each.rank_after < 4 for each in kept)
    same, _ = resize(adapter, energy=1.0)
    for path, delta in adapter.deltas.items():
        assert off_by(dense(same.deltas[path]), dense(delta)) < 1e-5
    assert max(each.rank_after for each in resize(adapter, 2, energy=1.0)[1]) == 2


def test_a_change_of_nothing_is_resized_to_nothing() -> None:
    adapter = Adapter({"x": Delta(torch.ones(2, 3), torch.zeros(4, 2), 1.0)})
    smaller, (kept,) = resize(adapter, 1)
    assert not dense(smaller.deltas["x"]).any() and kept.energy == 1.0


@settings(max_examples=20)
@given(deltas, st.floats(-2, 2), st.floats(-2, 2))
def test_concatenation_is_the_sum(delta, one, two) -> None:
    other = Delta(delta.a.flip(0), delta.b, 1.5)
    joined = concatenate([Adapter({"x": delta}), Adapter({"x": other, "y": other})], [one, two])
    expected = one * dense(delta) + two * dense(other)
    assert torch.allclose(dense(joined.deltas["x"]), expected, atol=1e-4)
    assert torch.allclose(dense(joined.deltas["y"]), two * dense(other), atol=1e-4)


def test_uniform_changes_nothing_but_form() -> None:
    adapter = Adapter({"x": random_delta(0, rank=2), "y": random_delta(1, rank=4, kernel=3, offset=True)})
    result = uniform(adapter)
    assert {(delta.rank, delta.scale) for delta in result.deltas.values()} == {(4, 1.0)}
    for path, delta in adapter.deltas.items():
        assert off_by(dense(result.deltas[path]), dense(delta)) < 1e-6


def test_merging_makes_new_tensors_and_leaves_the_base(generator, velocity) -> None:
    adapters = [moved(generator, seed=1), moved(generator, seed=2, target="mlp", use_dora=True)]
    before = {key: tensor.clone() for key, tensor in generator.state_dict().items()}
    state = merge(generator, adapters, [0.5, -1.0])
    assert all(torch.equal(before[key], tensor) for key, tensor in generator.state_dict().items())
    changed = {key for key in state if not torch.equal(state[key], before[key])}
    assert changed == {f"{path}.weight" for adapter in adapters for path in adapter.deltas}
    merged = make_generator()
    merged.load_state_dict(state)
    expected = velocity(adapt(adapt(generator, adapters[0], 0.5), adapters[1], -1.0))
    assert torch.allclose(velocity(merged), expected, atol=1e-5)
    none = merge(generator, adapters, [0.0, 0.0])
    assert all(torch.equal(before[key], tensor) for key, tensor in none.items())


def test_what_cannot_be_done_is_said(generator) -> None:
    dora = moved(generator, use_dora=True)
    for work in (lambda: resize(dora, 1), lambda: concatenate([dora], [1.0])):
        with pytest.raises(InputError, match="DoRA"):
            work()
    with pytest.raises(InputError, match="rank, or the energy"):
        resize(moved(generator))
    with pytest.raises(InputError, match="under 1"):
        resize(moved(generator), 0)
    with pytest.raises(InputError, match="no share"):
        resize(moved(generator), energy=2)
    other = Adapter({"x": Delta(torch.ones(1, 3), torch.ones(4, 1), 1.0)})
    with pytest.raises(InputError, match="different models"):
        concatenate([other, Adapter({"x": random_delta(0)})], [1.0, 1.0])
