import hashlib

import pytest
import torch
from small_generator import make_generator, moved
from torch import nn

from selva_audio.adapters import (
    adapt,
    adapter_meta,
    collect,
    draw_dropout,
    inject,
    merge,
    parameter_groups,
    trainable_parameters,
)
from selva_audio.configs import VARIANTS
from selva_audio.errors import CheckpointError, InputError
from selva_audio.models.generator import Generator
from selva_audio.options import AdapterOptions

STARTS = [
    {},
    {"use_rslora": True},
    {"use_dora": True},
    {"init_mode": "pissa"},
    {"init_mode": "pissa", "use_rslora": True, "alpha": 12},
    {"init_mode": "pissa", "use_dora": True},
]


def digest(module: nn.Module) -> str:
    total = hashlib.sha256()
    for key, tensor in module.state_dict().items():
        total.update(key.encode() + tensor.numpy().tobytes())
    return total.hexdigest()


@pytest.mark.parametrize("start", STARTS, ids=str)
def test_step_zero_changes_no_bit(generator, velocity, start) -> None:
    adapted, _ = inject(generator, AdapterOptions(rank=3, target="qkv conv", **start))
    assert torch.equal(velocity(adapted), velocity(generator))


@pytest.mark.parametrize("start", STARTS, ids=str)
def test_strength_zero_is_the_base_and_one_is_not(generator, velocity, start) -> None:
    adapter = moved(generator, **start)
    base = velocity(generator)
    assert torch.equal(velocity(adapt(generator, adapter, 0.0)), base)
    assert not torch.allclose(velocity(adapt(generator, adapter)), base, atol=1e-3)


@pytest.mark.parametrize("start", STARTS, ids=str)
def test_the_adapted_generator_computes_what_merged_weights_do(generator, velocity, start) -> None:
    adapter = moved(generator, target="all", **start)
    for strength in (1.0, 0.5, -0.5):
        merged = make_generator()
        merged.load_state_dict(merge(generator, [adapter], [strength]))
        expected = velocity(merged)
        error = (velocity(adapt(generator, adapter, strength)) - expected).abs().max() / expected.abs().max()
        assert error < 1e-4


def test_the_base_is_left_as_it_was_and_shared(generator) -> None:
    before, modules = digest(generator), [type(module) for module in generator.modules()]
    adapted = adapt(generator, moved(generator))
    adapted.train()
    assert digest(generator) == before
    assert [type(module) for module in generator.modules()] == modules
    assert not any(module.training for module in generator.modules())
    pointers = {tensor.data_ptr() for tensor in generator.state_dict().values()}
    shared = {key: t for key, t in adapted.state_dict().items() if "deltas" not in key}
    assert {tensor.data_ptr() for tensor in shared.values()} == pointers


def test_two_branches_on_one_base_do_not_disturb_each_other(generator, velocity) -> None:
    one, two = moved(generator, seed=1), moved(generator, seed=2)
    first = adapt(generator, one)
    alone = velocity(first)
    second = adapt(generator, two)
    assert torch.equal(velocity(first), alone) and not torch.equal(velocity(second), alone)


def test_adapters_add_up_in_any_order(generator, velocity) -> None:
    one, two = moved(generator, seed=1), moved(generator, seed=2, target="mlp", use_dora=True)
    forth = adapt(adapt(generator, one, 0.7), two, -0.4)
    back = adapt(adapt(generator, two, -0.4), one, 0.7)
    assert torch.allclose(velocity(forth), velocity(back), atol=1e-5)


def test_nothing_but_the_adapter_wants_gradients(velocity) -> None:
    base = make_generator().requires_grad_(True)
    adapted, _ = inject(base, AdapterOptions(rank=2))
    wanted = {id(p) for p in adapted.parameters() if p.requires_grad}
    assert wanted == {id(p) for p in trainable_parameters(adapted).values()}
    velocity(adapted).square().mean().backward()
    assert all(p.grad is None for p in base.parameters())
    assert any(p.grad.abs().max() > 0 for n, p in trainable_parameters(adapted).items() if n.endswith("B"))
    assert all(p.requires_grad for p in base.parameters())


def test_master_weights_stay_float32_in_a_16_bit_generator(velocity) -> None:
    base = make_generator().to(torch.bfloat16)
    for start in STARTS:
        adapted, _ = inject(base, AdapterOptions(rank=2, **start))
        adapted.to(torch.bfloat16)
        assert {p.dtype for p in trainable_parameters(adapted).values()} == {torch.float32}
        assert torch.equal(velocity(adapted), velocity(base))


def test_equal_small_steps_add_up_in_a_16_bit_generator() -> None:
    """COMPAT 5.4: with 16-bit masters, 500 steps of 1e-4 moved 56 % of what they should."""
    adapted, _ = inject(make_generator().to(torch.bfloat16), AdapterOptions(rank=2))
    name, a = next((n, p) for n, p in trainable_parameters(adapted).items() if n.endswith("lora_A"))
    before = a.detach().clone()
    optimizer = torch.optim.Adam([a], lr=1e-4)
    for _ in range(500):
        a.grad = torch.ones_like(a)
        optimizer.step()
    assert torch.allclose(before - a.detach(), torch.tensor(500 * 1e-4), rtol=1e-3), name


