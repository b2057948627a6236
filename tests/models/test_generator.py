import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from selva_audio.configs import VARIANTS, GeneratorConfig
from selva_audio.errors import InputError
from selva_audio.models.generator import (
    Conditions,
    Generator,
    TimestepEmbedding,
    concatenate_conditions,
    initialize,
    nearest_rows,
    time_aware_rows,
)

GENERATORS = {
    size: VARIANTS[f"mmaudio_{size}"].generator
    for size in ("small_16k", "small_44k", "medium_44k", "large_44k", "large_44k_v2")
}
SLOW = [
    ("small_16k", 0),
    ("small_16k", 2),
    ("small_44k", 0),
    ("small_44k", 1),
    ("medium_44k", 0),
    ("medium_44k", 1),
    ("large_44k", 0),
    ("large_44k_v2", 0),
    ("large_44k_v2", 1),
]
TOY = GeneratorConfig(
    4,
    32,
    2,
    num_joint_blocks=2,
    num_fused_blocks=2,
    clip_dim=12,
    sync_dim=10,
    text_dim=14,
    text_length=5,
    mlp_multiple_of=8,
)
TOYS = {"v1": TOY, "v2": replace(TOY, version="v2")}


def build(config: GeneratorConfig, seed: int, rule_state) -> Generator:
    """Made without memory, then given rule-made weights, as the loader does it."""
    with torch.device("meta"):
        generator = Generator(config)
    shapes = {key: list(value.shape) for key, value in generator.state_dict().items()}
    generator.load_state_dict(rule_state(shapes, seed), strict=True, assign=True)
    return generator.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=TOYS)
def toy(request, rule_state) -> Generator:
    return build(TOYS[request.param], 3, rule_state)


