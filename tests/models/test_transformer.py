import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selva_audio.models.layers import hidden_width
from selva_audio.models.transformer import (
    FinalLayer,
    JointBlock,
    SelfAttention,
    SingleStreamBlock,
    apply_rope,
    attend,
    rope_table,
)

TOLERANCE = 5e-5


@pytest.mark.parametrize("row", range(5))
def test_rope_gives_the_published_tables_and_rotation(units, unit_input, row):
    spec = units.meta["rope"][row]
    cos, sin = rope_table(spec["length"], spec["dim"], scaling=spec["freq_scaling"])
    x = unit_input(f"rope.{row}", (2, 3, spec["length"], spec["dim"]))
    assert units.error(f"rope_cos_{row}", cos) <= TOLERANCE
    assert units.error(f"rope_sin_{row}", sin) <= TOLERANCE
    assert units.error(f"rope_applied_{row}", apply_rope(x, (cos, sin))) <= TOLERANCE


@given(shift=st.integers(0, 200))
def test_rope_scores_depend_on_the_distance_only(shift):
    rope = rope_table(220, 8)
    q, k = torch.linspace(-1, 1, 8), torch.linspace(0.5, -2, 8).square()
    rotate = lambda x, position: apply_rope(x, (rope[0][position], rope[1][position]))
    torch.testing.assert_close(
        rotate(q, 3 + shift) @ rotate(k, 15 + shift), rotate(q, 3) @ rotate(k, 15), atol=1e-4, rtol=1e-4
    )


def test_rope_rotates_16_bit_input_in_float32():
    x = torch.randn(1, 1, 300, 8).bfloat16()
    rope = rope_table(300, 8)
    rotated = apply_rope(x, rope)
    assert rotated.dtype is torch.bfloat16
    assert torch.equal(rotated, apply_rope(x.float(), rope).bfloat16())


def test_attention_splits_query_key_and_value_as_published(units, load, unit_input):
    attention = load(SelfAttention(448, 7), "self.")
    q, k, v = attention(unit_input("seq", (2, 19, 448)), rope_table(19, 64))
    assert units.error("self_q", q) <= TOLERANCE
    assert units.error("self_k", k) <= TOLERANCE
    assert units.error("self_v", v) <= TOLERANCE


def test_attend_is_softmax_attention_with_heads_merged_in_order():
    q, k, v = torch.randn(3, 2, 3, 5, 4)
    weights = (q @ k.transpose(-1, -2) / 2).softmax(dim=-1)
    torch.testing.assert_close(attend(q, k, v), torch.cat((weights @ v).unbind(1), dim=-1))


@pytest.mark.parametrize(
    ("name", "prefix", "kernel_size", "condition"),
    [("single3", "single3.", 3, ("c19", 19)), ("single1_global", "single1.", 1, ("c1", 1))],
)
def test_single_stream_block_gives_the_published_numbers(
    units, load, unit_input, name, prefix, kernel_size, condition
):
    block = load(SingleStreamBlock(448, 7, hidden_width(448), kernel_size=kernel_size), prefix)
    c = unit_input(condition[0], (2, condition[1], 448))
    assert units.error(name, block(unit_input("seq", (2, 19, 448)), c, rope_table(19, 64))) <= TOLERANCE


def test_final_layer_gives_the_published_numbers(units, load, unit_input):
    layer = load(FinalLayer(448, 20), "final_layer.")
    assert (
        units.error("final", layer(unit_input("seq", (2, 19, 448)), unit_input("c1", (2, 1, 448))))
        <= TOLERANCE
    )


def joint_call(block: JointBlock, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    draw = lambda n: torch.randn(2, n, 16, generator=rng)
    return block(
        draw(6),
        draw(4),
        draw(3),
        global_condition=draw(1),
        latent_condition=draw(6),
        latent_rope=rope_table(6, 8),
        clip_rope=rope_table(4, 8, scaling=1.5),
    )


def test_pre_only_joint_block_computes_the_same_latent_and_nothing_else():
    whole = JointBlock(16, 2, 32, pre_only=False).requires_grad_(False)
    last = JointBlock(16, 2, 32, pre_only=True).requires_grad_(False)
    state = whole.state_dict()
    for key, value in last.state_dict().items():
        value.copy_(state[key][: value.shape[0]])
    latent, clip, text = joint_call(whole)
    last_latent, last_clip, last_text = joint_call(last)
    torch.testing.assert_close(last_latent, latent)
    assert not torch.equal(clip, last_clip)
    assert not torch.equal(text, last_text)
    assert last.clip_block.adaLN_modulation[1].out_features == 2 * 16
    assert not any("linear1" in key or "ffn" in key for key in last.state_dict() if "latent" not in key)


def test_joint_block_lets_every_stream_see_the_others():
    block = JointBlock(16, 2, 32, pre_only=False).requires_grad_(False)
    streams = [torch.randn(1, n, 16) for n in (6, 4, 3)]

    def run(latent, clip, text):
        return block(
            latent,
            clip,
            text,
            global_condition=torch.ones(1, 1, 16),
            latent_condition=torch.ones(1, 1, 16),
            latent_rope=rope_table(6, 8),
            clip_rope=rope_table(4, 8),
        )

    before = run(*streams)
    for changed in range(3):
        after = run(*(x + (i == changed) for i, x in enumerate(streams)))
        assert all(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
