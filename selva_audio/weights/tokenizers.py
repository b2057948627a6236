"""Prompts to token ids: CLIP's byte-pair table, T5's own tokenizer file, and bytes for the demo model.

Each class is a callable that models hold as their ``tokenizer``. Ids are CPU tensors.
"""

import gzip
import html
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path

import ftfy
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor

from ..configs import CLIPConfig, T5Config
from ..errors import CheckpointError, MissingFileError

CLIP_START, CLIP_END, CLIP_PAD = 49406, 49407, 0
BYTE_PAD, BYTE_START, BYTE_END = 0, 1, 2
_BYTE_OFFSET = 3
_CLIP_VOCABULARY = 49408
_CLIP_TABLE = Path(__file__).parent.parent / "assets" / "clip_bpe" / "bpe_simple_vocab_16e6.txt.gz"
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

ClipTokenizer = Callable[[list[str]], Tensor]
T5Tokenizer = Callable[[list[str]], tuple[Tensor, Tensor]]


def clip_tokenizer(config: CLIPConfig) -> ClipTokenizer:
    """The tokenizer a CLIP of this configuration was trained with."""
    if config.tokenizer == "bytes":
        return ClipBytes(config.context_length)
    return ClipBPE(config.context_length)


def t5_tokenizer(config: T5Config, source: str | Path | Tokenizer | None = None) -> T5Tokenizer:
    """The tokenizer a T5 of this configuration was trained with.

    Args:
        config: says which kind, the longest sequence and the size of the vocabulary.
        source: ``tokenizer.json``, the folder that holds it, or a loaded ``tokenizers.Tokenizer``; None looks
            for the T5 folder at the first use. Bytes need none.

    Raises:
        MissingFileError: ``source`` names no such file.
        CheckpointError: it is no tokenizer, or not one for this vocabulary.
    """
    if config.tokenizer == "bytes":
        return T5Bytes(config.max_length)
    tokenizer = T5Unigram(config, source)
    if source is not None:
        tokenizer.load()
    return tokenizer


class ClipBPE:
    """CLIP's lower-cased byte-pair encoding: start, tokens, end, then padding with id 0.

    Args:
        context_length: ids per prompt; a longer one is cut and its last id set to the end token.

    Source: CLIP (arXiv:2103.00020) section 2.4; the table is OpenAI's, see ``assets/clip_bpe/NOTICE``.
    """

    def __init__(self, context_length: int = 77) -> None:
        self.context_length = context_length

    def __call__(self, prompts: list[str]) -> Tensor:
        """Ids (B, context_length) int64."""
        encodings = _clip_bpe().encode_batch([clean(prompt) for prompt in prompts])
        rows = [[CLIP_START, *encoding.ids, CLIP_END] for encoding in encodings]
        return _fixed_length(rows, self.context_length, end=CLIP_END)


class ClipBytes:
    """One id per UTF-8 byte in CLIP's frame: start, bytes, end, padding."""

    def __init__(self, context_length: int = 77) -> None:
        self.context_length = context_length

    def __call__(self, prompts: list[str]) -> Tensor:
        """Ids (B, context_length) int64."""
        rows = [[BYTE_START, *_byte_ids(prompt), BYTE_END] for prompt in prompts]
        return _fixed_length(rows, self.context_length, end=BYTE_END)


class T5Bytes:
    """One id per UTF-8 byte in T5's frame: bytes, end, padding to the longest prompt."""

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length

    def __call__(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask, (B, L) each."""
        rows = [[*_byte_ids(prompt)[: self.max_length - 1], BYTE_END] for prompt in prompts]
        return _padded(rows, BYTE_PAD)


class T5Unigram:
    """T5's own tokenizer file: tokens, ``</s>``, padding to the longest prompt.

    Args:
        config: longest sequence, size of the vocabulary.
        source: see ``t5_tokenizer``.
    """

    def __init__(self, config: T5Config, source: str | Path | Tokenizer | None = None) -> None:
        self.config = config
        self._source = source

    def __call__(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask, (B, L) each."""
        tokenizer, pad, end = self._loaded
        texts = [_encodable(prompt) for prompt in prompts]
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        return _padded([[*each.ids[: self.config.max_length - 1], end] for each in encodings], pad)

    def load(self) -> None:
        """Read the file now instead of at the first prompt."""
        _ = self._loaded

    @cached_property
    def _loaded(self) -> tuple[Tokenizer, int, int]:
        source = self._source
        if isinstance(source, Tokenizer):
            tokenizer = Tokenizer.from_str(
                source.to_str()
            )  # settings below must not reach the caller's object
        else:
            tokenizer = _read_tokenizer(_find_t5(source))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        pad, end = tokenizer.token_to_id("<pad>"), tokenizer.token_to_id("</s>")
        size = tokenizer.get_vocab_size()
        if pad is None or end is None or size > self.config.vocab_size:
            raise CheckpointError(
                f"The T5 tokenizer has {size} tokens, <pad> {pad} and </s> {end}; this T5 knows "
                f"{self.config.vocab_size} tokens and needs both marks. Take the tokenizer.json that lies "
                "beside the T5 weights: selva models download t5."
            )
        return tokenizer, pad, end


def clean(text: str) -> str:
    """CLIP's cleaning: repaired Unicode, HTML unescaped twice, single spaces, lower case."""
    repaired = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(_encodable(repaired).split()).lower()


@cache
def _clip_bpe() -> Tokenizer:
    """Built from the merge table: 256 bytes, the same ending a word, one token per merge, two marks."""
    with gzip.open(_CLIP_TABLE, "rt", encoding="utf-8") as lines:
        next(lines)
        count = _CLIP_VOCABULARY - 2 * 256 - 2
        merges = [(pair[0], pair[1]) for pair in (next(lines).split() for _ in range(count))]
    symbols = _byte_symbols()
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *(left + right for left, right in merges)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def _byte_symbols() -> list[str]:
    """Printable stand-ins for the 256 bytes, in the order of CLIP's vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]


def _byte_ids(prompt: str) -> list[int]:
    return [byte + _BYTE_OFFSET for byte in clean(prompt).encode()]


def _encodable(text: str) -> str:
    """Replace lone surrogates, which an operating system can put into command lines."""
    return text.encode("utf-8", "replace").decode()


def _fixed_length(rows: list[list[int]], length: int, *, end: int) -> Tensor:
    ids = torch.full((len(rows), length), CLIP_PAD)
    for index, row in enumerate(rows):
        kept = row if len(row) <= length else [*row[: length - 1], end]
        ids[index, : len(kept)] = torch.tensor(kept)
    return ids


def _padded(rows: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    longest = max((len(row) for row in rows), default=0)
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], dtype=torch.int64)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(longest) < lengths[:, None]


def _find_t5(source: str | Path | None) -> Path:
    if source is None:
        from .store import WeightStore

        source = WeightStore().path("t5")
    path = Path(source)
    if path.is_dir():
        path = path / "tokenizer.json"
    if not path.is_file():
        raise MissingFileError(
            f"T5's tokenizer is not at {path}. It comes with the T5 weights: selva models download t5."
        )
    return path


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for an unreadable file
        raise CheckpointError(
            f"{path} is no tokenizer file ({error}). Fetch it again: selva models download t5."
        ) from error
