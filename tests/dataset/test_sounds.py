from pathlib import Path

import pytest
import torch
from dataset.made import RATE, sound

from selva_audio.dataset.sounds import SoundSet, each_sound, free_name, load_sounds, take_sound
from selva_audio.errors import InputError, MediaError, MissingFileError
from selva_audio.media.audio import write_audio
from selva_audio.records import Audio


def write(path: Path, level: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_audio(path, sound(level=level).audio)


def test_a_folder_is_loaded_with_all_folders_in_it_in_order_of_path(tmp_path: Path) -> None:
    for name in ("b.wav", "deep/er/c.flac", "a.flac", ".hidden/x.wav", "notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("x")
        else:
            write(tmp_path / name)
    loaded = load_sounds(tmp_path)
    assert [each.name for each in loaded.sounds] == ["a", "b", "c"]
    assert loaded.sounds[2].path == (tmp_path / "deep/er/c.flac").resolve()
    assert loaded.sounds[0].audio.waveform.shape == (1, 1, RATE)
    assert loaded.notes == ()


def test_equal_names_in_two_folders_stay_apart(tmp_path: Path) -> None:
    """COMPAT 5.19: one wrote over the other in the saver."""
    for name in ("cat/x.wav", "dog/X.wav", "dog/y.wav", "dog_y.wav"):
        write(tmp_path / name)
    write(tmp_path / "other/y.wav")
    names = [each.name for each in load_sounds(tmp_path).sounds]
    assert names == ["cat_x", "dog_X", "dog_y", "dog_y_2", "other_y"]
    assert len({name.casefold() for name in names}) == len(names)


def test_of_one_name_the_better_ending_is_taken_and_the_rest_named(tmp_path: Path) -> None:
    write(tmp_path / "a.flac")
    write(tmp_path / "a.wav", 0.2)
    (tmp_path / "a.mp3").write_bytes(b"x")
    loaded = load_sounds(tmp_path)
    assert [each.path.name for each in loaded.sounds] == ["a.wav"]
    assert loaded.notes == ("Of one name, a.wav is taken, and a.flac, a.mp3 left out.",)


def test_a_bad_file_is_left_out_with_a_note_and_nothing_but_bad_ones_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"\0" * 50)
    with pytest.raises(MediaError, match="No sound of"):
        load_sounds(tmp_path)
    write(tmp_path / "good.wav")
    loaded = load_sounds(tmp_path)
    assert [each.name for each in loaded.sounds] == ["good"]
    assert "bad.wav" in loaded.notes[0]


def test_more_than_fits_into_memory_is_refused(tmp_path: Path, monkeypatch) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.wav")
    monkeypatch.setattr("selva_audio.dataset.sounds._MOST_SAMPLES", RATE)
    with pytest.raises(InputError, match="Split the folder"):
        load_sounds(tmp_path)


def test_no_folder_and_no_sound_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="There is no folder"):
        load_sounds(tmp_path / "none")
    with pytest.raises(MissingFileError, match="holds no sound"):
        load_sounds(tmp_path)


def test_a_tool_changes_the_sound_and_nothing_else() -> None:
    """COMPAT 5.19: steps dropped whose variant a sound was."""
    sounds = SoundSet((sound("a", origin_name="o", path=Path("x.wav"), stretch=1.1), sound("b")))
    tool = lambda audio, on_progress: (Audio(audio.waveform / 2, 8000), ["halved"])
    done = each_sound(sounds, tool)
    first = done.sounds[0]
    assert (first.name, first.origin_name, first.path, first.stretch) == ("a", "o", Path("x.wav"), 1.1)
    assert first.audio.sample_rate == 8000
    assert torch.equal(first.audio.waveform, sounds.sounds[0].audio.waveform / 2)
    assert done.notes == ("a: halved", "b: halved")


def test_a_refused_sound_is_named() -> None:
    def tool(audio, on_progress):
        raise InputError("It is empty.")

    with pytest.raises(InputError, match="b: It is empty"):
        each_sound(SoundSet((sound("b"),)), tool)


def test_past_the_end_sounds_are_taken_from_the_start_again() -> None:
    sounds = SoundSet((sound("a"), sound("b"), sound("c")))
    assert [take_sound(sounds, index).name for index in (0, 2, 3, 9999)] == ["a", "c", "a", "a"]
    with pytest.raises(InputError, match="holds no sounds"):
        take_sound(SoundSet(()), 0)


def test_a_free_name_is_free_in_any_case() -> None:
    assert free_name("a", ["b"]) == "a"
    assert free_name("A", ["a", "A_2"]) == "A_3"
