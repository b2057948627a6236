import math

import pytest
import torch
from small_generator import LATENTS, make_generator
from torch import Tensor

from selva_audio.errors import GenerationError
from selva_audio.flow import guided_velocity, sample_euler
from selva_audio.flow.ditto import OptimisedNoise, optimise_noise, shell, solve_with_gradient
from selva_audio.models.generator import Generator
from selva_audio.options import DittoOptions
from selva_audio.progress import Cancelled, Progress

STEPS = 4


@pytest.fixture(scope="module")
def generator() -> Generator:
    return make_generator()


@pytest.fixture(scope="module")
def velocity(generator):
    """A guided field in float64, and the noise and weights of a linear loss."""
    double = make_generator().double()
    config, random = generator.config, torch.Generator().manual_seed(5)
    widths = (config.clip_dim, config.sync_dim, config.text_dim)
    made = [
        double.conditions(
            *(torch.randn(1, n, w, generator=random) for n, w in zip((3, 8, 5), widths, strict=True)), LATENTS
        )
        for _ in range(2)
    ]
    return guided_velocity(double, *made, 3.0)


@pytest.fixture(scope="module")
def x0() -> Tensor:
    return torch.randn(1, LATENTS, 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


def loss_of(x1: Tensor) -> Tensor:
    return (x1 - 0.5).square().mean() + x1.mean(dim=1).square().sum()


def gradient(velocity, x0: Tensor, **options) -> Tensor:
    x = x0.clone().requires_grad_()
    x1 = solve_with_gradient(velocity, x, STEPS, DittoOptions(**options))
    return torch.autograd.grad(loss_of(x1), x)[0]


def exact(velocity, x0: Tensor) -> Tensor:
    x = x0.clone().requires_grad_()
    return torch.autograd.grad(loss_of(sample_euler(velocity, x, STEPS)), x)[0]


def test_checkpointing_gives_the_exact_gradient_bit_for_bit(velocity, x0) -> None:
    assert torch.equal(gradient(velocity, x0), exact(velocity, x0))


def test_the_gradient_is_that_of_finite_differences(velocity, x0) -> None:
    # Rotary embedding is in float32 whatever the model: a smaller step would measure its rounding.
    slope, step = gradient(velocity, x0), 1e-3
    for seed in range(3):
        direction = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            up, down = (
                loss_of(sample_euler(velocity, x0 + sign * step * direction, STEPS)) for sign in (1, -1)
            )
        expected = float((up - down) / (2 * step))
        assert float((slope * direction).sum()) == pytest.approx(expected, rel=1e-2)


def test_every_mode_makes_the_sound_of_the_sampler(velocity, x0) -> None:
    with torch.no_grad():
        expected = sample_euler(velocity, x0, STEPS)
    for options in ({}, {"gradient": "truncated", "n_grad_steps": 1}):
        x1 = solve_with_gradient(velocity, x0.clone().requires_grad_(), STEPS, DittoOptions(**options))
        assert torch.equal(x1, expected)


def test_a_truncated_gradient_arrives_and_points_nearly_there(velocity, x0) -> None:
    whole = exact(velocity, x0)
    cosines = []
    for steps in (1, 2, 3, STEPS):
        part = gradient(velocity, x0, gradient="truncated", n_grad_steps=steps)
        assert part.abs().max() > 0
        cosines.append(float(torch.nn.functional.cosine_similarity(part.flatten(), whole.flatten(), dim=0)))
    assert cosines[-1] == pytest.approx(1) and min(cosines) > 0
    assert cosines[0] < 0.999


def test_weights_stay_as_they_are(generator, velocity, x0) -> None:
    before = {key: tensor.clone() for key, tensor in generator.state_dict().items()}
    gradient(velocity, x0)
    assert all(torch.equal(before[key], tensor) for key, tensor in generator.state_dict().items())
    assert all(parameter.grad is None for parameter in generator.parameters())


def kept_bytes(velocity, x0: Tensor, steps: int) -> int:
    """Bytes that a forward pass keeps for the backward pass, with and without what single steps compute."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        solve_with_gradient(velocity, x0.clone().requires_grad_(), steps, DittoOptions())
    return sum(kept.values())


def test_a_step_more_keeps_under_two_percent_of_the_memory_of_a_step(velocity, x0) -> None:
    one_step: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        one_step[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        velocity(torch.tensor(0.5), x0.clone().requires_grad_())
    per_step = (kept_bytes(velocity, x0, 12) - kept_bytes(velocity, x0, 4)) / 8
    assert per_step < 0.02 * sum(one_step.values())


def descend(x0: Tensor, loss, options: DittoOptions, true_loss=None, **more) -> OptimisedNoise:
    """With a timing that nothing changes."""
    both = lambda x: (loss(x), x.new_zeros(()))
    return optimise_noise(x0, both, true_loss or (lambda x: float(loss(x))), options, **more)


def far(x: Tensor) -> Tensor:
    return (x[:, 0] - 1).square().mean()


QUICK = DittoOptions(n_opt_steps=20, check_every=5)


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(50, 4, generator=torch.Generator().manual_seed(1))


def test_the_loss_falls_and_the_noise_stays_on_its_shell(noise) -> None:
    kept = noise.clone()
    found = descend(noise, far, QUICK)
    assert found.after < 0.7 * found.before and found.status == "done"
    assert found.norm == pytest.approx(shell(noise), rel=1e-3)
    assert torch.equal(noise, kept)
    assert float(far(found.noise)) == found.after


def test_the_shell_weight_holds_the_length_where_nothing_else_does(noise) -> None:
    loose, held = (
        descend(
            noise,
            lambda x: -x.sum() / 50,
            DittoOptions(renormalize=False, shell_weight=weight, anchor_weight=0),
        )
        for weight in (0.0, 100.0)
    )
    assert loose.norm > 5 and 0.8 < held.norm < 1.5


def test_the_anchor_holds_the_noise_where_it_started(noise) -> None:
    moved = [
        float((descend(noise, far, QUICK.model_copy(update={"anchor_weight": weight})).noise - noise).norm())
        for weight in (0.0, 100.0)
    ]
    assert moved[1] < 0.5 * moved[0]


def test_timing_weight_holds_the_timing_where_it_was(noise) -> None:
    kept = noise[:, 1].clone()
    both = lambda x: (far(x) + (x[:, 1] - 2).square().mean(), (x[:, 1] - kept).square().mean())
    moved = []
    for weight in (0.0, 100.0):
        options = QUICK.model_copy(update={"timing_weight": weight, "renormalize": False})
        found = optimise_noise(noise, both, lambda x: float(both(x)[0]), options)
        moved.append(float((found.noise[:, 1] - kept).norm()))
        assert found.after < found.before
    assert moved[1] < 0.2 * moved[0]


def test_the_best_is_chosen_by_the_true_loss_among_the_looks(noise) -> None:
    losses = iter([3.0, 2.0, 1.0, 5.0, 4.0])
    found = descend(noise, far, QUICK, true_loss=lambda x: next(losses))
    assert (found.step, found.before, found.after) == (10, 3.0, 1.0)
    assert [each.true_loss for each in found.history if each.true_loss is not None] == [3, 2, 1, 5, 4]
    worse = iter([1.0, 2.0, 3.0, 4.0, 5.0])
    found = descend(noise, far, QUICK, true_loss=lambda x: next(worse))
    assert found.step == 0 and torch.equal(found.noise, noise)


def test_patience_ends_it(noise) -> None:
    looks = iter([1.0, 2.0, 3.0, 4.0, 5.0])
    options = QUICK.model_copy(update={"patience": 2})
    found = descend(noise, far, options, true_loss=lambda x: next(looks))
    assert found.status == "patience" and found.history[-1].step == 10


@pytest.mark.parametrize("error", [Cancelled, KeyboardInterrupt])
def test_cancelling_gives_the_best_so_far(noise, error) -> None:
    def cancel(progress: Progress) -> None:
        if progress.step == 7:
            raise error

    found = descend(noise, far, QUICK, on_progress=cancel)
    assert found.status == "cancelled" and found.step == 5 and found.after < found.before


def test_other_exceptions_are_not_swallowed(noise) -> None:
    def fail(progress: Progress) -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        descend(noise, far, QUICK, on_progress=fail)


def test_every_iteration_is_told(noise) -> None:
    seen: list[Progress] = []
    found = descend(noise, far, QUICK, on_progress=seen.append)
    assert [each.step for each in seen] == list(range(21))
    assert [each.metrics.get("loss") for each in seen] == [each.loss for each in found.history]
    assert seen[-1].metrics["true_loss"] == found.after


def test_it_is_deterministic(noise) -> None:
    first, second = (descend(noise, far, QUICK) for _ in range(2))
    assert torch.equal(first.noise, second.noise) and first.history == second.history


def test_a_gradient_that_does_not_arrive_is_an_error(noise) -> None:
    with pytest.raises(GenerationError, match="no gradient of it reaches the noise"):
        descend(noise, lambda x: far(x.detach()) + 0 * x.sum(), QUICK)


def test_a_loss_that_is_not_finite_is_an_error(noise) -> None:
    with pytest.raises(GenerationError, match="not finite"):
        descend(noise, lambda x: far(x) * math.nan, QUICK)


def test_a_sound_that_has_the_style_already_barely_moves(noise) -> None:
    found = descend(noise, lambda x: (x - noise).square().mean(), QUICK, true_loss=lambda x: 0.0)
    assert found.step == 0 and torch.equal(found.noise, noise)


@pytest.mark.parametrize(
    "changed",
    [
        {"opt_lr": 0.02},
        {"style_weight": 0.01},
        {"n_opt_steps": 5},
        {"check_every": 20},
        {"renormalize": False},
    ],
    ids=str,
)
def test_every_setting_of_the_descent_changes_what_is_found(noise, changed) -> None:
    usual = descend(noise, far, QUICK.model_copy(update={"anchor_weight": 0.1}))
    other = descend(noise, far, QUICK.model_copy(update={"anchor_weight": 0.1, **changed}))
    assert usual.history != other.history
