import pickle
from dataclasses import replace

import pytest
import torch
from small_style import equal_tensors, snapshot, toy_model

from selva_audio.adapters.textual_inversion import (
    PACK_NOTE,
    AppliedInversion,
    TextualInversion,
    encode_with_tokens,
    invert_text,
    read_inversion,
    replace_rows,
    token_ids,
    word_embeddings,
    write_inversion,
)
from selva_audio.errors import CheckpointError, InputError, MissingFileError
from selva_audio.options import InversionOptions
from selva_audio.weights.io import write_object, write_safetensors

PROMPTS = ["a glass bell", "a dog barking"]
WIDTH = 16
ROWS = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))


def clip():
    return toy_model().clip


def plain(prompts=PROMPTS) -> torch.Tensor:
    with torch.no_grad():
        return clip().encode_text(list(prompts))


def inversion(space: str = "token", **settings) -> TextualInversion:
    return TextualInversion(ROWS, space, **{"variant": "small_16k", "clip_id": "x", **settings})


def test_the_tokens_of_words_are_the_words_of_the_prompt():
    tokens = word_embeddings(clip(), "loud rain", 2)
    with torch.no_grad():
        got = encode_with_tokens(clip(), PROMPTS, tokens)
    assert torch.equal(got, plain([f"loud rain {prompt}" for prompt in PROMPTS]))


def test_a_template_puts_the_tokens_elsewhere_and_words_beside_them():
    tokens = word_embeddings(clip(), "loud rain", 2)
    with torch.no_grad():
        got = encode_with_tokens(clip(), ["a dog"], tokens, "<prompt> like {} here")
    assert torch.equal(got, plain(["a dog like loud rain here"]))


def test_without_words_the_tokens_stand_alone():
    tokens = word_embeddings(clip(), "rain", 1)
    with torch.no_grad():
        assert torch.equal(encode_with_tokens(clip(), ["", "a dog"], tokens, "{}"), plain(["rain", "rain"]))


def test_every_later_position_changes_and_the_start_does_not():
    with torch.no_grad():
        made = encode_with_tokens(clip(), PROMPTS, ROWS)
    assert torch.equal(made[:, 0], plain()[:, 0])
    assert bool((made[:, 1:] != plain()[:, 1:]).any(dim=2).all())
    assert torch.allclose(made.norm(dim=2), torch.ones(2, 77))


def test_too_long_a_prompt_is_cut_and_keeps_its_end():
    ids = token_ids(clip(), ["dog " * 200], 3)
    assert ids.shape == (1, 77) and ids[0, 1:4].tolist() == [49408, 49409, 49410] and ids[0, -1] == 49407


def test_words_to_start_from_go_round():
    rows = word_embeddings(clip(), "loud rain", 5)
    assert (
        torch.equal(rows[0], rows[2]) and torch.equal(rows[1], rows[3]) and not torch.equal(rows[0], rows[1])
    )
    table = clip().text_model.embeddings.token_embedding.weight
    assert torch.allclose(word_embeddings(clip(), "", 2), table.mean(dim=0).expand(2, -1))
    with pytest.raises(InputError, match="holds no word"):
        word_embeddings(clip(), "  ", 2)


@pytest.mark.parametrize(("mode", "rows"), [("suffix", [74, 75, 76]), ("prefix", [1, 2, 3])])
def test_the_feature_space_replaces_the_rows_of_its_mode(mode, rows):
    made = replace_rows(plain(), ROWS, mode)
    others = [row for row in range(77) if row not in rows]
    assert torch.equal(made[:, rows], ROWS.expand(2, -1, -1))
    assert torch.equal(made[:, others], plain()[:, others])


@pytest.mark.parametrize("space", ["token", "feature"])
def test_strength_0_is_the_plain_text_and_others_are_between(space):
    text = plain()
    assert invert_text(clip(), PROMPTS, text, inversion(space), 0) is text
    with torch.no_grad():
        half, full = (invert_text(clip(), PROMPTS, text, inversion(space), each) for each in (0.5, 1.0))
    assert torch.allclose(half, (text + full) / 2, atol=1e-6)
    assert not torch.equal(full, text)


@pytest.mark.parametrize("space", ["token", "feature"])
def test_gradients_reach_the_tokens_and_clip_stays(space):
    before = snapshot(clip())
    rows = ROWS.clone().requires_grad_()
    made = (
        encode_with_tokens(clip(), PROMPTS, rows)
        if space == "token"
        else replace_rows(plain(), rows, "suffix")
    )
    made[..., 0].sum().backward()
    assert bool((rows.grad != 0).any(dim=1).all())
    assert equal_tensors(before, snapshot(clip()))
    assert torch.equal(plain(), plain())


def test_a_negative_prompt_gets_the_rows_and_not_the_words():
    text = plain()
    with torch.no_grad():
        words = AppliedInversion(inversion("token")).edit(clip(), PROMPTS, text)
        rows = AppliedInversion(inversion("feature")).edit(clip(), PROMPTS, text)
    assert not torch.equal(words[0], text[0]) and torch.equal(words[1], text[1])
    assert torch.equal(rows[:, -3:], ROWS.expand(2, -1, -1))


