from hypothesis import given
from hypothesis import strategies as st

from selva_audio.dataset import Entry, with_splits

RECORDINGS = st.lists(st.sampled_from([f"r{number}" for number in range(30)]), min_size=1, max_size=60)


def entries(recordings: list[str]) -> list[Entry]:
    return [Entry(f"{name}_{place:03d}", source_id=name) for place, name in enumerate(recordings)]


@given(RECORDINGS, st.floats(0, 0.9), st.integers(0, 5))
def test_a_recording_is_never_on_both_sides(recordings: list[str], fraction: float, seed: int) -> None:
    sides: dict[str, set[str]] = {}
    for entry in with_splits(entries(recordings), fraction, seed):
        sides.setdefault(entry.source_id, set()).add(entry.split)
    assert all(len(found) == 1 for found in sides.values())
    count = sum(found == {"val"} for found in sides.values())
    if fraction == 0 or len(sides) == 1:
        assert count == 0
    else:
        assert count == min(max(round(fraction * len(sides)), 1), len(sides) - 1)


@given(RECORDINGS, st.integers(0, 5))
def test_the_order_of_clips_does_not_matter(recordings: list[str], seed: int) -> None:
    def sides(found: list[Entry]) -> dict[str, str]:
        return {each.source_id: each.split for each in with_splits(found, 0.3, seed)}

    assert sides(entries(recordings)) == sides(entries(recordings)[::-1])


@given(RECORDINGS, RECORDINGS)
def test_what_has_a_side_keeps_it_when_clips_are_added(first: list[str], more: list[str]) -> None:
    before = with_splits(entries(first), 0.25, 0)
    after = {each.source_id: each.split for each in with_splits([*before, *entries(more)], 0.25, 0)}
    assert all(after[each.source_id] == each.split for each in before)


def test_another_seed_chooses_others() -> None:
    found = entries([f"r{number}" for number in range(20)])
    chosen = {
        tuple(each.source_id for each in with_splits(found, 0.2, seed) if each.split == "val")
        for seed in range(8)
    }
    assert len(chosen) > 4


def test_recordings_of_which_no_clip_is_fit_are_not_kept_for_validation() -> None:
    bad = [Entry(f"bad{number}", source_id=f"bad{number}", checks={"silence": "x"}) for number in range(20)]
    found = with_splits([*bad, *entries(["a", "b"])], 0.2, 0)
    assert {each.split for each in found[:20]} == {"train"}
    assert sorted(each.split for each in found[20:]) == ["train", "val"]
