"""T5 tokenizers made here: no hub is reachable in tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from published import build_unigram_tokenizer


@pytest.fixture(scope="session")
def unigram_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, with as many tokens as flan-t5-base's."""
    return build_unigram_tokenizer(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="session")
def make_unigram_tokenizer() -> Callable[..., Path]:
    """``build_unigram_tokenizer``, for another folder or size."""
    return build_unigram_tokenizer