def test_an_account_tells_file_and_strength():
    applied = AppliedInversion(inversion(), InversionOptions(ti_strength=0.5), "a.pt", "00")
    assert applied.account == {"path": "a.pt", "sha256": "00", "options": {"ti_strength": 0.5}}


@pytest.mark.parametrize("name", ["t.pt", "t.safetensors"])
@pytest.mark.parametrize("space", ["token", "feature"])
def test_every_form_gives_back_the_same_tokens(tmp_path, name, space):
    wanted = inversion(
        space, inject_mode="prefix", template="{}, <prompt>", init_text="rain", steps=9, meta={"seed": 1}
    )
    read = read_inversion(write_inversion(tmp_path / name, wanted))
    assert torch.equal(read.embeddings, wanted.embeddings)
    assert replace(read, embeddings=ROWS) and read.notes == ()
    for key in ("space", "inject_mode", "template", "variant", "clip_id", "init_text", "steps", "meta"):
        assert getattr(read, key) == getattr(wanted, key), key


@pytest.mark.parametrize(("more", "mode"), [({}, "suffix"), ({"inject_mode": "prefix"}, "prefix")])
def test_files_of_the_public_pack_do_what_they_did(tmp_path, more, mode):
    content = {
        "embeddings": (1.5 * ROWS).to(torch.bfloat16), "n_tokens": 3, "step": 1000, "init_text": "",
        "lr": 2e-4, "steps": 3000, "loss_history": [1.0, 0.9], **more,
    }  # fmt: skip
    write_object(tmp_path / "t.pt", content)
    read = read_inversion(tmp_path / "t.pt")
    assert (read.space, read.inject_mode, read.steps, read.notes) == ("feature", mode, 1000, (PACK_NOTE,))
    made = invert_text(clip(), PROMPTS, plain(), read)
    assert torch.equal(made, replace_rows(plain(), content["embeddings"].float(), mode))


def test_our_feature_files_have_the_keys_that_the_pack_reads(tmp_path):
    content = torch.load(write_inversion(tmp_path / "t.pt", inversion("feature")), weights_only=True)
    assert {"embeddings", "n_tokens", "inject_mode", "init_text", "steps"} <= set(content)


BAD = {
    "a list": ([1], "holds a list"),
    "no tensor": ({"embeddings": [1.0]}, "no tensor named"),
    "one axis": ({"embeddings": torch.ones(4)}, r"\(tokens, width\)"),
    "too many": ({"embeddings": torch.ones(65, 4)}, r"\(tokens, width\)"),
    "NaN": ({"embeddings": torch.full((2, 4), float("nan"))}, "not finite"),
    "integers": ({"embeddings": torch.ones(2, 4).long()}, "no fractions"),
    "count": ({"embeddings": torch.ones(2, 4), "n_tokens": 3}, "tells 3 tokens"),
    "mode": ({"embeddings": torch.ones(2, 4), "inject_mode": "middle"}, "'middle'"),
    "text": ({"embeddings": torch.ones(2, 4), "init_text": 3}, "text is needed"),
    "format": ({"embeddings": torch.ones(2, 4), "format": "x/9"}, "x/9"),
}


@pytest.mark.parametrize("name", BAD)
def test_strange_files_get_one_sentence(tmp_path, name):
    content, sentence = BAD[name]
    write_object(tmp_path / "t.pt", content)
    with pytest.raises(CheckpointError, match=sentence):
        read_inversion(tmp_path / "t.pt")


class Hostile:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_nothing_is_unpickled(tmp_path, capsys):
    torch.save({"embeddings": Hostile()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Hostile(), protocol=2))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(CheckpointError, match="could run code"):
            read_inversion(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_missing_cut_and_misnamed_files_get_one_sentence(tmp_path):
    with pytest.raises(MissingFileError, match="There is no textual inversion"):
        read_inversion(tmp_path / "no.pt")
    for name in ("a.pt", "a.safetensors"):
        path = write_inversion(tmp_path / name, inversion())
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_inversion(path)
    write_safetensors(tmp_path / "j.safetensors", {"embeddings": ROWS})
    with pytest.raises(CheckpointError, match="nothing about learned tokens"):
        read_inversion(tmp_path / "j.safetensors")
    with pytest.raises(InputError, match=r"must end in \.pt"):
        write_inversion(tmp_path / "t.bin", inversion())
    with pytest.raises(InputError, match="template"):
        token_ids(clip(), ["a"], 1, "no place")


def test_tokens_of_another_width_or_too_many_are_refused():
    with pytest.raises(CheckpointError, match="16 wide"):
        invert_text(clip(), PROMPTS, torch.zeros(2, 77, 24), inversion())
    with pytest.raises(CheckpointError, match="do not fit"):
        invert_text(clip(), PROMPTS, torch.zeros(2, 4, 16), inversion())
