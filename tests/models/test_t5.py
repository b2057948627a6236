import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from selva_audio.configs import VARIANTS
from selva_audio.models.t5 import T5

TOY = VARIANTS["demo_16k"].t5


def byte_rows(prompts: list[str]) -> tuple[Tensor, Tensor]:
    rows = [[*(byte + 3 for byte in prompt.encode()), 2] for prompt in prompts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return ids, torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]


@pytest.fixture(scope="module")
def toy() -> T5:
    torch.manual_seed(0)
    module = T5(TOY, byte_rows)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module.eval().requires_grad_(False)


def test_states_equal_transformers_own_encoder(toy: T5) -> None:
    from transformers import T5Config, T5EncoderModel

    reference = T5EncoderModel(
        T5Config(
            vocab_size=TOY.vocab_size, d_model=TOY.d_model, d_kv=TOY.d_kv, d_ff=TOY.d_ff,
            num_layers=TOY.num_layers, num_heads=TOY.num_heads, relative_attention_num_buckets=32,
            relative_attention_max_distance=128, layer_norm_epsilon=1e-6, feed_forward_proj="gated-gelu",
            is_encoder_decoder=True, tie_word_embeddings=False, pad_token_id=0, eos_token_id=1,
        )
    ).eval()  # fmt: skip
    state = toy.state_dict()
    reference.load_state_dict(state | {"shared.weight": state["encoder.embed_tokens.weight"]})
    ids, mask = byte_rows(["dog barking", "a bell"])
    with torch.no_grad():
        expected = reference(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    states, got_mask = toy.encode_text(["dog barking", "a bell"])
    assert torch.equal(got_mask, mask) and got_mask.dtype == torch.bool
    assert states.dtype == torch.float32
    torch.testing.assert_close(states[mask], expected[mask])


@settings(max_examples=15, deadline=None)
@given(prompt=st.text("abc ", max_size=12), other=st.text("xyz ", max_size=40))
def test_a_prompt_has_the_same_states_beside_any_other(toy: T5, prompt: str, other: str) -> None:
    alone, _ = toy.encode_text([prompt])
    states, mask = toy.encode_text([prompt, other])
    torch.testing.assert_close(states[0][mask[0]], alone[0], rtol=1e-4, atol=1e-5)


def test_an_empty_prompt_has_one_state(toy: T5) -> None:
    states, mask = toy.encode_text([""])
    assert states.shape == (1, 1, TOY.d_model) and mask.tolist() == [[True]]


def test_bfloat16_weights_return_float32(toy: T5) -> None:
    module = T5(TOY, byte_rows)
    module.load_state_dict(toy.state_dict())
    with torch.no_grad():
        states, _ = module.bfloat16().eval().encode_text(["dog barking"])
    exact, _ = toy.encode_text(["dog barking"])
    assert states.dtype == torch.float32
    assert (states - exact).abs().max() < 0.1 * exact.abs().max()
