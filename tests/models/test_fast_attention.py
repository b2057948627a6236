import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from selva_audio.models.fast_attention import attend_over_time, can_attend_over_time
from selva_audio.models.synchformer import DividedAttention

pytest.importorskip("numba")
ERROR = {torch.float32: 1e-5, torch.bfloat16: 4e-3}  # of the result, relative to its size


def projections(batch, times, places, heads, width, dtype, scale=1.0):
    random = torch.Generator().manual_seed(0)
    return (scale * torch.randn(batch, 1 + times * places, 3, heads, width, generator=random)).to(dtype)


def plain(qkv, times):
    """What each token of each place sees, one place at a time."""
    batch, tokens, _, heads, width = qkv.shape
    out = torch.zeros(batch, tokens, heads, width, dtype=torch.float64)
    places = (tokens - 1) // times
    for place in range(places):
        own = 1 + place + places * torch.arange(times)
        seen = torch.cat([torch.zeros(1, dtype=torch.int64), own])
        query, key, value = qkv[:, own, 0], qkv[:, seen, 1], qkv[:, seen, 2]
        query, key, value = (each.double().transpose(1, 2) for each in (query, key, value))
        out[:, own] = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    return out


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(1, 2),
    st.integers(1, 15),
    st.integers(1, 70),
    st.integers(1, 3),
    st.sampled_from([16, 32, 64]),
    st.sampled_from([0.1, 1.0, 4.0]),
    st.sampled_from([1, 3]),
)
def test_every_token_sees_the_first_and_its_own_place(
    dtype, batch, times, places, heads, width, scale, threads
):
    qkv = projections(batch, times, places, heads, width, dtype, scale)
    assert can_attend_over_time(qkv, times)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: threads)
        found = attend_over_time(qkv, times)[:, 1:].double()
    exact = plain(qkv, times)[:, 1:]
    assert (found - exact).norm() <= ERROR[dtype] * exact.norm()


def test_the_layer_gives_the_same_with_and_without(monkeypatch):
    layer = DividedAttention(64, 4).requires_grad_(False)
    x = torch.randn(2, 1 + 8 * 9, 64, generator=torch.Generator().manual_seed(0))
    fast = {over: layer(x, 8, over=over) for over in ("time", "space")}
    monkeypatch.setattr("selva_audio.models.synchformer.can_attend_over_time", lambda qkv, times: False)
    for over, found in fast.items():
        assert torch.allclose(found, layer(x, 8, over=over), atol=1e-5)


def test_it_stays_away_from_gradients_and_odd_sizes():
    qkv = projections(1, 8, 4, 2, 16, torch.float32)
    assert can_attend_over_time(qkv, 8)
    assert not can_attend_over_time(qkv.clone().requires_grad_(), 8)
    assert not can_attend_over_time(projections(1, 8, 4, 2, 24, torch.float32), 8)
    assert not can_attend_over_time(projections(1, 16, 4, 2, 16, torch.float32), 16)
    assert not can_attend_over_time(qkv.double(), 8)


def test_what_is_not_a_number_stays_so():
    qkv = projections(1, 8, 4, 2, 16, torch.float32)
    qkv[0, 1 + 4 * 3 + 2, 1, 0, 7] = torch.nan  # a key of place 2, first head
    found = attend_over_time(qkv, 8)[0, 1:].view(8, 4, 2, 16)
    assert found[:, 2, 0].isnan().all()
    assert found[:, [0, 1, 3]].isfinite().all() and found[:, 2, 1].isfinite().all()


def test_without_numba_the_plain_form_runs(without_numba):
    assert not can_attend_over_time(projections(1, 8, 4, 2, 16, torch.float32), 8)