def toy_features(batch: int = 2, *, clip: int = 6, segments: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(batch, *shape, generator=rng)
    return draw(clip, 12), draw(8 * segments, 10), draw(5, 14)


def toy_latent(batch: int = 2, num_latents: int = 23) -> Tensor:
    return torch.randn(batch, num_latents, 4, generator=torch.Generator().manual_seed(6))


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got.float() - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("size", "index"), [("small_16k", 1), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_generator_gives_the_published_numbers(golden, rule_state, size, index):
    reference = golden(f"gen_{size}_{index}")
    meta = reference.meta
    generator = build(GENERATORS[size], meta["weights_seed"], rule_state)
    batch, num_latents = meta["B"], meta["L"]
    latent = reference.input("latent", (batch, num_latents, meta["D"]))
    clip = reference.input("clip", (batch, meta["C"], 1024), kind="l2")
    if meta["empty_clip"]:
        clip = generator.empty_clip(batch, meta["C"])
    sync = reference.input("sync", (batch, meta["S"], 768), scale=0.7)
    text = reference.input("text", (batch, 77, 1024), kind="l2")

    conditions = generator.conditions(clip, sync, text, num_latents)
    got = {
        "cond_clip_f": conditions.clip,
        "cond_sync_f": conditions.sync,
        "cond_text_f": conditions.text,
        "cond_clip_f_c": conditions.clip_c,
        "cond_text_f_c": conditions.text_c,
    }
    errors = {key: reference.error(key, value) for key, value in got.items()}
    velocity_errors = {
        f"v_t{k}": reference.error(f"v_t{k}", generator.velocity(latent, torch.full((batch,), t), conditions))
        for k, t in enumerate(meta["t_values"])
    }
    print(f"gen_{size}_{index}: {max(errors.values()):.1e} {max(velocity_errors.values()):.1e}")
    assert max(errors.values()) <= 5e-5, errors
    assert max(velocity_errors.values()) <= (3e-4 if size.endswith("v2") else 1e-4), velocity_errors


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_time_embedding_gives_the_published_numbers(golden, rule_state, version):
    units = golden("units")
    embedding = (
        TimestepEmbedding(448, 256, scale=1.0) if version == "v1" else TimestepEmbedding(896, 896, scale=1e4)
    )
    shapes = {key: list(value.shape) for key, value in embedding.state_dict().items()}
    embedding.load_state_dict(rule_state(shapes, units.meta["seed"]))
    t = torch.from_numpy(units.arrays[f"temb_t_{version}"])
    assert units.error(f"temb_sin_{version}", embedding.sinusoids(t)) <= 5e-5
    assert units.error(f"temb_out_{version}", embedding(t, torch.float32)) <= 5e-5


@pytest.mark.parametrize(("source", "target"), [(192, 250), (192, 345), (72, 104), (72, 143), (304, 397)])
def test_nearest_rows_are_the_published_ones(golden, source, target):
    expected = golden("units").arrays[f"nearest_{source}_{target}"]
    assert nearest_rows(source, target).tolist() == expected.astype(int).tolist()


@given(segments=st.integers(1, 60), latent_rate=st.sampled_from([31.25, 44100 / 1024]))
def test_time_aware_rows_keep_each_sync_token_at_its_own_time(segments, latent_rate):
    num_sync = 8 * segments
    num_latents = math.ceil((0.32 * segments + 0.32) * latent_rate)
    rows = time_aware_rows(num_sync, num_latents, latent_rate)
    times = (torch.arange(num_latents, dtype=torch.float64) + 0.5) / latent_rate
    inside = (times >= 0.16) & (times < 0.16 + num_sync / 25)
    late = times - (rows / 25 + 0.16)
    assert ((late[inside] > -1e-6) & (late[inside] < 0.04 + 1e-6)).all()
    assert rows.min() >= 0
    assert rows.max() <= num_sync - 1
    assert (rows.diff() >= 0).all()


def test_time_aware_resampling_changes_the_sync_tokens_and_nothing_else(rule_state):
    aware = build(replace(TOY, sync_resampling="time_aware", latent_rate=31.25), 3, rule_state)
    even = build(TOY, 3, rule_state)
    one, other = (g.conditions(*toy_features(), 31) for g in (aware, even))
    assert not torch.equal(one.sync, other.sync)
    assert all(torch.equal(getattr(one, n), getattr(other, n)) for n in ("clip", "text", "clip_c", "text_c"))


def test_time_aware_resampling_needs_the_latent_rate():
    with pytest.raises(InputError, match="latent_rate"):
        Generator(replace(TOY, sync_resampling="time_aware"))


def test_demo_generator_knows_its_latent_rate():
    config = VARIANTS["demo_16k"]
    assert config.generator.latent_rate == config.latent_rate


def test_state_dict_holds_stored_vectors_and_no_tables():
    with torch.device("meta"):
        generator = Generator(TOY)
    keys = set(generator.state_dict())
    assert {"latent_mean", "latent_std", "empty_string_feat", "empty_clip_feat", "empty_sync_feat"} <= keys
    assert not any("rot" in key or "freqs" in key for key in keys)
    trained = {name for name, parameter in generator.named_parameters() if parameter.requires_grad}
    assert keys - trained == {"latent_mean", "latent_std", "empty_string_feat"}


def test_forward_is_conditions_then_velocity(toy):
    features, latent, t = toy_features(), toy_latent(), torch.tensor([0.2, 0.7])
    conditions = toy.conditions(*features, 23)
    assert torch.equal(toy(latent, *features, t), toy.velocity(latent, t, conditions))


def test_items_of_a_batch_do_not_see_each_other(toy):
    features, latent, t = toy_features(), toy_latent(), torch.tensor([0.2, 0.7])
    together = toy(latent, *features, t)
    for i in range(2):
        one = slice(i, i + 1)
        alone = toy(latent[one], *(f[one] for f in features), t[one])
        assert relative_error(together[one], alone) < 1e-5


def test_concatenated_conditions_give_both_velocities(toy):
    first = toy.conditions(*toy_features(), 23)
    second = toy.conditions(*(2 * f for f in toy_features()), 23)
    both = concatenate_conditions(first, second)
    latent, t = toy_latent(), torch.tensor([0.2, 0.7])
    velocity = toy.velocity(torch.cat((latent, latent)), torch.cat((t, t)), both)
    expected = torch.cat([toy.velocity(latent, t, c) for c in (first, second)])
    assert relative_error(velocity, expected) < 1e-5


@pytest.mark.parametrize("duration", [0.64, 11.0])
def test_any_duration_runs_and_leaves_no_trace(toy, duration):
    lengths = VARIANTS["small_16k"].lengths(duration)
    before = toy(toy_latent(), *toy_features(), torch.tensor([0.2, 0.7]))
    features = toy_features(1, clip=lengths.clip, segments=lengths.segments)
    velocity = toy(toy_latent(1, lengths.latent), *features, torch.tensor([0.5]))
    assert velocity.shape == (1, lengths.latent, 4)
    assert velocity.isfinite().all()
    assert torch.equal(toy(toy_latent(), *toy_features(), torch.tensor([0.2, 0.7])), before)


def test_bfloat16_weights_give_nearly_the_float32_velocity(toy):
    config = toy.config
    half = Generator(config).requires_grad_(False)
    half.load_state_dict(toy.state_dict())
    half.to(torch.bfloat16)
    features, latent, t = toy_features(), toy_latent(), torch.tensor([0.201, 0.703])
    expected = toy(latent, *features, t)
    got = half(latent, *features, t)
    assert got.dtype is torch.float32
    assert got.isfinite().all()
    assert relative_error(got, expected) < 0.05


def test_v2_time_keeps_float32_under_bfloat16_weights():
    embedding = TimestepEmbedding(32, 32, scale=1e4)
    expected = embedding.sinusoids(torch.tensor([0.3331]))
    embedding.to(torch.bfloat16)
    assert torch.equal(embedding.sinusoids(torch.tensor([0.3331])), expected)
    assert embedding(torch.tensor([0.3331]), torch.bfloat16).dtype is torch.bfloat16


def test_velocity_has_the_dtype_of_the_latent(toy):
    conditions = toy.conditions(*toy_features(), 23)
    velocity = toy.velocity(toy_latent().bfloat16(), torch.tensor([0.2, 0.7]), conditions)
    assert velocity.dtype is torch.bfloat16


def test_order_of_clip_and_sync_tokens_matters(toy):
    clip, sync, text = toy_features()
    latent, t = toy_latent(), torch.tensor([0.2, 0.7])
    velocity = toy(latent, clip, sync, text, t)
    assert relative_error(toy(latent, clip.flip(1), sync, text, t), velocity) > 1e-2
    assert relative_error(toy(latent, clip, sync.flip(1), text, t), velocity) > 1e-2


def test_empty_features_have_the_asked_length_and_carry_gradients(rule_state):
    generator = build(TOY, 3, rule_state).requires_grad_(True)
    clip, sync, text = generator.empty_clip(2, 6), generator.empty_sync(2, 16), generator.empty_text(2)
    assert (clip.shape, sync.shape, text.shape) == ((2, 6, 12), (2, 16, 10), (2, 5, 14))
    generator(toy_latent(), clip, sync, text, torch.tensor([0.2, 0.7])).square().sum().backward()
    assert generator.empty_clip_feat.grad.abs().sum() > 0
    assert generator.empty_sync_feat.grad.abs().sum() > 0


def test_velocity_can_be_differentiated_by_latent_and_features(toy):
    latent, features = toy_latent().requires_grad_(), [f.requires_grad_() for f in toy_features()]
    velocity = toy(latent, *features, torch.tensor([0.2, 0.7]))
    gradients = torch.autograd.grad(velocity.square().sum(), [latent, *features])
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients)
    step = 1e-3 * gradients[0] / gradients[0].norm()
    energy = lambda x: toy(x, *features, torch.tensor([0.2, 0.7])).double().square().sum()
    change = energy(latent + step) - energy(latent - step)
    assert float(change.detach()) == pytest.approx(2e-3 * float(gradients[0].norm()), rel=0.02)


def test_unnormalize_undoes_normalize_and_keeps_its_argument(toy):
    latent = toy_latent()
    kept = latent.clone()
    torch.testing.assert_close(toy.unnormalize(toy.normalize(latent)), latent)
    torch.testing.assert_close(toy.unnormalize(latent), latent * toy.latent_std + toy.latent_mean)
    assert torch.equal(latent, kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, s, t: (c[:, :0], s, t), "empty_clip"),
        (lambda c, s, t: (c, s[:, :15], t), "multiple"),
        (lambda c, s, t: (c, s[..., :9], t), "sync features must be"),
        (lambda c, s, t: (c, s, t[0]), "text features must be"),
        (lambda c, s, t: (c[:1], s, t), "batch sizes 1, 2 and 2"),
    ],
)
def test_features_that_do_not_fit_are_refused(toy, change, message):
    with pytest.raises(InputError, match=message):
        toy.conditions(*change(*toy_features()), 23)


