import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.errors import GenerationError, InputError, MediaError, MissingFileError, OutputError
from selva_audio.media.audio import read_audio_track
from selva_audio.media.container import read_tags
from selva_audio.media.loudness import rms_dbfs
from selva_audio.media.masks import mask_from_array
from selva_audio.options import FeatureOptions, GenerateOptions, OutputOptions
from selva_audio.progress import Cancelled, Progress
from selva_audio.tasks.generate import extract_features
from selva_audio.tasks.run import generate_for_video, run_video

QUICK = GenerateOptions(steps=1)
DOG = FeatureOptions(prompt="dog")


def test_the_whole_job_writes_the_sound_and_its_recipe_and_nothing_else(demo_model, clip, tmp_path) -> None:
    result = run_video(demo_model, clip, tmp_path / "new" / "out.wav", DOG, QUICK)
    assert result.outputs == (tmp_path / "new" / "out.wav",)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["out.wav", "out.wav.json"]
    assert set(result.seconds) == {"features", "generate", "write"}
    assert json.loads((tmp_path / "new" / "out.wav.json").read_text())["duration"] == 1.0


def test_the_short_form_gives_the_path(demo_model, clip, tmp_path) -> None:
    path = generate_for_video(demo_model, clip, str(tmp_path / "out.flac"), DOG, QUICK)
    assert path == tmp_path / "out.flac"
    sound = read_audio_track(path)
    assert sound is not None and sound.waveform.shape == (1, 1, 16000)


def test_takes_become_numbered_files_with_their_own_recipes(demo_model, clip, tmp_path) -> None:
    result = run_video(demo_model, clip, tmp_path / "out.wav", DOG, GenerateOptions(steps=1, takes=2, seed=5))
    assert [path.name for path in result.outputs] == ["out_01.wav", "out_02.wav"]
    contents = [path.read_bytes() for path in result.outputs]
    assert contents[0] != contents[1]
    sidecars = [json.loads(Path(f"{path}.json").read_text()) for path in result.outputs]
    assert [each["take"] for each in sidecars] == [0, 1]
    assert [json.loads(read_tags(path)["comment"])["seed"] for path in result.outputs] == [5, 6]


def test_start_puts_the_sound_at_its_place_in_the_video(demo_model, clip, tmp_path) -> None:
    options = FeatureOptions(prompt="dog", start=0.3, duration=0.5)
    result = run_video(demo_model, clip, tmp_path / "out.mp4", options, QUICK)
    sound = read_audio_track(result.outputs[0])
    assert sound is not None
    level = [rms_dbfs(sound.waveform[0][:, int(a * sound.sample_rate) : int(b * sound.sample_rate)])
             for a, b in ((0, 0.25), (0.35, 0.75), (0.85, 0.99))]  # fmt: skip
    assert level[1] > max(level[0], level[2]) + 20


@pytest.mark.parametrize(
    ("base", "changed", "ending"),
    [
        ({}, {"original_audio": "mix"}, ".mp4"),
        ({"original_audio": "mix"}, {"original_audio": "duck"}, ".mp4"),
        ({"original_audio": "mix"}, {"original_gain_db": -20.0}, ".mp4"),
        ({"original_audio": "duck"}, {"duck_db": 40.0}, ".mp4"),
        ({}, {"codec": "lossless"}, ".mp4"),
        ({}, {"bitrate_kbps": 64}, ".mp4"),
        ({}, {"sample_format": "pcm16"}, ".wav"),
    ],
    ids=str,
)
def test_every_output_option_changes_the_file(demo_model, clip, tmp_path, base, changed, ending) -> None:
    vocoder = copy.deepcopy(demo_model.vocoder)
    for parameter in vocoder.conv_post.parameters():
        parameter.mul_(1000)  # no dog is in the clip, so the sound itself is next to silent
    loud_model = demo_model.replace(vocoder=vocoder)
    sounds = []
    for index, options in enumerate((base, base | changed)):
        output = tmp_path / f"{index}{ending}"
        run_video(loud_model, clip, output, DOG, QUICK, output_options=OutputOptions(**options))
        sound = read_audio_track(output)
        assert sound is not None
        sounds.append((sound.waveform, output.stat().st_size))
    assert sounds[0][1] != sounds[1][1]
    waves = sounds[0][0], sounds[1][0]
    assert waves[0].shape != waves[1].shape or not torch.equal(*waves)


