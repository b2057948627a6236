import inspect

import pytest

from selva_audio import errors


def test_every_error_is_a_selva_error() -> None:
    members = vars(errors).values()
    classes = [each for each in members if inspect.isclass(each) and each.__module__ == errors.__name__]
    assert len(classes) >= 8
    assert all(issubclass(each, errors.SelVAError) for each in classes)


def test_an_unknown_name_gets_the_nearest_and_all_valid_ones() -> None:
    sentence = errors.unknown_name("solver", "eulr", ("euler", "heun"))
    assert sentence == "Unknown solver 'eulr'. Did you mean 'euler'? Known: euler, heun."


@pytest.mark.parametrize("value", ["", "zzzzzz"])
def test_nothing_near_gives_no_guess(value: str) -> None:
    assert "Did you mean" not in errors.unknown_name("solver", value, ("euler", "heun"))
