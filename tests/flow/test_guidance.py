import pytest
import torch

from selva_audio.configs import VARIANTS, GeneratorConfig
from selva_audio.flow import guided_velocity, sample_euler
from selva_audio.models.generator import Generator

TOY = GeneratorConfig(
    4,
    32,
    2,
    num_joint_blocks=2,
    num_fused_blocks=1,
    clip_dim=12,
    sync_dim=10,
    text_dim=14,
    text_length=5,
    mlp_multiple_of=8,
)


def build(config: GeneratorConfig, seed: int, rule_state) -> Generator:
    with torch.device("meta"):
        generator = Generator(config)
    shapes = {key: list(value.shape) for key, value in generator.state_dict().items()}
    generator.load_state_dict(rule_state(shapes, seed), strict=True, assign=True)
    return generator.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def toy(rule_state):
    """A generator with its conditions and empty conditions for a batch of two."""
    generator = build(TOY, 3, rule_state)
    rng = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(2, *shape, generator=rng)
    conditional = generator.conditions(draw(6, 12), draw(16, 10), draw(5, 14), 23)
    unconditional = generator.conditions(
        generator.empty_clip(2, 6), generator.empty_sync(2, 16), generator.empty_text(2), 23
    )
    return generator, conditional, unconditional


X = torch.randn(2, 23, 4, generator=torch.Generator().manual_seed(6))
T = torch.tensor(0.3)


@pytest.fixture(scope="module")
def small_16k(golden, rule_state):
    return build(VARIANTS["small_16k"].generator, 11, rule_state)


@pytest.mark.parametrize("index", [pytest.param(0, marks=pytest.mark.slow), 1, 2])
def test_guided_euler_gives_the_published_numbers(golden, small_16k, index):
    reference = golden(f"ode_small_16k_{index}")
    meta = reference.meta
    assert meta["weights_seed"] == 11
    batch, num_latents, num_clip = meta["B"], meta["L"], meta["C"]
    empty_clip = small_16k.empty_clip(batch, num_clip)
    clip = empty_clip if meta["empty_clip"] else reference.input("clip", (batch, num_clip, 1024), kind="l2")
    negative = small_16k.empty_text(batch)
    if meta["negative_text"]:
        negative = reference.input("neg", (batch, 77, 1024), kind="l2")
    conditional = small_16k.conditions(
        clip,
        reference.input("sync", (batch, meta["S"], 768), scale=0.7),
        reference.input("text", (batch, 77, 1024), kind="l2"),
        num_latents,
    )
    empty_sync = small_16k.empty_sync(batch, meta["S"])
    unconditional = small_16k.conditions(empty_clip, empty_sync, negative, num_latents)

    states = [reference.input("latent", (batch, num_latents, meta["D"]))]
    x1 = sample_euler(
        guided_velocity(small_16k, conditional, unconditional, meta["cfg_strength"]),
        states[0],
        meta["num_steps"],
        lambda done, steps, x: states.append(x),
    )
    expected = [key for key in reference.arrays.files if key.startswith("x_step")]
    got = {key: states[int(key.removeprefix("x_step"))] for key in expected}
    got |= {"x1": x1, "x1_unnorm": small_16k.unnormalize(x1)}
    errors = {key: reference.error(key, value) for key, value in got.items()}
    print(f"ode_small_16k_{index}: {max(errors.values()):.1e}")
    assert max(errors.values()) <= 3e-4, errors


@pytest.mark.parametrize("cfg_strength", [0.0, 0.5, 0.999])
def test_strength_below_one_is_the_conditional_velocity_alone(toy, cfg_strength):
    generator, conditional, unconditional = toy
    velocity = guided_velocity(generator, conditional, unconditional, cfg_strength)
    assert torch.equal(velocity(T, X), generator.velocity(X, T.expand(2), conditional))


@pytest.mark.parametrize("cfg_strength", [1.0, 1.7, 4.5, 20.0])
def test_guidance_extrapolates_from_unconditional_to_conditional(toy, cfg_strength):
    generator, conditional, unconditional = toy
    one, other = (generator.velocity(X, T.expand(2), c) for c in (conditional, unconditional))
    guided = guided_velocity(generator, conditional, unconditional, cfg_strength)(T, X)
    torch.testing.assert_close(guided, other + cfg_strength * (one - other), atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("cfg_strength", [1.0, 1.7, 4.5, 20.0])
def test_equal_branches_make_the_strength_irrelevant(toy, cfg_strength):
    generator, conditional, _ = toy
    guided = guided_velocity(generator, conditional, conditional, cfg_strength)(T, X)
    expected = generator.velocity(X, T.expand(2), conditional)
    torch.testing.assert_close(guided, expected, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize(("cfg_strength", "batch"), [(0.5, 2), (1.0, 4), (4.5, 4)])
def test_both_branches_share_one_call_from_strength_one(toy, cfg_strength, batch):
    generator, conditional, unconditional = toy
    sizes = []
    handle = generator.final_layer.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    try:
        guided_velocity(generator, conditional, unconditional, cfg_strength)(T, X)
    finally:
        handle.remove()
    assert sizes == [batch]


def test_guided_sampling_can_be_differentiated(toy):
    generator, conditional, unconditional = toy
    x0 = X.clone().requires_grad_()
    x1 = sample_euler(guided_velocity(generator, conditional, unconditional, 3.0), x0, 3)
    (gradient,) = torch.autograd.grad(x1.square().sum(), x0)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