def test_all_output_options_are_covered_above() -> None:
    (marker,) = test_every_output_option_changes_the_file.pytestmark
    assert {name for _, case, _ in marker.args[1] for name in case} == set(OutputOptions.model_fields)


def test_a_mask_is_part_of_the_run(demo_model, clip, tmp_path) -> None:
    mask = mask_from_array(np.zeros((2, 2), bool))
    plain = run_video(demo_model, clip, tmp_path / "a.wav", DOG, QUICK)
    masked = run_video(demo_model, clip, tmp_path / "b.wav", DOG, QUICK, mask=mask)
    assert plain.outputs[0].read_bytes() != masked.outputs[0].read_bytes()
    assert plain.recipe["mask"] is None
    assert masked.recipe["mask"] == {"path": "", "sha256": mask.digest()}


def test_a_run_that_was_done_is_skipped_and_a_changed_one_is_not(demo_model, clip, tmp_path) -> None:
    output = tmp_path / "out.wav"

    def again(features=DOG, options=QUICK, **values) -> bool:
        result = run_video(demo_model, clip, output, features, options, skip_done=True, **values)
        return bool(result.seconds)

    assert again()
    assert not again()
    assert again(options=GenerateOptions(steps=2))
    assert again(features=FeatureOptions(prompt="cat"))
    assert not again(features=FeatureOptions(prompt="cat", cache_dir=tmp_path / "elsewhere"), options=QUICK)
    assert again(output_options=OutputOptions(sample_format="pcm16"), features=FeatureOptions(prompt="cat"))
    output.unlink()
    assert again(output_options=OutputOptions(sample_format="pcm16"), features=FeatureOptions(prompt="cat"))


def test_other_weights_are_another_run(demo_model, clip, tmp_path) -> None:
    run_video(demo_model, clip, tmp_path / "out.wav", DOG, QUICK)
    other = demo_model.replace(vae=copy.deepcopy(demo_model.vae))
    assert run_video(other, clip, tmp_path / "out.wav", DOG, QUICK, skip_done=True).seconds


def test_one_bar_rises_over_all_stages(demo_model, clip, tmp_path) -> None:
    seen: list[Progress] = []
    options = GenerateOptions(steps=2, takes=2)
    run_video(demo_model, clip, tmp_path / "out.mp4", DOG, options, on_progress=seen.append)
    steps = [each.step for each in seen]
    assert steps == sorted(steps)
    assert {each.total for each in seen} == {1000}
    assert len({each.stage for each in seen}) >= 3


@pytest.mark.parametrize("stage", ["reading and encoding video", "sampling", "decoding", "writing video"])
def test_cancelling_at_any_stage_leaves_nothing(demo_model, clip, tmp_path, stage: str) -> None:
    def cancel(progress: Progress) -> None:
        if progress.stage == stage:
            raise Cancelled

    options = DOG.model_copy(update={"cache_dir": tmp_path / "cache"})
    (tmp_path / "out").mkdir()
    with pytest.raises(Cancelled):
        run_video(demo_model, clip, tmp_path / "out" / "out.mp4", options, QUICK, on_progress=cancel)
    assert not list((tmp_path / "out").iterdir())
    assert not [
        path for path in (tmp_path / "cache").glob("*") if path.suffix != ".npz" or "part" in path.name
    ]


