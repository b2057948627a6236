from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selva_audio.configs import VARIANTS, CLIPConfig, T5Config
from selva_audio.errors import CheckpointError, MissingFileError
from selva_audio.weights import tokenizers as tk


@pytest.mark.parametrize("name", ["clip_small_0", "clip_real_0"])
def test_clip_tokens_equal_the_recorded_rows(golden, name: str) -> None:
    record = golden(name)
    ids = tk.clip_tokenizer(CLIPConfig())(record.meta["prompts"])
    np.testing.assert_array_equal(ids.numpy(), record.arrays["tokens"])


@settings(max_examples=60, deadline=None)
@given(prompt=st.text(max_size=400))
def test_a_clip_row_has_77_ids_one_start_one_end_then_padding(prompt: str) -> None:
    row = tk.ClipBPE()([prompt])[0].tolist()
    end = row.index(tk.CLIP_END)
    assert len(row) == 77 and row[0] == tk.CLIP_START
    assert row.count(tk.CLIP_START) == row.count(tk.CLIP_END) == 1
    assert set(row[end + 1 :]) <= {tk.CLIP_PAD}


def test_a_long_prompt_is_cut_and_still_ends_with_the_end_token() -> None:
    words = "bell " * 200
    row = tk.ClipBPE()([words])[0]
    assert row.shape == (77,) and row[-1] == tk.CLIP_END and len(set(row[1:-1].tolist())) == 1


@pytest.mark.parametrize(
    ("messy", "plain"),
    [
        ("  Rain \n FALLS\t", "rain falls"),
        ("dog &amp;amp; cat", "dog & cat"),
        ("schÃ¶n", "schön"),
        ("a\udc80b", "a�b"),
    ],
)
def test_cleaning_repairs_unescapes_collapses_and_lowers(messy: str, plain: str) -> None:
    assert tk.clean(messy) == plain
    assert torch.equal(tk.ClipBPE()([messy]), tk.ClipBPE()([plain]))


@settings(max_examples=40, deadline=None)
@given(prompt=st.text(max_size=200))
def test_byte_tokens_keep_every_byte_within_the_cut(prompt: str) -> None:
    expected = [byte + 3 for byte in tk.clean(prompt).encode()]
    clip_row = tk.ClipBytes(77)([prompt])[0].tolist()
    ids, mask = tk.T5Bytes(128)([prompt])
    assert clip_row[: min(len(expected) + 2, 77)] == [1, *expected[:75], 2]
    assert ids[0].tolist() == [*expected[:127], 2] and mask.all()
    assert ids.max() < 259


def test_the_demo_model_reads_bytes() -> None:
    config = VARIANTS["demo_16k"]
    assert isinstance(tk.clip_tokenizer(config.clip), tk.ClipBytes)
    assert isinstance(tk.t5_tokenizer(config.t5), tk.T5Bytes)


def test_t5_pads_to_the_longest_prompt_and_masks_the_padding(unigram_tokenizer: Path) -> None:
    ids, mask = tk.t5_tokenizer(T5Config(), unigram_tokenizer)(["", "dog barking", "the bell"])
    assert mask.dtype == torch.bool and ids.shape == mask.shape
    assert mask.sum(1).tolist() == [1, 3, 3]
    assert ids[0].tolist() == [1, 0, 0]
    assert all(row[keep][-1] == 1 for row, keep in zip(ids, mask, strict=True))


def test_t5_cuts_at_the_longest_sequence_and_keeps_the_end(unigram_tokenizer: Path) -> None:
    ids, mask = tk.t5_tokenizer(T5Config(max_length=16), unigram_tokenizer.parent)(["dog " * 50])
    assert ids.shape == (1, 16) and ids[0, -1] == 1 and mask.all()


def test_a_given_tokenizer_object_keeps_its_own_settings(unigram_tokenizer: Path) -> None:
    given_object = tk.Tokenizer.from_file(str(unigram_tokenizer))
    given_object.enable_truncation(2)
    ids, _ = tk.t5_tokenizer(T5Config(), given_object)(["dog barking dog barking"])
    assert ids.shape == (1, 5)
    assert given_object.truncation["max_length"] == 2


def test_a_tokenizer_with_too_many_tokens_is_refused(unigram_tokenizer: Path) -> None:
    with pytest.raises(CheckpointError, match="32128 tokens"):
        tk.t5_tokenizer(T5Config(vocab_size=1000), unigram_tokenizer)


def test_a_missing_tokenizer_names_the_path_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"tokenizer\.json.*selva models download t5"):
        tk.t5_tokenizer(T5Config(), tmp_path)


def test_a_broken_tokenizer_file_is_a_checkpoint_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no tokenizer file"):
        tk.t5_tokenizer(T5Config(), tmp_path)


def test_without_a_source_the_t5_folder_is_looked_for_at_the_first_prompt(
    unigram_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tk.t5_tokenizer(T5Config())
    monkeypatch.setenv("SELVA_MODELS_DIR", str(tmp_path))
    with pytest.raises(MissingFileError, match="t5"):
        tokenizer(["dog"])
