from pathlib import Path

import pytest

from selva_audio.options import FeatureOptions, GenerateOptions, OutputOptions
from selva_audio.tasks.ignored import ignored_settings
from selva_audio.tasks.run import run_video

CASES = [
    ({"mask_strength": 0.5}, {}, {}, "mask_strength"),
    ({"mask_clip": False}, {}, {}, "mask_clip"),
    ({}, {"loudness": "none", "target_lufs": -20.0}, {}, "target_lufs"),
    ({}, {"normalize": False, "true_peak_ceiling": -3.0}, {}, "true_peak_ceiling"),
    ({"negative_prompt": "rain"}, {"cfg_strength": 0.5}, {}, "negative_prompt"),
    ({}, {}, {"sample_format": "pcm16"}, "sample_format"),
    ({}, {}, {"duck_db": 3.0}, "duck_db"),
    ({}, {}, {"original_audio": "mix", "duck_db": 3.0}, "duck_db"),
    ({}, {}, {"codec": "lossless", "bitrate_kbps": 64}, "bitrate_kbps"),
]


@pytest.mark.parametrize(("features", "generate", "output", "name"), CASES)
def test_a_setting_without_effect_is_named(features, generate, output, name) -> None:
    notes = ignored_settings(
        FeatureOptions(**features),
        GenerateOptions(**generate),
        OutputOptions(**output),
        has_mask=False,
        writes_video=True,
    )
    assert [name in note for note in notes] == [True]


@pytest.mark.parametrize("writes_video", [True, False])
def test_defaults_are_never_named(writes_video: bool) -> None:
    options = (FeatureOptions(), GenerateOptions(), OutputOptions())
    assert ignored_settings(*options, has_mask=False, writes_video=writes_video) == []


def test_settings_of_a_video_have_no_effect_on_a_sound_file() -> None:
    options = (FeatureOptions(), GenerateOptions(), OutputOptions(codec="lossless", original_audio="mix"))
    (note,) = ignored_settings(*options, has_mask=False, writes_video=False)
    assert note == "Without effect, because a sound file is written: original_audio, codec."


def test_the_notes_of_a_run_tell_of_it(demo_model, clip: Path, tmp_path: Path) -> None:
    result = run_video(
        demo_model,
        clip,
        tmp_path / "x.wav",
        FeatureOptions(mask_strength=0.5, cache_dir=tmp_path),
        GenerateOptions(steps=1),
    )
    assert any("mask_strength" in note for note in result.notes)
    assert any("No prompt was given" in note for note in result.notes)
