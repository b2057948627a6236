from pathlib import Path

import pytest

from selva_audio.dataset import Dataset, Entry
from selva_audio.dataset.remarks import remarks


def of(*prompts: str) -> tuple[str, ...]:
    entries = tuple(Entry(str(place), label="x", prompt=text) for place, text in enumerate(prompts))
    return remarks(Dataset(Path(), entries))


@pytest.mark.parametrize("prompt", ["a dog without birds", "No music, rain", "a fan, not a motor"])
def test_a_negation_in_a_prompt_is_said(prompt: str) -> None:
    (note,) = of(prompt)
    assert "says what is not heard" in note


def test_words_that_only_hold_a_negation_are_none() -> None:
    assert of("knocking notes on a piano", "northern wind") == ()


def test_two_wordings_of_one_thing_are_said_once_and_different_things_are_not() -> None:
    (note,) = of("dog barking loudly", "dogs barking loudly", "dog barking loudly")
    assert "'dog barking loudly' and 'dogs barking loudly' are nearly one" in note
    assert of("metal ball", "rubber ball", "fan blades") == ()


def test_a_set_with_a_sentence_for_each_clip_is_left_alone() -> None:
    assert of(*(f"a dog barks for the {number}th time" for number in range(150))) == ()
