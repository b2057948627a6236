import torch
from small_style import mel_of, snapshot, toy_model

from selva_audio.adapters.inject import share
from selva_audio.configs import VARIANTS
from selva_audio.models.bigvgan import BigVGAN, vocode_in_chunks
from selva_audio.models.gafilter import add_filters, has_filters


def test_new_filters_change_nothing_and_leave_the_base_alone():
    vocoder = toy_model().vocoder
    before = snapshot(vocoder)
    new = share(vocoder)
    add_filters(new, 9)
    with torch.no_grad():
        assert torch.equal(new(mel_of()), vocoder(mel_of()))
    assert has_filters(new) and not has_filters(vocoder)
    assert snapshot(vocoder).keys() == before.keys()


def test_a_filter_is_heard_after_the_activation():
    new = share(toy_model().vocoder)
    add_filters(new, 3)
    with torch.no_grad():
        before = new(mel_of())
        new.resblocks[0].activations[0].gafilter.conv.weight.zero_()
        assert not torch.equal(new(mel_of()), before)


def test_filters_have_the_names_and_number_of_users_files():
    with torch.device("meta"):
        vocoder = BigVGAN(VARIANTS["small_16k"].vocoder)
    add_filters(vocoder, 9)
    state = vocoder.state_dict()
    assert state["resblocks.0.activations.0.gafilter.conv.weight"].shape == (768, 1, 9)
    assert "resblocks.0.activations.0.activation.act.alpha" in state
    assert "resblocks.0.activations.0.activation.upsample.filter" in state
    assert "activation_post.act.alpha" in state  # not filtered
    taps = sum(value.numel() for key, value in state.items() if "gafilter" in key)
    assert taps == 244_944


def test_pieces_join_to_the_whole_with_filters_too():
    new = share(toy_model().vocoder)
    before = new.receptive_field
    add_filters(new, 31)
    assert new.receptive_field > before
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in new.named_parameters():
            if "gafilter" in name:
                value.add_(0.01 * torch.randn(value.shape, generator=random))
        mel = 0.2 * mel_of(120)
        assert torch.allclose(vocode_in_chunks(new, mel, 40), new(mel), atol=2e-3)
