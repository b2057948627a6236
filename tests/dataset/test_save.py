from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from dataset.made import RATE, sound

from selva_audio.dataset import read_dataset
from selva_audio.dataset.augment import augment_sounds
from selva_audio.dataset.save import save_sounds
from selva_audio.dataset.sounds import SoundSet, load_sounds
from selva_audio.errors import InputError, OutputError
from selva_audio.features import load_features
from selva_audio.media.audio import read_audio
from selva_audio.options import AugmentOptions
from selva_audio.records import Audio


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_pairs_of_24_bits_are_written_that_a_data_set_is_read_from(tmp_path: Path, make_pair) -> None:
    (tmp_path / "in").mkdir()
    make_pair(tmp_path / "in", "dog", prompt="dog barking")
    loaded = load_sounds(tmp_path / "in")
    saved = save_sounds(augment_sounds(loaded), tmp_path / "out")
    assert names(tmp_path / "out") == {
        f"{name}{suffix}" for name in ("dog", "dog_aug00", "dog_aug01") for suffix in (".flac", ".npz")
    }
    assert saved.paired == ("dog", "dog_aug00", "dog_aug01") and saved.notes == ()
    assert soundfile.info(str(saved.sounds[0])).subtype == "PCM_24"
    assert torch.equal(read_audio(saved.sounds[0]).waveform, loaded.sounds[0].audio.waveform)
    entries = read_dataset(tmp_path / "out").entries
    assert {each.prompt for each in entries} == {"dog barking"}
    assert len({each.source_id for each in entries}) == 1  # never on both sides of a split


def test_features_of_another_folder_are_found_by_the_origin_and_never_by_a_shared_name(
    tmp_path: Path, make_pair
) -> None:
    """COMPAT 5.19: of two sounds of one name, one got the other's features."""
    for kind in ("cat", "dog"):
        for place in ("sounds", "features"):
            (tmp_path / place / kind).mkdir(parents=True)
        make_pair(tmp_path / "features" / kind, "x", prompt=kind, suffix="")
        make_pair(tmp_path / "sounds" / kind, "x")
        (tmp_path / "sounds" / kind / "x.npz").unlink()
    make_pair(tmp_path / "features", "x", prompt="neither", suffix="")
    make_pair(tmp_path / "features", "cat_x", prompt="cat of that name", suffix="")
    sounds = augment_sounds(load_sounds(tmp_path / "sounds"), AugmentOptions(variants_per_clip=1))
    saved = save_sounds(sounds, tmp_path / "out", features=tmp_path / "features")
    found = {name: load_features(tmp_path / "out" / f"{name}.npz").prompt for name in saved.paired}
    assert found == {
        "cat_x": "cat of that name",
        "cat_x_aug00": "cat of that name",
        "dog_x": "dog",
        "dog_x_aug00": "dog",
    }


def test_a_stretched_variant_gets_no_features_and_it_is_said(tmp_path: Path, make_pair) -> None:
    """COMPAT 5.19."""
    (tmp_path / "in").mkdir()
    make_pair(tmp_path / "in", "a")
    sounds = augment_sounds(
        load_sounds(tmp_path / "in"), AugmentOptions(variants_per_clip=1, time_stretch_range=0.2)
    )
    saved = save_sounds(sounds, tmp_path / "out")
    assert saved.paired == ("a",)
    assert names(tmp_path / "out") == {"a.flac", "a.npz", "a_aug00.flac"}
    assert saved.notes[0].startswith("a_aug00: stretched by ")


def test_lines_of_prompts_go_along_with_the_names(tmp_path: Path, make_pair) -> None:
    for place in ("in", "out"):
        (tmp_path / place).mkdir()
    make_pair(tmp_path / "in", "a", prompt="old")
    (tmp_path / "in" / "prompts.txt").write_text("a: new: better\n")
    (tmp_path / "out" / "prompts.txt").write_text("b: other\n")
    sounds = augment_sounds(load_sounds(tmp_path / "in"), AugmentOptions(variants_per_clip=1))
    save_sounds(sounds, tmp_path / "out")
    assert (
        tmp_path / "out" / "prompts.txt"
    ).read_text() == "b: other\na: new: better\na_aug00: new: better\n"


def test_a_sound_without_partner_is_saved_and_named(tmp_path: Path) -> None:
    saved = save_sounds(SoundSet((sound("a"),)), tmp_path / "out", features=tmp_path)
    assert saved.notes == ("a: no features of a were found.",)
    assert saved.sentence == "Wrote 1 sound to out, 0 with features."


def test_names_become_file_names_and_stay_apart(tmp_path: Path) -> None:
    saved = save_sounds(SoundSet((sound("a/b"), sound("A_B"), sound("..x"))), tmp_path / "out")
    assert [path.name for path in saved.sounds] == ["a_b.flac", "A_B_2.flac", "..x.flac"]
    assert {path.parent for path in saved.sounds} == {tmp_path.resolve() / "out"}


def test_a_sound_past_full_scale_is_turned_down_and_not_cut_off(tmp_path: Path) -> None:
    wave = 2 * torch.sin(torch.arange(RATE) / 5)[None, None]
    saved = save_sounds(SoundSet((replace(sound("a"), audio=Audio(wave, RATE)),)), tmp_path / "out")
    written = read_audio(saved.sounds[0]).waveform
    assert np.allclose(written, wave / wave.abs().max(), atol=1e-6)
    assert "turned down" in saved.notes[0]


def test_what_was_read_is_never_written_over(tmp_path: Path, make_pair) -> None:
    make_pair(tmp_path, "a")
    loaded = load_sounds(tmp_path)
    before = (tmp_path / "a.flac").read_bytes()
    with pytest.raises(InputError, match="would be written over"):
        save_sounds(loaded, tmp_path)
    assert (tmp_path / "a.flac").read_bytes() == before
    others = SoundSet(tuple(replace(each, name="b") for each in loaded.sounds))
    assert save_sounds(others, tmp_path).paired == ("b",)


def test_the_same_again_replaces_what_it_wrote(tmp_path: Path, make_pair) -> None:
    (tmp_path / "in").mkdir()
    make_pair(tmp_path / "in", "a")
    first = save_sounds(load_sounds(tmp_path / "in"), tmp_path / "out")
    bytes_ = first.sounds[0].read_bytes()
    assert save_sounds(load_sounds(tmp_path / "in"), tmp_path / "out") == first
    assert first.sounds[0].read_bytes() == bytes_ and len(names(tmp_path / "out")) == 2


def test_an_empty_set_and_a_folder_that_is_a_file_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no sounds"):
        save_sounds(SoundSet(()), tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        save_sounds(SoundSet((sound("a"),)), tmp_path / "file")