@pytest.mark.parametrize(
    ("latent", "t"),
    [
        (toy_latent(num_latents=24), torch.zeros(2)),
        (toy_latent(1), torch.zeros(1)),
        (toy_latent(), torch.zeros(())),
    ],
)
def test_latent_and_time_must_fit_the_conditions(toy, latent, t):
    conditions = toy.conditions(*toy_features(), 23)
    with pytest.raises(InputError, match="does not fit"):
        toy.velocity(latent, t, conditions)


def test_conditions_are_in_the_dtype_of_the_weights_and_have_no_state(toy):
    conditions = toy.conditions(*(f.double() for f in toy_features()), 23)
    names = [f.name for f in fields(Conditions) if f.name not in ("groups", "shared")]
    tensors = {name: getattr(conditions, name) for name in names}
    assert {name: tuple(value.shape) for name, value in tensors.items()} == {
        "clip": (2, 6, 32),
        "sync": (2, 23, 32),
        "text": (2, 5, 32),
        "clip_c": (2, 32),
        "text_c": (2, 32),
    }
    assert all(value.dtype is torch.float32 for value in tensors.values())
    assert conditions.groups.shape == (2, 23) and conditions.shared is None


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_initialized_generator_predicts_zero_and_can_learn(version):
    with torch.device("meta"):
        generator = Generator(TOYS[version])
    generator.to_empty(device="cpu")
    torch.manual_seed(0)
    initialize(generator)
    assert all(p.isfinite().all() for p in generator.parameters())
    inputs = (toy_latent(), *toy_features(), torch.tensor([0.2, 0.7]))
    velocity = generator(*inputs)
    assert torch.equal(velocity, torch.zeros_like(velocity))
    (velocity - 1).square().mean().backward()
    assert generator.final_layer.conv.bias.grad.abs().sum() > 0


def test_initial_weights_follow_the_published_rule():
    torch.manual_seed(0)
    generator = Generator(replace(TOY, hidden_dim=128, num_heads=2)).requires_grad_(False)
    initialize(generator)
    xavier = generator.joint_blocks[0].latent_block.attn.qkv
    bound = math.sqrt(6 / (128 + 3 * 128))
    assert 0.98 * bound < float(xavier.weight.abs().max()) <= bound
    assert not xavier.bias.any()
    assert float(generator.t_embed.mlp[0].weight.std()) == pytest.approx(0.02, rel=0.05)
    convolution = generator.fused_blocks[0].linear1.weight
    assert float(convolution.abs().max()) <= 1 / math.sqrt(128 * 3)
    assert float(convolution.std()) == pytest.approx(1 / math.sqrt(3 * 128 * 3), rel=0.05)
    assert generator.latent_mean.isnan().all()
