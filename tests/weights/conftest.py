"""A T5 tokenizer and a model hub made here: no hub is reachable in tests."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors


def build_unigram_tokenizer(path: Path, vocab_size: int = 32128) -> Path:
    """Write a ``tokenizer.json`` with T5's kind of model and its special ids (pad 0, eos 1, unk 2).

    Not T5's vocabulary: letters, a few words, and numbered fillers up to ``vocab_size``.
    """
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(f"▁{word}", -6.0) for word in ("dog", "barking", "rain", "bell", "the", "a", "is", "on")]
    pieces += [(chr(code), -9.0) for code in range(0x21, 0x7F)]
    pieces += [(f"<extra_id_{index}>", -20.0) for index in range(vocab_size - len(pieces))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    path.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path / "tokenizer.json"))
    return path / "tokenizer.json"


@pytest.fixture(scope="session")
def unigram_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, with as many tokens as flan-t5-base's."""
    return build_unigram_tokenizer(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="session")
def make_unigram_tokenizer() -> Callable[..., Path]:
    """``build_unigram_tokenizer``, for another folder or size."""
    return build_unigram_tokenizer


def _hub_server() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hub_server", Path(__file__).parents[1] / "hub_server.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["hub_server"] = module
    spec.loader.exec_module(module)
    return module


hub = _hub_server().hub
