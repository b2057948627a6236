from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_generator import make_generator, moved

from selva_audio.adapters import Adapter, Delta, adapt, dense
from selva_audio.adapters.algebra import spectrum
from selva_audio.adapters.layers import LowRank
from selva_audio.errors import InputError
from selva_audio.flow import interpolate, velocity_loss
from selva_audio.models.generator import Generator
from selva_audio.training.surgery import edit, operate, sensitivities

CLIPS, LATENTS = 8, 10
TARGETS = "qkv conv"
LINEAR, CONV = "joint_blocks.0.latent_block.attn.qkv", "fused_blocks.0.linear1"


class Held:
    """Clips of fixed noise whose answer is another generator's, so that an adapter can be right or wrong."""

    def __init__(self, teacher: Generator, seed: int, count: int = CLIPS) -> None:
        random = torch.Generator().manual_seed(seed)
        self.conditions = [
            torch.randn(count, rows, width, generator=random)
            for rows, width in ((3, teacher.config.clip_dim), (8, teacher.config.sync_dim), (5, 1024))
        ]
        self.x0, self.x1 = (torch.randn(count, LATENTS, 4, generator=random) for _ in range(2))
        self.t = torch.linspace(0.1, 0.9, count)
        x = interpolate(self.x0, self.x1, self.t)
        with torch.no_grad():
            self.x1 = self.x0 + teacher(x, *self.conditions, self.t)
        self.x = x

    def losses(self, generator: Generator, part: slice = slice(None)) -> torch.Tensor:
        """(clips,)."""
        made = generator(self.x[part], *(each[part] for each in self.conditions), self.t[part])
        return velocity_loss(made, self.x0[part], self.x1[part])

    def batches(self, generator: Generator) -> Iterable[torch.Tensor]:
        for first in range(0, len(self.x), 4):
            yield self.losses(generator, slice(first, first + 4)).mean()

    @torch.no_grad()
    def table(self, generator: Generator) -> torch.Tensor:
        """(clips, 1, 1)."""
        return self.losses(generator)[:, None, None]


@pytest.fixture(scope="module")
def generator() -> Generator:
    return make_generator()


@pytest.fixture(scope="module")
def plain(generator: Generator) -> Adapter:
    return moved(generator, rank=5, target=TARGETS, amount=0.2)


@pytest.fixture(scope="module")
def held(generator: Generator) -> Held:
    return Held(adapt(generator, moved(generator, seed=9, rank=5, target=TARGETS, amount=0.2)), seed=1)


@pytest.fixture(scope="module")
def felt(generator: Generator, plain: Adapter, held: Held) -> dict[str, torch.Tensor]:
    return sensitivities(generator, plain, held.batches)


def scaled(adapter: Adapter, path: str, index: int, factor: float) -> Adapter:
    """The adapter with one singular value of one layer multiplied."""
    u, sigma, vh = spectrum(adapter.deltas[path])
    values = sigma.clone()
    values[index] *= factor
    a = vh.reshape(-1, *adapter.deltas[path].a.shape[1:])
    return replace(adapter, deltas={**adapter.deltas, path: Delta(a.float(), (u * values).float(), 1.0)})


@pytest.mark.parametrize("init_mode", ["standard", "pissa"])
def test_the_identity_gives_the_same_change(generator, held, init_mode):
    adapter = moved(generator, rank=4, target=TARGETS, init_mode=init_mode)
    same = edit(generator, adapter, sensitivities(generator, adapter, held.batches), "identity")
    for path, delta in adapter.deltas.items():
        change = dense(delta)
        assert float((dense(same.deltas[path]) - change).norm() / change.norm()) < 1e-5
        assert same.deltas[path].rank <= delta.rank * (1 if init_mode == "standard" else 2)


@pytest.mark.parametrize("policy", ["abs_select", "smooth_abs", "signed", "random"])
def test_an_edit_keeps_directions_and_the_sum_of_the_values(generator, plain, felt, policy):
    edited = edit(generator, plain, felt, policy)
    assert list(edited.deltas) == list(plain.deltas) and edited.meta == plain.meta
    moved_any = False
    for path, delta in plain.deltas.items():
        u, sigma, vh = spectrum(delta)
        after = edited.deltas[path]
        assert (after.rank, after.scale, after.a.shape) == (delta.rank, delta.scale, delta.a.shape)
        core = u.T @ dense(after).flatten(1) @ vh.T
        values = core.diagonal()
        assert float((core - values.diag()).norm() / core.norm()) < 1e-5
        assert float(core.norm() / dense(after).norm()) == pytest.approx(1, abs=1e-5)
        assert float(values.sum() / sigma.sum()) == pytest.approx(1, abs=1e-6)
        moved_any |= float((values - sigma).norm() / sigma.norm()) > 0.02
    assert moved_any


