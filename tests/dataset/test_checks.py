import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from selva_audio.dataset import REMARKS, Entry, check_entries, check_sound, read_dataset
from selva_audio.dataset.likeness import mel_picture
from selva_audio.dataset.measures import band_limit
from selva_audio.features import VideoFeatures, save_features
from selva_audio.media.audio import resample, write_audio
from selva_audio.media.encode import write_video
from selva_audio.records import Audio
from selva_audio.scenes import MATERIALS, draw_frames, draw_scene, mixture, stem

RATE = 16000
SETTINGS = {"shortest": 1.0, "sample_rate": 16000.0}


def audio(wave: np.ndarray, rate: int = RATE) -> Audio:
    return Audio(torch.from_numpy(np.asarray(wave, np.float32))[None, None], rate)


def hiss(seconds: float = 1.0, seed: int = 0, rate: int = RATE) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


def as_mp3(wave: np.ndarray, rate: int) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="MP3", compression_level=0.5)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0][: len(wave)]


def test_a_clean_sound_has_no_findings() -> None:
    assert check_sound(audio(hiss()), SETTINGS) == {}


@pytest.mark.parametrize("material", MATERIALS)
def test_the_sound_of_every_drawn_object_is_clean(material: str) -> None:
    scenes = (draw_scene(number, split="train", duration=4.0) for number in range(100))
    scene = next(scene for scene in scenes if scene.find(material))
    names = [each.material.name for each in scene.objects]
    assert check_sound(audio(stem(scene, names.index(material))), SETTINGS) == {}


def test_silence_is_found_and_a_single_click_is_not_silence() -> None:
    wave = np.zeros(4 * RATE)
    assert set(check_sound(audio(wave), SETTINGS)) == {"silence"}
    assert set(check_sound(audio(1e-5 * hiss(4)), SETTINGS)) == {"silence"}
    wave[1000:1040] = 0.3 * np.hanning(40)
    assert check_sound(audio(wave), SETTINGS) == {}


def test_clipping_is_found_at_any_level_and_a_loud_tone_is_not_clipped() -> None:
    loud = 8 * hiss(2)
    assert "clipping" in check_sound(audio(loud.clip(-1, 1)), SETTINGS)
    assert "clipping" in check_sound(audio(0.5 * loud.clip(-1, 1)), SETTINGS)
    tone = np.round(0.99 * np.sin(np.arange(2 * RATE) * 2 * np.pi * 60 / RATE) * 32768) / 32768
    assert check_sound(audio(tone), SETTINGS) == {}


def test_a_short_sound_is_found_by_the_setting() -> None:
    assert set(check_sound(audio(hiss(0.5)), SETTINGS)) == {"short"}
    assert check_sound(audio(hiss(0.5)), SETTINGS | {"shortest": 0.5}) == {}


def test_a_rate_under_the_models_is_a_remark_and_no_fault() -> None:
    found = check_sound(audio(hiss(1, rate=8000), 8000), SETTINGS)
    assert set(found) == {"rate"} <= set(REMARKS)
    assert Entry("a", checks=found).faults == {}


def test_numbers_that_are_none_are_no_sound() -> None:
    wave = hiss()
    wave[5] = np.nan
    assert set(check_sound(audio(wave), SETTINGS)) == {"no_sound"}


def test_a_spectrum_that_ends_like_a_wall_is_found_where_it_ends() -> None:
    narrow = resample(torch.from_numpy(hiss(2, rate=22050)), 22050, 48000).numpy()
    assert band_limit(narrow, 48000) == pytest.approx(11025, rel=0.05)
    coded = band_limit(as_mp3(hiss(2, rate=44100), 44100), 44100)
    assert coded is not None and 14000 < coded < 20000


def test_low_and_tonal_sounds_do_not_count_as_band_limited() -> None:
    time = np.arange(2 * 48000) / 48000
    assert band_limit(np.cumsum(hiss(2, rate=48000)).astype(np.float32) * 0.01, 48000) is None
    assert band_limit(np.sin(2 * np.pi * 440 * time).astype(np.float32), 48000) is None
    chord = sum(np.sin(2 * np.pi * each * time) for each in range(500, 6000, 500))
    assert band_limit(chord.astype(np.float32), 48000) is None


def test_copies_are_known_at_another_level_rate_and_coding() -> None:
    wave = hiss(2, rate=44100) * np.linspace(1, 0.1, 88200, dtype=np.float32)
    first = mel_picture(audio(wave, 44100))
    assert first.is_copy_of(mel_picture(audio(0.2 * wave, 44100)))
    assert first.is_copy_of(mel_picture(audio(as_mp3(wave, 44100), 44100)))
    assert first.is_copy_of(mel_picture(audio(resample(torch.from_numpy(wave), 44100, 32000).numpy(), 32000)))


def test_two_takes_of_one_noise_are_no_copies() -> None:
    assert not mel_picture(audio(hiss(2))).is_copy_of(mel_picture(audio(hiss(2, seed=1))))
    assert not mel_picture(audio(hiss(2))).is_copy_of(mel_picture(audio(hiss(1))))


def test_of_two_equal_clips_the_later_one_is_the_copy(tmp_path: Path, make_pair) -> None:
    for name, seed in (("a", 0), ("b", 1), ("c", 0)):
        make_pair(tmp_path, name, seed=seed)
    checked = list(check_entries(read_dataset(tmp_path).entries, {}))
    assert [set(each.faults) for each in checked] == [set(), set(), {"duplicate"}]
    assert "same sound as a." in checked[2].checks["duplicate"]


