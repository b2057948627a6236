import pytest
import torch
from small_clips import make_clips
from small_generator import moved

from selva_audio.adapters import adapt
from selva_audio.flow.timesteps import TimestepLaw
from selva_audio.training.validation import fixed_noise_loss, paired_difference


def test_the_same_weights_have_the_same_losses_and_others_others(generator):
    clips = make_clips(4)
    first = fixed_noise_loss(generator, clips)
    assert first.losses.shape == (4, 8, 2) and torch.equal(
        first.losses, fixed_noise_loss(generator, clips).losses
    )
    changed = fixed_noise_loss(adapt(generator, moved(generator, amount=0.3)), clips)
    assert not torch.allclose(first.losses, changed.losses)
    assert torch.equal(first.times, changed.times)
    assert float(first.per_time.mean()) == pytest.approx(first.mean)


def test_a_clip_has_its_noise_whatever_comes_with_it_and_however_it_is_batched(generator):
    clips = make_clips(4)
    whole = fixed_noise_loss(generator, clips, batch_size=16)
    for batch_size in (1, 5):
        again = fixed_noise_loss(generator, clips, batch_size=batch_size)
        assert torch.allclose(again.losses, whole.losses, rtol=1e-4)
    alone = fixed_noise_loss(generator, clips.take([2]))
    assert torch.allclose(alone.losses[0], whole.losses[2], rtol=1e-4)


def test_times_are_the_middles_of_equally_likely_stretches(generator):
    law = TimestepLaw("uniform")
    losses = fixed_noise_loss(generator, make_clips(1, held=0), law=law, num_times=4)
    assert torch.allclose(losses.times, torch.tensor([0.125, 0.375, 0.625, 0.875]))


def test_nothing_is_drawn_from_the_global_state_and_the_mode_is_kept(generator):
    generator.train()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    fixed_noise_loss(generator, make_clips(2))
    assert torch.equal(before, torch.get_rng_state()) and generator.training
    generator.eval()


def test_without_clip_conditioning_the_picture_makes_no_difference(generator):
    clips = make_clips(2)
    other = make_clips(2)
    other.clip.add_(1)
    for use, same in ((False, True), (True, False)):
        a, b = (fixed_noise_loss(generator, each, clip_conditioning=use).losses for each in (clips, other))
        assert torch.equal(a, b) == same


def test_paired_bounds_hold_the_truth_as_often_as_they_say():
    random = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(60):
        difficulty = 5 * torch.randn(24, 1, 1, generator=random)  # much larger than what is looked for
        noise = 0.5 * torch.randn(24, 4, 2, generator=random)
        mean, low, high = paired_difference(difficulty - 0.2 + noise, difficulty.expand(24, 4, 2))
        assert low <= mean <= high
        hits += low <= -0.2 <= high
    assert 45 <= hits <= 60
    assert paired_difference(torch.ones(3, 1, 1), torch.ones(3, 1, 1)) == (0, 0, 0)
    with pytest.raises(ValueError, match="shapes"):
        paired_difference(torch.ones(3), torch.ones(4))
