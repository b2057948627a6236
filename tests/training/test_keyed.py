from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from selva_audio.training.keyed import ClipOrder, keyed


def test_a_stream_depends_on_its_names_alone():
    first = torch.randn(4, generator=keyed(1, 2, "noise", 0))
    assert torch.equal(first, torch.randn(4, generator=keyed(1, 2, "noise", 0)))
    for other in ((1, 2, "noise", 1), (1, 3, "noise", 0), (2, 2, "noise", 0), (1, 2, "time", 0)):
        assert not torch.equal(first, torch.randn(4, generator=keyed(*other)))


@given(st.integers(1, 13), st.integers(1, 20), st.integers(0, 5), st.integers(1, 40))
def test_clips_are_used_equally_often_and_once_in_a_batch(clips, batch, seed, steps):
    order = ClipOrder(clips, batch, seed)
    counts = Counter({index: 0 for index in range(clips)})
    for step in range(steps):
        indices = order.batch(step)
        assert len(indices) == batch
        if batch <= clips:
            assert len(set(indices)) == batch
        counts.update(indices)
        if (step + 1) * batch % clips == 0:
            assert len(set(counts.values())) == 1
        # A batch that begins a permutation early takes from its far end what comes twice otherwise.
        assert max(counts.values()) - min(counts.values()) <= 1 + (batch > clips)


@given(st.integers(1, 13), st.integers(1, 20), st.integers(0, 3), st.integers(0, 60))
def test_the_batch_of_a_step_is_the_same_whichever_came_before(clips, batch, seed, step):
    all_of_them = ClipOrder(clips, batch, seed)
    walked = [all_of_them.batch(each) for each in range(step + 1)][-1]
    assert walked == ClipOrder(clips, batch, seed).batch(step)
    assert all_of_them.batch(0) == ClipOrder(clips, batch, seed).batch(0)


def test_another_seed_gives_another_order():
    assert ClipOrder(12, 4, 0).batch(0) != ClipOrder(12, 4, 1).batch(0)