@pytest.mark.parametrize("energy", ["l2", "none"])
def test_the_energy_that_is_kept_is_the_one_asked_for(generator, plain, felt, energy):
    edited = edit(generator, plain, felt, "signed", energy=energy)
    before = spectrum(plain.deltas[LINEAR])[1]
    after = spectrum(edited.deltas[LINEAR])[1]
    kept = float(after.norm() / before.norm())
    assert (abs(kept - 1) < 1e-6) == (energy == "l2")


def test_values_are_raised_and_lowered_by_what_the_loss_feels(generator, plain, felt):
    known = {path: torch.tensor([0.5, -3.0, 0.1, 1.0, 0.4], dtype=torch.float64) for path in felt}
    sigma = spectrum(plain.deltas[LINEAR])[1]

    def gates(policy: str, **settings) -> torch.Tensor:
        edited = edit(generator, plain, known, policy, energy="none", **settings)
        u, _, vh = spectrum(plain.deltas[LINEAR])
        return (u.T @ dense(edited.deltas[LINEAR]).flatten(1) @ vh.T).diagonal() / sigma

    expected = torch.tensor([1.0, 1.25, 0.8, 1.0, 1.0], dtype=torch.float64)
    assert torch.allclose(gates("abs_select"), expected, atol=1e-5)
    smooth = gates("smooth_abs")
    assert smooth[0] == pytest.approx(1, abs=1e-5)  # the median
    assert 0.8 <= smooth.min() < smooth[4] < 1 < smooth[3] < smooth[1] <= 1.25
    g = torch.tensor([0.5, -3.0, 0.1, 1.0, 0.4], dtype=torch.float64)
    signed = torch.exp(-torch.where(g > 0, 2.0, 0.2) * g)
    assert torch.allclose(gates("signed"), signed, atol=1e-5)
    chance = gates("random", seed=3)
    assert sorted(chance.tolist()) == pytest.approx(sorted(expected.tolist()), abs=1e-5)
    draws = {tuple(gates("random", seed=seed).round(decimals=2).tolist()) for seed in range(8)}
    assert len(draws) > 1


@pytest.mark.parametrize("path", [LINEAR, CONV])
@pytest.mark.parametrize("index", [0, 3])
def test_sensitivity_is_the_slope_of_the_loss(generator, plain, held, felt, path, index):
    def total(factor: float) -> float:
        with torch.no_grad():
            losses = held.losses(adapt(generator, scaled(plain, path, index, factor)))
        return float(sum(part.mean() for part in losses.double().split(4)))

    step = 0.02
    sigma = float(spectrum(plain.deltas[path])[1][index])
    slope = (total(1 + step) - total(1 - step)) / (2 * step * sigma)
    assert float(felt[path][index]) == pytest.approx(slope, rel=0.05, abs=1e-5)


def test_sensitivity_follows_from_the_gradient_of_a_alone(generator, plain, held, felt):
    adapted = adapt(generator, plain)
    layers = {module.path: module for module in adapted.modules() if isinstance(module, LowRank)}
    for layer in layers.values():
        layer.lora_A.requires_grad_(True)
    for loss in held.batches(adapted):
        loss.backward()
    for path, delta in plain.deltas.items():
        u, _, vh = spectrum(delta)
        of_a = layers[path].lora_A.grad.flatten(1).double()
        # Of the product B A; ours is of the change, which is the scale times that.
        g = torch.einsum("rk,ri,ki->k", torch.linalg.pinv(delta.b.double()) @ u, of_a, vh) / delta.scale
        assert torch.allclose(g, felt[path], rtol=1e-3, atol=1e-6 * float(felt[path].abs().max()) + 1e-9)