def test_a_second_target_leaves_the_start_of_the_first_as_it_was(generator) -> None:
    alone, _ = inject(generator, AdapterOptions(target="qkv", seed=4))
    both, _ = inject(generator, AdapterOptions(target="conv qkv", seed=4))
    other, _ = inject(generator, AdapterOptions(target="qkv", seed=5))
    found = trainable_parameters(both)
    for name, value in trainable_parameters(alone).items():
        assert torch.equal(found[name], value)
        if name.endswith("lora_A"):
            assert not torch.equal(trainable_parameters(other)[name], value)


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"rank": 16}, 2.0),
        ({"rank": 16, "alpha": 16}, 1.0),
        ({"rank": 16, "use_rslora": True, "alpha": 32}, 8.0),
        ({"rank": 128, "use_rslora": True, "alpha": 128}, 128**0.5),
        ({"rank": 16, "use_rslora": True}, 2.0),
        ({"rank": 64, "use_rslora": True}, 1.0),
        ({"rank": 16, "init_mode": "pissa"}, 1.0),
    ],
    ids=str,
)
def test_the_scale_follows_the_rule_of_its_kind(settings, scale) -> None:
    assert AdapterOptions(**settings).scale == pytest.approx(scale)


@pytest.mark.parametrize("rank", [8, 16, 128])
def test_the_scales_are_those_of_the_table(rank) -> None:
    """FINETUNING 3, from its formulas: alpha / r, and alpha / sqrt(r) with rsLoRA."""
    for alpha, use_rslora, scale in (
        (rank, False, 1.0),
        (2 * rank, False, 2.0),
        (rank, True, {8: 2.83, 16: 4, 128: 11.3}[rank]),
        (2 * rank, True, {8: 5.66, 16: 8, 128: 22.6}[rank]),
    ):
        options = AdapterOptions(rank=rank, alpha=alpha, use_rslora=use_rslora)
        assert options.scale == pytest.approx(scale, rel=3e-3)
    usual = AdapterOptions(rank=rank, use_rslora=True)
    assert usual.effective_alpha == 8 and usual.scale == pytest.approx(8 / rank**0.5)


def test_lora_plus_trains_b_faster(generator) -> None:
    adapted, _ = inject(generator, AdapterOptions(rank=2, use_dora=True))
    rest, b = parameter_groups(adapted, 1e-4, plus_ratio=16)
    named = trainable_parameters(adapted)
    assert (rest["lr"], b["lr"]) == (1e-4, 16e-4)
    assert {id(p) for p in b["params"]} == {id(p) for n, p in named.items() if n.endswith("lora_B")}
    assert len(rest["params"]) + len(b["params"]) == len(named)


@pytest.mark.parametrize("kind", ["lora_dropout", "rank_dropout", "module_dropout"])
def test_dropout_is_a_function_of_its_key_and_off_in_eval(generator, velocity, kind) -> None:
    adapted, _ = inject(generator, AdapterOptions(rank=3, **{kind: 0.5}))
    with torch.no_grad():
        for parameter in trainable_parameters(adapted).values():
            parameter.add_(0.05)
    adapted.eval()
    steady = velocity(adapted)
    adapted.train()
    with pytest.raises(InputError, match="draw_dropout"):
        velocity(adapted)
    draw_dropout(adapted, 1)
    first = velocity(adapted)
    draw_dropout(adapted, 2)
    second = velocity(adapted)
    draw_dropout(adapted, 1)
    assert torch.equal(velocity(adapted), first)
    assert not torch.equal(first, second) and not torch.equal(first, steady)
    adapted.eval()
    assert torch.equal(velocity(adapted), steady)


def test_pissa_refuses_a_rank_that_a_layer_does_not_have(generator) -> None:
    with pytest.raises(InputError, match=r"final_layer\.conv.*rank 4"):
        inject(generator, AdapterOptions(rank=5, target="final", init_mode="pissa"))


def test_an_adapter_of_another_model_is_refused_by_name(generator) -> None:
    adapter = moved(generator)
    tiny = make_generator()
    tiny.fused_blocks = nn.ModuleList()
    with pytest.raises(CheckpointError, match=r"fused_blocks\.0.*not in the generator.*small_16k"):
        adapt(tiny, adapter)
    path, delta = next(iter(adapter.deltas.items()))
    small = type(delta)(delta.a[:, :-1], delta.b, 1.0)
    with pytest.raises(CheckpointError, match="made for a weight of"):
        adapt(generator, type(adapter)({path: small}))


def test_collecting_gives_back_what_was_put_in(generator, velocity) -> None:
    options = AdapterOptions(rank=2, init_mode="pissa", target="qkv, conv")
    adapted, _ = inject(generator, options)
    adapter = collect(adapted, adapter_meta(options, variant="demo_16k", steps=3))
    assert adapter.meta["steps"] == 3 and adapter.meta["alpha"] == 2.0
    assert adapter.meta["target"] == ["qkv", "conv"]
    assert torch.equal(velocity(adapt(generator, adapter)), velocity(generator))
    with pytest.raises(InputError, match="no adapter"):
        collect(generator, {})


@pytest.mark.parametrize(
    ("variant", "target", "count"),
    [
        ("small_16k", "qkv", 573_440),
        ("large_44k", "qkv", 2_007_040),
        ("medium_44k", "qkv", 1_146_880),
    ],
)
def test_parameter_counts_of_the_published_sizes(variant, target, count) -> None:
    with torch.device("meta"):
        generator = Generator(VARIANTS[variant].generator)
    from selva_audio.adapters import select_targets

    assert select_targets(generator, target).num_parameters(16) == count
