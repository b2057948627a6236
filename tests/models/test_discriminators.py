import math

import numpy as np
import pytest
import torch

from selva_audio.errors import InputError
from selva_audio.models.constant_q import LOWEST_HZ, constant_q
from selva_audio.models.discriminators import (
    CONSTANT_Q,
    OCTAVES,
    PERIODS,
    RESOLUTIONS,
    MultiConstantQDiscriminator,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    PeriodDiscriminator,
)

WAVE = torch.sin(torch.arange(4000) * 0.1)[None, None]


def test_each_layer_of_each_discriminator_is_heard():
    mpd, mrd = MultiPeriodDiscriminator([2, 4, 4, 4, 4]), MultiResolutionDiscriminator(2)
    assert len(mpd.features(WAVE)) == len(PERIODS) * 6
    assert len(mrd.features(WAVE)) == len(RESOLUTIONS) * 6
    assert [tuple(each.shape[:2]) for each in mpd.features(WAVE)[:6]] == [
        (1, 2), (1, 4), (1, 4), (1, 4), (1, 4), (1, 1),
    ]  # fmt: skip


def test_a_period_sees_every_so_many_samples():
    part = PeriodDiscriminator(5, [2, 2, 2, 2, 2])
    features = part.features(WAVE)
    assert features[0].shape == (1, 2, math.ceil(800 / 3), 5)
    moved = WAVE.clone()
    moved[..., 3::5] += 1.0  # one column of the folded waveform
    changed = (part.features(moved)[0] != features[0]).any(dim=(0, 1, 2))
    assert changed.tolist() == [False, False, False, True, False]


def test_the_names_are_those_of_the_published_files():
    mpd, mrd = MultiPeriodDiscriminator([32, 128, 512, 1024, 1024]), MultiResolutionDiscriminator(32)
    shapes = {key: tuple(value.shape) for key, value in mpd.state_dict().items()}
    assert shapes["discriminators.4.convs.3.weight"] == (1024, 512, 5, 1)
    assert shapes["discriminators.0.conv_post.weight"] == (1, 1024, 3, 1)
    # weight norm makes three tensors of two: 54 in the published file
    assert len(mrd.state_dict()) * 3 // 2 == 54
    assert tuple(mrd.state_dict()["discriminators.2.convs.1.weight"].shape) == (32, 32, 3, 9)


def test_silence_has_a_gradient():
    wave = torch.zeros(1, 1, 4000, requires_grad=True)
    torch.manual_seed(0)
    for module in (MultiPeriodDiscriminator([2, 2, 2, 2, 2]), MultiResolutionDiscriminator(2)):
        sum(each.square().sum() for each in module.features(wave)).backward()
        assert bool(wave.grad.isfinite().all())


def test_too_short_a_stretch_is_refused():
    with pytest.raises(InputError, match="segment_seconds"):
        MultiResolutionDiscriminator(2).features(WAVE[..., :500])


def test_a_constant_q_discriminator_hears_the_waveform_in_every_layer():
    wave = torch.sin(torch.arange(11025) * 0.05)[None, None].requires_grad_()
    module = MultiConstantQDiscriminator(2, 44100)
    features = module.features(wave)
    assert len(features) == len(CONSTANT_Q) * 6
    assert features[0].shape == (1, 2, 11025 // 256 + 1, CONSTANT_Q[0][1] * OCTAVES)
    features[5].sum().backward()
    assert float(wave.grad.abs().max()) > 0


@pytest.mark.parametrize("bins", [24, 48])
def test_a_tone_is_largest_in_its_bin_whatever_its_octave(bins):
    seconds = torch.arange(22050) / 44100
    for octave in (3, 5, 8):
        frequency = LOWEST_HZ * 2 ** (octave + 0.5)
        wave = torch.sin(2 * math.pi * frequency * seconds)[None]
        sizes = constant_q(wave, 44100, 128, bins_per_octave=bins, num_octaves=9).abs()[0, :, 86]
        assert int(sizes.argmax()) == octave * bins + bins // 2
        length = 2 * 44100 / frequency / (2 ** (1 / bins) - 1)
        assert float(sizes.max()) == pytest.approx(math.sqrt(length) / 2, rel=0.02)


def test_an_impulse_is_seen_when_it_is():
    wave = torch.zeros(1, 44100)
    wave[0, 128 * 150] = 1.0
    sizes = constant_q(wave, 44100, 128, bins_per_octave=24, num_octaves=9).abs()[0]
    centres = (sizes * torch.arange(sizes.shape[1])).sum(dim=1) / sizes.sum(dim=1)
    assert np.allclose(centres[120:], 150, atol=0.5)
    assert sizes.shape == (216, 44100 // 128 + 1)