@settings(max_examples=5)
@given(factor=st.floats(0.1, 10))
def test_the_same_function_at_another_alpha_gets_the_same_edit(factor):
    generator = make_generator()
    held = Held(generator, seed=2, count=4)
    adapter = moved(generator, rank=3, target="qkv", amount=0.2)
    other = replace(
        adapter,
        deltas={
            path: replace(delta, b=delta.b / factor, scale=delta.scale * factor)
            for path, delta in adapter.deltas.items()
        },
    )
    edits = [edit(generator, each, sensitivities(generator, each, held.batches)) for each in (adapter, other)]
    for path in adapter.deltas:
        first, second = (dense(each.deltas[path]) for each in edits)
        assert float((first - second).norm() / first.norm()) < 1e-4


def test_an_edit_that_wins_is_adopted_and_the_adapter_stays_as_it_was(generator):
    # The answers are those of an adapter whose first directions count more than this one's.
    adapter = moved(generator, seed=9, rank=5, target=TARGETS, amount=0.2)
    better = adapter
    for path in adapter.deltas:
        better = scaled(better, path, 0, 1.6)
    teacher = adapt(generator, better)
    train, check = Held(teacher, seed=4), Held(teacher, seed=5)
    kept = {path: (delta.a.clone(), delta.b.clone()) for path, delta in adapter.deltas.items()}
    result = operate(generator, adapter, train.batches, check.table)
    assert result.status == "adopted", result.reason
    assert result.adapter is result.edited and result.original is adapter
    assert all(torch.equal(delta.a, kept[path][0]) for path, delta in result.original.deltas.items())
    assert all(torch.equal(delta.b, kept[path][1]) for path, delta in result.original.deltas.items())
    names = [trial.policy for trial in result.trials]
    assert names == ["none", "abs_select", "signed", "random 1", "random 2", "random 3"]
    best = min(result.trials[1:3], key=lambda trial: trial.loss)
    assert best.high < 0 and result.edited.meta["surgery"]["policy"] == best.policy
    before, after = (check.table(adapt(generator, each)).mean() for each in (adapter, result.adapter))
    assert after < before and float(after) == pytest.approx(best.loss, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_an_edit_that_is_worse_is_never_adopted(generator, held, seed):
    # The clips' answers are this adapter's own: every edit is worse.
    adapter = moved(generator, seed=seed, rank=5, target=TARGETS, amount=0.2)
    check = Held(adapt(generator, adapter), seed=6)
    result = operate(generator, adapter, held.batches, check.table, seed=seed)
    assert result.status == "kept" and result.adapter is adapter and "not surely better" in result.reason
    assert all(trial.loss > result.trials[0].loss for trial in result.trials[1:])
    assert result.edited is not None and result.as_json()["status"] == "kept"


def test_few_clips_prove_nothing(generator, plain, held):
    calls = iter(range(10))

    def better_each_time(_: Generator) -> torch.Tensor:
        return torch.full((3, 8, 2), 1.0 - 0.1 * next(calls))

    result = operate(generator, plain, held.batches, better_each_time)
    assert result.status == "kept" and "3 clips" in result.reason


def test_what_goes_wrong_is_told_in_the_result(generator, plain, held):
    dora = moved(generator, rank=3, target="qkv", use_dora=True)
    result = operate(generator, dora, held.batches, held.table)
    assert (result.status, result.adapter) == ("failed", dora) and "DoRA" in result.reason
    nan = operate(generator, plain, held.batches, lambda _: torch.full((8, 1, 1), torch.nan))
    assert (nan.status, nan.edited, nan.trials) == ("failed", None, ()) and "not finite" in nan.reason
    none = operate(generator, plain, lambda _: [], held.table)
    assert none.status == "failed" and "no" in none.reason
    with pytest.raises(InputError, match="DoRA"):
        sensitivities(generator, dora, held.batches)


def test_the_base_is_left_as_it_was(generator, plain, held):
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    operate(generator, plain, held.batches, held.table)
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())
    assert not any(parameter.requires_grad for parameter in generator.parameters())


def test_a_cancel_ends_it(generator, plain, held):
    class Stop(Exception):
        pass

    def stop(progress) -> None:
        if progress.stage == "surgery" and progress.step == 2:
            raise Stop

    with pytest.raises(Stop):
        operate(generator, plain, held.batches, held.table, on_progress=stop)
