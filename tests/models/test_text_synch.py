from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from selva_audio.configs import VARIANTS
from selva_audio.errors import InputError
from selva_audio.models import synchformer, text_synch
from selva_audio.models.synchformer import Synchformer, cut_segments
from selva_audio.models.text_synch import TextSynch

TOY = VARIANTS["demo_16k"].video_encoder


@pytest.fixture(scope="module")
def toy() -> TextSynch:
    torch.manual_seed(0)
    module = TextSynch(TOY)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module.eval().requires_grad_(False)


def text_of(*lengths: int, width: int = 0) -> tuple[Tensor, Tensor]:
    width = max(width, *lengths)
    generator = torch.Generator().manual_seed(5)
    text = torch.randn(len(lengths), width, TOY.text_dim, generator=generator)
    return text, torch.arange(width) < torch.tensor(lengths)[:, None]


def clip_of(batch: int, frames: int = 24) -> Tensor:
    return torch.rand(batch, frames, 3, 64, 64, generator=torch.Generator().manual_seed(6)) * 2 - 1


@pytest.fixture(scope="module")
def recorded_state(rule_state) -> Callable[[int], dict[str, Tensor]]:
    """Rule-made weights of the published size for a seed, made once: that takes as long as running them."""
    with torch.device("meta"):
        state = TextSynch(VARIANTS["small_16k"].video_encoder).state_dict()
    shapes = {key: list(value.shape) for key, value in state.items()}
    return cache(lambda seed: rule_state(shapes, seed))


@pytest.mark.parametrize("index", [0, *(pytest.param(index, marks=pytest.mark.slow) for index in (1, 2, 3))])
def test_features_equal_the_recorded_ones(golden, recorded_state, index: int) -> None:
    record = golden(f"textsynch_{index}")
    with torch.device("meta"):
        module = TextSynch(VARIANTS["small_16k"].video_encoder)
    module.load_state_dict(recorded_state(record.meta["weights_seed"]), assign=True)
    if not record.meta["sup_tokens_prepended"]:
        module.sup_text_feat = nn.Parameter(torch.empty(0, 768))
    batch, frames = record.meta["B"], record.meta["F"]
    coarse = record.input("coarse", (batch, frames, 3, 14, 14), kind="signed", scale=0.7)
    fine = record.input("fine", (batch, frames, 3, 224, 224), kind="signed", scale=0.3)
    video = coarse.repeat_interleave(16, 3).repeat_interleave(16, 4) + fine
    lengths = torch.tensor(record.meta["text_lengths"])
    text = record.input("text", (batch, int(lengths.max()), 768), scale=0.2)
    with torch.no_grad():
        features = module.eval().encode(video, text, torch.arange(text.shape[1]) < lengths[:, None])
    assert record.error("feat", features) < 2e-5


@settings(max_examples=10, deadline=None)
@given(length=st.integers(1, 6), padding=st.integers(0, 9))
def test_padding_never_reaches_the_features(toy: TextSynch, length: int, padding: int) -> None:
    text, mask = text_of(length)
    padded, padded_mask = text_of(length, width=length + padding)
    padded[:, :length] = text
    padded[:, length:] = 1e3
    frames = clip_of(1, 16)
    torch.testing.assert_close(
        toy.encode(frames, padded, padded_mask), toy.encode(frames, text, mask), rtol=1e-5, atol=1e-5
    )


def test_each_row_of_a_batch_equals_the_row_alone(toy: TextSynch) -> None:
    frames, (text, mask) = clip_of(3), text_of(2, 7, 4)
    together = toy.encode(frames, text, mask)
    alone = [toy.encode(frames[i : i + 1], text[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_segments_fed_in_pieces_give_the_same_features(
    toy: TextSynch, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, (text, mask) = clip_of(2, 48), text_of(3, 5)
    whole = toy.encode(frames, text, mask)
    pieces = [toy.encode_segments(piece, text, mask) for piece in cut_segments(frames).split(2, dim=1)]
    monkeypatch.setattr(synchformer, "TOKENS_AT_ONCE", 1)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(toy.encode(frames, text, mask), whole, rtol=1e-5, atol=1e-5)


def test_the_text_is_projected_once_per_call(toy: TextSynch) -> None:
    calls = []
    handle = toy.text_proj.register_forward_hook(lambda *_: calls.append(1))
    toy.encode(clip_of(2, 80), *text_of(3, 5))
    handle.remove()
    assert len(calls) == 1


def test_text_and_learned_tokens_change_the_features(toy: TextSynch) -> None:
    frames, (text, mask) = clip_of(1), text_of(4)
    base = toy.encode(frames, text, mask)
    assert (toy.encode(frames, -text, mask) - base).abs().max() > 1e-3
    learned = toy.sup_text_feat.detach().clone()
    try:
        toy.sup_text_feat.data.neg_()
        assert (toy.encode(frames, text, mask) - base).abs().max() > 1e-3
    finally:
        toy.sup_text_feat.data.copy_(learned)


def test_a_fully_masked_text_leaves_the_learned_tokens_and_stays_finite(toy: TextSynch) -> None:
    text, mask = text_of(4)
    assert toy.encode(clip_of(1), text, torch.zeros_like(mask)).isfinite().all()


def test_initialised_encoder_with_loaded_visual_weights_equals_synchformer() -> None:
    torch.manual_seed(3)
    plain, conditioned = Synchformer(TOY), TextSynch(TOY)
    synchformer.initialize(plain)
    for parameter in conditioned.parameters():
        parameter.data.fill_(torch.nan)
    text_synch.initialize(conditioned)
    conditioned.load_state_dict(plain.state_dict(), strict=False)
    frames = clip_of(2)
    with torch.no_grad():
        assert torch.equal(conditioned.encode(frames, *text_of(2, 6)), plain.encode(frames))
    assert not conditioned.sup_text_feat.any()


def test_gradients_reach_the_text_branch_after_initialisation() -> None:
    torch.manual_seed(4)
    module = TextSynch(TOY)
    text_synch.initialize(module)
    module.encode(clip_of(1, 16), *text_of(3)).square().mean().backward()
    assert module.synch_text_cross_blocks[0].norm1.weight.grad.abs().max() > 0


def test_bfloat16_weights_take_float32_inputs_and_return_float32(toy: TextSynch) -> None:
    rounded = TextSynch(TOY)
    rounded.load_state_dict(toy.state_dict())
    frames, (text, mask) = clip_of(1), text_of(4)
    exact = toy.encode(frames, text, mask)
    with torch.no_grad():
        features = rounded.bfloat16().encode(frames, text, mask)
    assert features.dtype == torch.float32 and features.isfinite().all()
    assert (features - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        (torch.zeros(2, 4, 96), torch.ones(2, 4, dtype=torch.bool)),
        (torch.zeros(1, 4, 95), torch.ones(1, 4, dtype=torch.bool)),
        (torch.zeros(1, 4, 96), torch.ones(1, 4)),
        (torch.zeros(1, 4, 96), torch.ones(1, 5, dtype=torch.bool)),
    ],
)
def test_text_or_mask_of_another_shape_or_type_is_refused(toy: TextSynch, text: Tensor, mask: Tensor) -> None:
    with pytest.raises(InputError, match="needed"):
        toy.encode(clip_of(1), text, mask)