def test_files_that_are_gone_or_torn_are_found(tmp_path: Path, make_pair) -> None:
    for name in "abcd":
        make_pair(tmp_path, name, seed=ord(name))
    dataset = read_dataset(tmp_path)
    (tmp_path / "b.flac").write_bytes(b"fLaC")
    (tmp_path / "c.npz").unlink()
    entries = [*dataset.entries, replace(dataset.entries[0], id="e", audio=None, npz=None)]
    assert [set(each.faults) for each in check_entries(entries, {})] == [
        set(),
        {"no_sound"},
        {"features"},
        set(),
        {"no_sound", "features"},
    ]


def test_features_of_another_model_and_broken_numbers_are_found(tmp_path: Path, make_pair) -> None:
    for seed, name in enumerate("abc"):
        make_pair(tmp_path, name, seed=seed)
    save_features(tmp_path / "b.npz", VideoFeatures(torch.zeros(1, 0, 8), torch.zeros(1, 8, 6)))
    save_features(tmp_path / "c.npz", VideoFeatures(torch.zeros(1, 0, 8), torch.full((1, 8, 4), torch.nan)))
    checked = list(check_entries(read_dataset(tmp_path).entries, {}))
    assert "another model" in checked[1].faults["features"]
    assert "NaN" in checked[2].faults["features"]


def test_earlier_findings_are_forgotten(tmp_path: Path, make_pair) -> None:
    make_pair(tmp_path, "a")
    write_audio(tmp_path / "a.flac", audio(hiss()))
    (entry,) = read_dataset(tmp_path).entries
    (checked,) = check_entries([replace(entry, checks={"silence": "It was silent."})], SETTINGS)
    assert checked.checks == {}


def test_a_sound_in_noise_far_too_quiet_or_off_the_middle_is_a_remark() -> None:
    past = np.arange(8 * RATE) / RATE % 1.0
    hits = 0.5 * np.exp(-past / 0.1) * np.sin(5000 * past)
    found = {
        "noise": check_sound(audio(hits + hiss(8)), SETTINGS),
        "quiet": check_sound(audio(0.02 * hiss(2)), SETTINGS),
        "dc": check_sound(audio(hiss(2) + 0.05), SETTINGS),
    }
    assert {name: set(checks) for name, checks in found.items()} == {name: {name} for name in found}
    assert set(found) <= set(REMARKS)


def test_no_samples_are_no_sound() -> None:
    assert set(check_sound(audio(np.zeros(0)), SETTINGS)) == {"no_sound"}


def test_a_variant_at_another_level_is_no_copy_and_a_copy_of_a_variant_is(tmp_path: Path, make_pair) -> None:
    for name in ("a_001", "a_001_aug00", "a_001_aug01", "b_aug00"):
        make_pair(tmp_path, name, seed=3)
    checked = list(check_entries(read_dataset(tmp_path).entries, {}))
    assert [set(each.faults) for each in checked] == [set(), set(), set(), {"duplicate"}]
    assert {each.source_id for each in checked[:3]} == {"a"}


def test_a_sound_that_is_coded_with_loss_is_a_remark(tmp_path: Path, make_pair) -> None:
    make_pair(tmp_path, "a", suffix="")
    soundfile.write(tmp_path / "a.ogg", hiss(2), RATE)
    (checked,) = check_entries(read_dataset(tmp_path).entries, {})
    assert "coded with loss" in checked.checks["lossy"] and checked.faults == {}


def test_cuts_in_a_picture_and_a_late_sound_are_remarks(tmp_path: Path, make_clip, make_pair) -> None:
    make_pair(tmp_path, "a")
    (entry,) = read_dataset(tmp_path).entries
    halves = lambda number: np.full((48, 64, 3), 40 if number < 50 else 200, np.uint8)
    cut = make_clip(tmp_path / "cut.mp4", np.arange(100) / 25, pictures=halves)
    (checked,) = check_entries([replace(entry, video=cut)], {})
    assert checked.checks["cut"].startswith("The picture changes altogether at 2.00 s")

    scene = draw_scene(3, split="val", duration=8.0)
    video = write_video(draw_frames(scene, size=32), 25, tmp_path / "drawn.mp4")
    late = np.concatenate([np.zeros(6400, np.float32), mixture(scene).astype(np.float32)])[: 8 * RATE]
    write_audio(tmp_path / "a.flac", audio(late))
    (checked,) = check_entries([replace(entry, video=video)], {})
    assert "after the motion" in checked.checks["sync"]
    write_audio(tmp_path / "a.flac", audio(mixture(scene)))
    (checked,) = check_entries([replace(entry, video=video)], {})
    assert "sync" not in checked.checks
    (tmp_path / "drawn.mp4").write_bytes(b"x")
    (checked,) = check_entries([replace(entry, video=video)], {})
    assert "cannot be read" in checked.checks["picture"] and checked.faults == {}


def test_mixed_rates_are_a_remark_where_the_models_is_not_known(tmp_path: Path, make_pair) -> None:
    for name in "ab":
        make_pair(tmp_path, name, seed=ord(name))
    write_audio(tmp_path / "b.flac", audio(hiss(1, 3, 44100), 44100))
    checked = list(check_entries(read_dataset(tmp_path).entries, {}))
    assert [each.checks for each in checked] == [
        {},
        {"rate": "The sound has 44100 Hz, the first one 16000 Hz."},
    ]
    assert [each.checks for each in check_entries(read_dataset(tmp_path).entries, SETTINGS)] == [{}, {}]