def test_values_that_are_not_finite_are_never_written(demo_model, clip, tmp_path) -> None:
    vocoder = copy.deepcopy(demo_model.vocoder)
    with torch.no_grad():
        vocoder.conv_post.weight.fill_(math.nan)
    with pytest.raises(GenerationError, match="Nothing was written"):
        run_video(demo_model.replace(vocoder=vocoder), clip, tmp_path / "out.wav", DOG, QUICK)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "error", "sentence"),
    [
        ("out", InputError, "has the ending 'none'"),
        ("out.mp3", InputError, r"has the ending '\.mp3'\. Use \.wav"),
        ("file/out.wav", OutputError, r"file is a file\. Choose an output below a folder"),
        ("file/deep/out.wav", OutputError, "cannot be written, because"),
        ("folder.wav", OutputError, "is a folder"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(
    demo_model, clip, tmp_path, output: str, error: type, sentence: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.wav").mkdir()

    def never(progress: Progress) -> None:
        raise AssertionError(progress)

    with pytest.raises(error, match=sentence):
        run_video(demo_model, clip, tmp_path / output, DOG, QUICK, on_progress=never)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.wav"]


def test_a_container_that_cannot_hold_the_picture_is_refused_before_any_work(
    demo_model, clip, tmp_path
) -> None:
    def never(progress: Progress) -> None:
        raise AssertionError(progress)

    with pytest.raises(InputError, match=r"\.webm file cannot hold .* h264\. Write \.mp4 or \.mov or \.mkv"):
        run_video(demo_model, clip, tmp_path / "out.webm", DOG, QUICK, on_progress=never)
    assert not list(tmp_path.iterdir())


def test_an_input_is_never_written_over(demo_model, clip, tmp_path) -> None:
    source = tmp_path / "out_02.mp4"
    source.write_bytes(clip.read_bytes())
    before = source.read_bytes()
    with pytest.raises(InputError, match="inputs are never changed"):
        run_video(demo_model, source, source, DOG, QUICK)
    with pytest.raises(InputError, match="inputs are never changed"):
        run_video(demo_model, source, tmp_path / "out.mp4", DOG, GenerateOptions(steps=1, takes=2))
    with pytest.raises(InputError, match="inputs are never changed"):
        run_video(demo_model, clip, source, DOG, QUICK, mask=source)
    assert source.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out_02.mp4"]


def test_inputs_that_are_no_files_are_sentences(demo_model, clip, tmp_path) -> None:
    with pytest.raises(MissingFileError, match=r"There is no file .*nowhere\.mp4"):
        run_video(demo_model, tmp_path / "nowhere.mp4", tmp_path / "out.wav", DOG, QUICK)
    with pytest.raises(InputError, match="is not a file that can be read"):
        extract_features(demo_model, tmp_path, DOG)
    with pytest.raises(InputError, match="is not a file that can be read"):
        extract_features(demo_model, "/dev/zero", DOG)
    with pytest.raises(MissingFileError, match=r"mask\.png"):
        run_video(demo_model, clip, tmp_path / "out.wav", DOG, QUICK, mask=tmp_path / "mask.png")
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(MediaError, match=r"empty\.mp4"):
        run_video(demo_model, tmp_path / "empty.mp4", tmp_path / "out.wav", DOG, QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.mp4"]


def test_a_picture_or_nothing_has_no_video_to_put_sound_into(mmaudio_model, tmp_path) -> None:
    (tmp_path / "still.png").write_bytes(b"x")
    for source in (None, tmp_path / "still.png"):
        with pytest.raises(InputError, match=r"no video to put into out\.mp4"):
            run_video(mmaudio_model, source, tmp_path / "out.mp4", DOG, QUICK)


def test_text_alone_is_written_with_a_recipe_without_source(mmaudio_model, tmp_path) -> None:
    options = FeatureOptions(prompt="rain", duration=1.0)
    result = run_video(mmaudio_model, None, tmp_path / "out.wav", options, QUICK)
    assert result.recipe["source"] is None
    assert result.recipe["duration"] == 1.0


def test_a_wish_past_the_end_of_the_video_is_told(demo_model, clip, tmp_path) -> None:
    options = FeatureOptions(prompt="dog", duration=30.0)
    result = run_video(demo_model, clip, tmp_path / "out.wav", options, QUICK)
    assert any("ends 1.00 s after the start" in note for note in result.notes)
