"""Every saving of arithmetic gives what the plain form gives."""

from dataclasses import replace

import pytest
import torch

from benchmarks.plain import plain_generator
from selva_audio.flow import guided_velocity
from selva_audio.models.generator import concatenate_conditions, repeated_groups, share_rows
from selva_audio.models.layers import ChannelLastConv1d, lay_out_convolutions
from tests.small_generator import make_generator

CLOSE = {"rtol": 2e-4, "atol": 2e-5}
LENGTHS = [(8, 10), (16, 23), (24, 31), (64, 40), (64, 90)]


def inputs(generator, num_sync, num_latents, *, batch=1):
    """Conditions of a prompt, those of the empty branch, and a latent."""
    config = generator.config
    random = torch.Generator().manual_seed(num_sync)
    draw = lambda *shape: torch.randn(batch, *shape, generator=random)
    first = generator.conditions(
        draw(3, config.clip_dim), draw(num_sync, config.sync_dim), draw(5, config.text_dim), num_latents
    )
    second = generator.conditions(
        generator.empty_clip(batch, 3),
        generator.empty_sync(batch, num_sync),
        draw(5, config.text_dim),
        num_latents,
        is_empty_sync=True,
    )
    return first, second, draw(num_latents, config.latent_dim)


@pytest.mark.parametrize(("num_sync", "num_latents"), LENGTHS)
def test_tokens_of_one_group_have_equal_sync_tokens(num_sync, num_latents):
    for conditions in inputs(make_generator(), num_sync, num_latents)[:2]:
        sync, groups = conditions.sync[0], conditions.groups[0]
        for group in groups.unique():
            members = sync[groups == group]
            torch.testing.assert_close(members, members[:1].expand_as(members), rtol=1e-5, atol=1e-6)


def test_the_empty_sync_features_have_24_groups_whatever_the_length():
    assert [len(repeated_groups(8 * steps).unique()) for steps in (1, 2, 3, 24, 200)] == [8, 16, 24, 24, 24]


@pytest.mark.parametrize(("num_sync", "num_latents"), LENGTHS)
def test_shared_rows_give_the_velocity_of_rows_of_their_own(num_sync, num_latents):
    generator = make_generator()
    first, second, latent = inputs(generator, num_sync, num_latents)
    both = concatenate_conditions(first, second)
    shared = share_rows(both)
    assert len(shared.shared[0]) == sum(len(each.unique()) for each in both.groups)
    t, twice = torch.tensor([0.3, 0.3]), latent.repeat(2, 1, 1)
    plain = generator.velocity(twice, t, replace(both, groups=None))
    torch.testing.assert_close(generator.velocity(twice, t, shared), plain, **CLOSE)


def test_conditions_without_groups_are_left_as_they_are():
    first, _, _ = inputs(make_generator(), 8, 10)
    assert share_rows(replace(first, groups=None)).shared is None


def test_a_latent_that_stands_for_two_gives_what_two_give():
    generator = make_generator()
    first, second, latent = inputs(generator, 16, 23, batch=2)
    both, t = concatenate_conditions(first, second), torch.tensor([0.2, 0.7])
    twice = generator.velocity(latent.repeat(2, 1, 1), t.repeat(2), both)
    torch.testing.assert_close(generator.velocity(latent, t, both, copies=2), twice, **CLOSE)


@pytest.mark.parametrize("cfg_strength", [0.0, 4.5])
def test_the_guided_field_is_that_of_the_plain_generator_with_its_gradient(cfg_strength):
    generator = make_generator()
    first, second, latent = inputs(generator, 24, 31)
    found = []
    for each in (generator, plain_generator(generator)):
        bare = (first, second) if each is generator else (replace(c, groups=None) for c in (first, second))
        x = latent.clone().requires_grad_()
        velocity = guided_velocity(each, *bare, cfg_strength)(torch.tensor(0.4), x)
        (gradient,) = torch.autograd.grad(velocity.square().sum(), x)
        found.append((velocity.detach(), gradient))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_kernels_laid_out_for_use_have_the_same_values_and_results():
    generator = make_generator()
    state = {key: value.clone() for key, value in generator.state_dict().items()}
    layer = next(each for each in generator.modules() if isinstance(each, ChannelLastConv1d))
    x = torch.randn(2, 9, layer.in_channels)
    before = layer(x)
    lay_out_convolutions(generator)
    assert layer.weight.transpose(1, 2).is_contiguous()
    assert all(torch.equal(value, state[key]) for key, value in generator.state_dict().items())
    torch.testing.assert_close(layer(x), before)
    place = layer.weight.data_ptr()
    lay_out_convolutions(generator)
    assert layer.weight.data_ptr() == place
    assert layer.bfloat16().weight.transpose(1, 2).is_contiguous()
