import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selva_audio.models.fast_heads import can_split_heads, split_heads
from selva_audio.models.transformer import SelfAttention, rope_table

pytest.importorskip("numba")
ERROR = {torch.float32: 1e-6, torch.bfloat16: 5e-4}  # of the result, relative to its size


def attention_of(heads, width, dtype=torch.float32):
    module = SelfAttention(heads * width, heads)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    return module.requires_grad_(False).to(dtype)


def plain(module, qkv, rope):
    """As ``SelfAttention`` writes it out."""
    apart = qkv.unflatten(-1, (module.num_heads, -1, 3)).movedim(-1, 0).transpose(2, 3)
    q, k, v = apart.unbind(0)
    return module._placed(q, module.q_norm, rope), module._placed(k, module.k_norm, rope), v


def close(found, expected, dtype):
    return (found - expected).float().norm() <= ERROR[dtype] * expected.float().norm()


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(1, 3),
    st.integers(1, 40),
    st.integers(1, 3),
    st.sampled_from([16, 32, 64]),
    st.booleans(),
    st.sampled_from([1, 3]),
)
def test_heads_and_their_gradients_are_those_of_the_plain_form(
    dtype, batch, tokens, heads, width, has_rope, threads
):
    module = attention_of(heads, width, dtype)
    rope = rope_table(tokens, width, scaling=0.7) if has_rope else None
    random = torch.Generator().manual_seed(0)
    qkv = torch.randn(batch, tokens, 3 * heads * width, generator=random).to(dtype).requires_grad_()
    wanted = [torch.randn(batch, heads, tokens, width, generator=random).to(dtype) for _ in range(3)]
    assert can_split_heads(qkv, module.q_norm.weight, module.k_norm.weight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: threads)
        patch.setattr("selva_audio.models.fast_heads._TOKENS_PER_THREAD", 1)
        fast = split_heads(qkv, module.q_norm.weight, module.k_norm.weight, rope)
        (gradient,) = torch.autograd.grad(fast, qkv, wanted)
    slow = plain(module, qkv, rope)
    for one, other in zip(fast, slow, strict=True):
        assert one.shape == other.shape and one.dtype == dtype and close(one, other, dtype)
    assert close(gradient, torch.autograd.grad(slow, qkv, wanted)[0], dtype)


def test_the_layer_gives_the_same_with_and_without(monkeypatch):
    module, rope = attention_of(2, 16), rope_table(20, 16)
    x = torch.randn(2, 20, 32, generator=torch.Generator().manual_seed(0))
    fast = module(x, rope)
    monkeypatch.setattr("selva_audio.models.transformer.can_split_heads", lambda *_: False)
    for one, other in zip(fast, module(x, rope), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_norms_that_are_trained_get_their_gradients():
    module = attention_of(2, 16).requires_grad_()
    q, _, _ = module(torch.randn(1, 5, 32), rope_table(5, 16))
    (gradient,) = torch.autograd.grad(q.square().sum(), module.q_norm.weight)
    assert gradient.abs().max() > 0
    with torch.no_grad():
        assert can_split_heads(torch.zeros(1, 5, 96), module.q_norm.weight, module.k_norm.weight)


def test_odd_sizes_and_formats_stay_with_the_plain_form():
    weight = torch.ones(16)
    assert can_split_heads(torch.zeros(1, 5, 96), weight, weight)
    assert not can_split_heads(torch.zeros(1, 5, 96).double(), weight, weight)
    assert not can_split_heads(torch.zeros(1, 5, 72), torch.ones(12), torch.ones(12))
    assert not can_split_heads(torch.zeros(1, 5, 96, device="meta"), weight, weight)


def test_without_numba_the_plain_form_runs(without_numba):
    weight = torch.ones(16)
    assert not can_split_heads(torch.zeros(1, 5, 96), weight, weight)
