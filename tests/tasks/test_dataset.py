import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.dataset import read_dataset
from selva_audio.errors import InputError, MissingFileError, OutputError
from selva_audio.features import encode_video, load_features
from selva_audio.files import file_lock
from selva_audio.media.audio import read_audio, read_audio_track, write_audio
from selva_audio.media.encode import write_video
from selva_audio.media.loudness import lufs
from selva_audio.media.video import probe, read_frames, read_image
from selva_audio.options import DatasetOptions, FeatureOptions, SceneOptions
from selva_audio.progress import Cancelled, Progress
from selva_audio.records import Audio
from selva_audio.tasks.dataset import check_dataset, draw_dataset, prepare_dataset
from selva_audio.tasks.scenes import write_scenes

LONG = DatasetOptions(window=1.0)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four drawn clips of a second, two materials."""
    options = SceneOptions(materials="metal, fan", count=4, seed=2, duration=1, size=64)
    return write_scenes(tmp_path_factory.mktemp("scenes") / "drawn", options).folder


@pytest.fixture(scope="module")
def prepared(demo_model, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "set"
    result = prepare_dataset(demo_model, scenes, folder)
    assert result.failed == {} and len(result.written) == 4
    return folder


def clip_with_noise(path: Path, seconds: float, *, seed: int = 0, clicks: tuple[float, ...] = ()) -> Path:
    """A video of 25 fps whose brightness tells the time, with noise or with clicks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * 16000))
    if clicks:
        wave *= 0
        for moment in clicks:
            begin = round(moment * 16000)
            wave[begin : begin + 400] = 0.5 * np.exp(-np.arange(400) / 60) * (-1.0) ** np.arange(400)
    levels = np.linspace(20, 220, round(25 * seconds)).astype(np.uint8)
    sound = Audio(torch.from_numpy(wave).float()[None, None], 16000)
    frames = [np.full((48, 64, 3), level, np.uint8) for level in levels]
    return write_video(frames, 25, path, sound)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_a_folder_of_drawn_scenes_becomes_a_data_set(demo_model, scenes: Path, prepared: Path) -> None:
    dataset = read_dataset(prepared)
    assert [each.label for each in dataset.entries] == ["metal", "fan", "metal", "fan"]
    assert {each.prompt for each in dataset.entries} == {"metal ball", "fan blades"}
    for each in dataset.entries:
        assert (each.npz, each.audio) == (prepared / f"{each.id}.npz", prepared / f"{each.id}.flac")
        assert each.faults == {} and each.fps == 25 and each.duration == pytest.approx(1)
    assert {each.split for each in dataset.entries} == {"train", "val"}
    stored = {path.name for path in prepared.iterdir()} - {"dataset.json", "videos", ".dataset.json.lock"}
    assert stored == {f"{each.id}{suffix}" for each in dataset.entries for suffix in (".npz", ".flac")}


def test_features_and_sound_are_those_of_the_video(demo_model, scenes: Path, prepared: Path) -> None:
    entry = read_dataset(prepared).entries[0]
    video = scenes / entry.origin.file
    made = load_features(entry.npz)
    direct = encode_video(demo_model, video, FeatureOptions(prompt=entry.prompt))
    assert torch.equal(made.sync, direct.sync) and torch.equal(made.clip, direct.clip)
    assert (made.prompt, made.variant) == (entry.prompt, "demo_16k")
    # 24 bits hold what the lossless track of the clip holds.
    assert torch.equal(read_audio(entry.audio).waveform, read_audio_track(video).waveform)
    assert entry.video.read_bytes() == video.read_bytes()


def test_nothing_in_the_data_set_tells_where_it_was_made(scenes: Path, prepared: Path) -> None:
    text = (prepared / "dataset.json").read_text()
    assert str(prepared.parent) not in text and str(scenes.parent) not in text


def test_equal_videos_give_equal_bytes(demo_model, scenes: Path, prepared: Path, tmp_path: Path) -> None:
    prepare_dataset(demo_model, scenes, tmp_path / "set")
    found, expected = contents(tmp_path / "set"), contents(prepared)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name] and not name.endswith(".npz")] == []
    # Archives carry the time of writing; what they hold does not.
    for name in (name for name in found if name.endswith(".npz")):
        assert torch.equal(load_features(tmp_path / "set" / name).sync, load_features(prepared / name).sync)


def test_a_second_run_makes_nothing_and_changes_nothing(demo_model, scenes: Path, prepared: Path) -> None:
    before = contents(prepared)
    result = prepare_dataset(demo_model, scenes, prepared)
    assert (result.written, result.skipped) == ((), 4)
    assert contents(prepared) == before


def test_videos_and_data_set_moved_together_are_known_again(demo_model, tmp_path: Path) -> None:
    clip_with_noise(tmp_path / "here" / "in" / "a.mp4", 1)
    prepare_dataset(demo_model, tmp_path / "here" / "in", tmp_path / "here" / "set")
    (tmp_path / "here").rename(tmp_path / "there")
    result = prepare_dataset(demo_model, tmp_path / "there" / "in", tmp_path / "there" / "set")
    assert (result.written, result.skipped, len(result.dataset.entries)) == ((), 1, 1)


def test_cancelled_at_any_moment_the_next_run_ends_in_the_same(
    demo_model, scenes, prepared, tmp_path
) -> None:
    folder = tmp_path / "set"
    expected = {name for name in contents(prepared)}
    for stop in (0, 9, 30):
        count = 0

        def cancel(progress: Progress, stop: int = stop) -> None:
            nonlocal count
            count += 1
            if count > stop:
                raise Cancelled

        with pytest.raises(Cancelled):
            prepare_dataset(demo_model, scenes, folder, on_progress=cancel)
        assert not [name for name in contents(folder) if ".part" in name]
        for entry in read_dataset(folder).entries:
            assert load_features(entry.npz).duration and read_audio(entry.audio).duration
    result = prepare_dataset(demo_model, scenes, folder)
    assert contents(folder).keys() == expected
    assert (folder / "dataset.json").read_bytes() == (prepared / "dataset.json").read_bytes()
    assert result.failed == {}


def test_one_bad_video_does_not_stop_the_rest(demo_model, make_clip, tmp_path: Path) -> None:
    clip_with_noise(tmp_path / "in" / "dog" / "good.mp4", 1)
    make_clip(tmp_path / "in" / "dog" / "mute.mp4", np.arange(25) / 25)
    (tmp_path / "in" / "dog" / "torn.mp4").write_bytes(b"\0" * 100)
    clip_with_noise(tmp_path / "in" / "dog" / "strange.mp4", 1)
    (tmp_path / "in" / "dog" / "strange.json").write_text("{")
    result = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set")
    assert [each.id for each in result.dataset.entries] == ["good_001"]
    assert result.failed.keys() == {"dog/mute.mp4", "dog/torn.mp4", "dog/strange.mp4"}
    assert "has no sound track" in result.failed["dog/mute.mp4"]
    assert "cannot be opened as media" in result.failed["dog/torn.mp4"]


def test_a_sound_file_beside_a_video_is_taken_for_its_sound(demo_model, make_clip, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    make_clip(tmp_path / "in" / "mute.mp4", np.arange(25) / 25)
    wave = 0.1 * torch.randn(1, 2, 44100, generator=torch.Generator().manual_seed(0))
    write_audio(tmp_path / "in" / "mute.wav", Audio(wave, 44100))
    (entry,) = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set").dataset.entries
    sound = read_audio(entry.audio)
    assert (sound.sample_rate, sound.waveform.shape) == (44100, (1, 2, 44100))


def test_a_long_video_becomes_clips_of_its_stretches(demo_model, tmp_path: Path) -> None:
    video = clip_with_noise(tmp_path / "in" / "dog" / "walk.mp4", 2.6)
    result = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set", LONG)
    first, second = result.dataset.entries
    assert [each.id for each in result.dataset.entries] == ["walk_001", "walk_002"]
    assert (first.split, first.source_id) == (second.split, second.source_id)
    assert any("--recordings file" in note for note in result.notes)
    whole = read_audio_track(video).waveform
    sound = read_audio(second.audio).waveform
    rate = read_audio_track(video).sample_rate
    assert torch.allclose(sound, whole[..., rate : 2 * rate], atol=1e-6)
    direct = encode_video(demo_model, video, FeatureOptions(prompt="dog", start=1.0, duration=1.0))
    assert torch.equal(load_features(second.npz).sync, direct.sync)
    info = probe(second.video)
    assert info.duration == pytest.approx(1.0, abs=0.041) and not info.has_audio
    shown, source = (
        read_frames(path, [25.0], seconds)[0][25.0].pixels[at]
        for path, seconds, at in ((second.video, 0.5, 0), (video, 2.0, 25))
    )
    assert abs(int(shown.mean()) - int(source.mean())) < 6


def test_clips_are_centred_on_sudden_sounds_if_asked_for(demo_model, tmp_path: Path) -> None:
    clip_with_noise(tmp_path / "in" / "knock.mp4", 4, clicks=(1.3, 3.0))
    options = DatasetOptions(window=1.0, windows="onsets", keep_video=False)
    entries = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set", options).dataset.entries
    assert [each.origin.start for each in entries] == pytest.approx([0.8, 2.5], abs=0.02)
    for each in entries:
        wave = read_audio(each.audio).waveform[0, 0].abs()
        assert int(wave.argmax()) == pytest.approx(len(wave) / 2, rel=0.1)


def test_no_clip_reaches_over_a_cut_unless_allowed(demo_model, tmp_path: Path) -> None:
    pictures = [np.full((48, 64, 3), 30 if number < 30 else 220, np.uint8) for number in range(60)]
    noise = 0.1 * torch.randn(1, 1, 38400, generator=torch.Generator().manual_seed(0))
    (tmp_path / "in").mkdir()
    write_video(pictures, 25, tmp_path / "in" / "a.mp4", Audio(noise, 16000))
    starts = {}
    for split in (True, False):
        options = DatasetOptions(window=1.0, shortest=0.5, split_at_cuts=split, keep_video=False)
        result = prepare_dataset(demo_model, tmp_path / "in", tmp_path / f"set{split}", options)
        starts[split] = [each.origin.start for each in result.dataset.entries]
    assert starts[True] == pytest.approx([0, 1.2], abs=1e-3)
    assert starts[False] == pytest.approx([0, 1.0])


def test_other_settings_make_the_clips_anew_and_leave_no_old_files(demo_model, tmp_path: Path) -> None:
    clip_with_noise(tmp_path / "in" / "a.mp4", 2.2)
    prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set", LONG)
    assert {"a_001.npz", "a_002.npz", "videos/a_002.mp4"} <= contents(tmp_path / "set").keys()
    result = prepare_dataset(
        demo_model, tmp_path / "in", tmp_path / "set", DatasetOptions(window=3.0, keep_video=False)
    )
    assert (len(result.written), result.skipped) == (1, 0)
    assert contents(tmp_path / "set").keys() == {"dataset.json", "a_001.npz", "a_001.flac"}


def test_a_changed_prompt_makes_one_clip_anew(demo_model, tmp_path: Path) -> None:
    for name in "ab":
        clip_with_noise(tmp_path / "in" / f"{name}.mp4", 1, seed=ord(name))
    prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set")
    (tmp_path / "in" / "prompts.txt").write_text("a: dog\nnone: x\n")
    result = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set")
    assert (result.written, result.skipped) == (("a_001",), 1)
    assert load_features(tmp_path / "set" / "a_001.npz").prompt == "dog"
    assert any("'none'" in note for note in result.notes)


def test_a_lost_file_is_made_again(demo_model, tmp_path: Path) -> None:
    clip_with_noise(tmp_path / "in" / "a.mp4", 1)
    prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set")
    (tmp_path / "set" / "a_001.flac").unlink()
    assert prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set").written == ("a_001",)


def test_videos_of_several_folders_come_together_and_keep_their_side(demo_model, tmp_path: Path) -> None:
    for place in ("one", "two"):
        for seed in range(3):
            clip_with_noise(
                tmp_path / place / "dog" / f"{'abc'[seed]}.mp4", 1, seed=seed + 3 * (place == "two")
            )
    options = DatasetOptions(keep_video=False, val_fraction=0.34)
    before = prepare_dataset(demo_model, tmp_path / "one", tmp_path / "set", options).dataset.entries
    result = prepare_dataset(demo_model, tmp_path / "two", tmp_path / "set", options)
    assert len(result.dataset.entries) == 6 and len(result.written) == 3
    assert all(each.faults == {} for each in result.dataset.entries)
    sides = {each.id: each.split for each in result.dataset.entries}
    assert all(sides[each.id] == each.split for each in before)
    other = options.model_copy(update={"val_fraction": 0.0})
    again = prepare_dataset(demo_model, tmp_path / "two", tmp_path / "set", other)
    assert again.written == () and {each.split for each in again.dataset.entries} == {"train"}


def test_folders_train_and_val_decide_the_split(demo_model, tmp_path: Path) -> None:
    for number, name in enumerate(("train/dog/a", "val/dog/b", "train/dog/c")):
        clip_with_noise(tmp_path / "in" / f"{name}.mp4", 1, seed=number)
    result = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set")
    assert {each.id: each.split for each in result.dataset.entries} == {
        "a_001": "train",
        "b_001": "val",
        "c_001": "train",
    }
    assert {each.label for each in result.dataset.entries} == {"dog"}


def test_each_file_is_a_recording_if_asked_for(demo_model, tmp_path: Path) -> None:
    for number in range(2):
        clip_with_noise(tmp_path / "in" / f"x_{number}.mp4", 1, seed=number)
    named = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "named")
    apart = prepare_dataset(
        demo_model, tmp_path / "in", tmp_path / "apart", DatasetOptions(recordings="file", split_seed=1)
    )
    assert {each.split for each in named.dataset.entries} == {"train"}
    assert {each.split for each in apart.dataset.entries} == {"train", "val"}


def test_copies_silence_and_short_clips_are_marked(demo_model, tmp_path: Path) -> None:
    clip_with_noise(tmp_path / "in" / "a.mp4", 1)
    shutil.copy(tmp_path / "in" / "a.mp4", tmp_path / "in" / "b.mp4")
    clip_with_noise(tmp_path / "in" / "c.mp4", 0.6, seed=2)
    write_video(
        [np.zeros((48, 64, 3), np.uint8)] * 25,
        25,
        tmp_path / "in" / "d.mp4",
        Audio(torch.zeros(1, 1, 16000), 16000),
    )
    result = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set")
    assert {each.id: set(each.faults) for each in result.dataset.entries} == {
        "a_001": set(),
        "b_001": {"duplicate"},
        "c_001": {"short"},
        "d_001": {"silence"},
    }
    assert check_dataset(tmp_path / "set").entries == result.dataset.entries
    assert json.loads((tmp_path / "set" / "dataset.json").read_text())["entries"][1]["checks"]["duplicate"]
    lenient = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set", DatasetOptions(shortest=0.5))
    assert lenient.dataset.entries[2].faults == {}


def test_clip_features_are_kept_if_asked_for(demo_model, tmp_path: Path) -> None:
    clip_with_noise(tmp_path / "in" / "a.mp4", 1)
    rows = {
        mode: load_features(
            prepare_dataset(
                demo_model, tmp_path / "in", tmp_path / mode, DatasetOptions(clip_conditioning=mode)
            )
            .dataset.entries[0]
            .npz
        ).clip.shape[1]
        for mode in ("on", "off")
    }
    assert rows == {"on": 8, "off": 0}


def test_a_check_finds_what_happened_to_the_files_since(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(prepared, folder)
    first, second, *_ = read_dataset(folder).entries
    first.audio.unlink()
    second.npz.write_bytes(b"x")
    before = contents(folder)
    checked = check_dataset(folder)
    assert [set(each.faults) for each in checked.entries] == [{"no_sound"}, {"features"}, set(), set()]
    assert contents(folder) == before


@pytest.mark.parametrize("kind", ["file", "foreign", "source", "elsewhere"])
def test_a_folder_that_is_something_else_is_refused(demo_model, scenes, tmp_path, kind) -> None:
    folder = tmp_path / "set"
    if kind == "file":
        folder.write_text("x")
    elif kind == "foreign":
        folder.mkdir()
        (folder / "mine.txt").write_text("x")
    elif kind == "source":
        folder.mkdir()
        shutil.copytree(scenes / "metal", folder / "metal")
    else:
        folder.mkdir()
        (folder / "dataset.json").write_text('[{"path": "a"}]')
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"Give (a|another|a new or an empty) folder"):
        prepare_dataset(demo_model, folder if kind == "source" else scenes, folder)
    assert contents(tmp_path) == before


def test_the_data_set_may_lie_beside_its_videos(demo_model, tmp_path: Path) -> None:
    clip_with_noise(tmp_path / "in" / "a.mp4", 1)
    for _ in range(2):
        result = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "in" / "set")
    assert len(result.dataset.entries) == 1
    with pytest.raises(MissingFileError):
        prepare_dataset(demo_model, tmp_path / "in" / "none", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_picture_of_the_set_is_written(prepared: Path, tmp_path: Path) -> None:
    path = draw_dataset(read_dataset(prepared), tmp_path / "x.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"End the name in \.png"):
        draw_dataset(read_dataset(prepared), tmp_path / "x.jpg")


def test_one_video_is_a_source_too(demo_model, tmp_path: Path) -> None:
    for name in "ab":
        clip_with_noise(tmp_path / "dog" / f"{name}.mp4", 1)
    (entry,) = prepare_dataset(demo_model, tmp_path / "dog" / "b.mp4", tmp_path / "set").dataset.entries
    assert (entry.id, entry.label) == ("b_001", "dog")


def test_a_file_that_cannot_be_written_ends_the_run_with_what_was_made_kept(
    demo_model, tmp_path: Path
) -> None:
    clip_with_noise(tmp_path / "in" / "a.mp4", 1)
    prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set")
    clip_with_noise(tmp_path / "in" / "b.mp4", 1, seed=1)
    (tmp_path / "set" / "b_001.npz").mkdir()
    with pytest.raises(OutputError, match="b_001"):
        prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set")
    assert [each.id for each in read_dataset(tmp_path / "set").entries] == ["a_001"]


def test_a_video_of_a_taken_name_gets_another(demo_model, tmp_path: Path) -> None:
    for seed, name in enumerate(("cat/x", "dog/x", "dog/deep/x", "dog/deep/dog/x")):
        clip_with_noise(tmp_path / "in" / f"{name}.mp4", 1, seed=seed)
    result = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set", DatasetOptions(keep_video=False))
    assert [(each.id, each.label) for each in result.dataset.entries] == [
        ("deep_x_001", "deep"),
        ("dog_x_001", "dog"),
        ("x_001", "cat"),
        ("x_2_001", "dog"),
    ]
    assert (
        prepare_dataset(
            demo_model, tmp_path / "in", tmp_path / "set", DatasetOptions(keep_video=False)
        ).written
        == ()
    )


def test_pictures_are_kept_one_by_one_if_asked_for(demo_model, tmp_path: Path) -> None:
    clip_with_noise(tmp_path / "in" / "a.mp4", 2)
    options = DatasetOptions(window=1.0, keep_frames=True, keep_video=False)
    entries = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set", options).dataset.entries
    assert [each.frames for each in entries] == [tmp_path / "set" / "frames" / each.id for each in entries]
    for each in entries:
        assert sorted(path.name for path in each.frames.iterdir()) == [f"{i:05d}.png" for i in range(1, 26)]
    assert read_image(entries[1].frames / "00001.png").shape == (48, 64, 3)
    assert (
        read_image(entries[0].frames / "00025.png").mean()
        < read_image(entries[1].frames / "00010.png").mean()
    )
    assert prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set", options).skipped == 2
    without = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set", LONG).dataset.entries
    assert [each.frames for each in without] == [None, None]
    assert list((tmp_path / "set" / "frames").iterdir()) == []


def test_a_stop_while_pictures_are_written_leaves_none(demo_model, tmp_path: Path, monkeypatch) -> None:
    clip_with_noise(tmp_path / "in" / "a.mp4", 1)
    written = []

    def stop(path: Path, picture: np.ndarray) -> None:
        Path(path).write_bytes(b"x")
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("matplotlib.image.imsave", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set", DatasetOptions(keep_frames=True))
    assert len(written) == 3 and not any(path.exists() for path in written)
    assert read_dataset(tmp_path / "set").entries == ()


def test_one_prompt_for_several_labels_is_said(demo_model, tmp_path: Path) -> None:
    for seed, name in enumerate(("cat/a", "dog/b")):
        clip_with_noise(tmp_path / "in" / f"{name}.mp4", 1, seed=seed)
    (tmp_path / "in" / "prompts.txt").write_text("a: animal\nb: Animal\n")
    notes = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set").notes
    assert notes == ("The prompt 'animal' stands for several labels: cat, dog.",)


def test_two_runs_do_not_write_one_folder(demo_model, tmp_path: Path) -> None:
    clip_with_noise(tmp_path / "in" / "a.mp4", 1)
    with (
        file_lock(tmp_path / "set" / ".dataset.json"),
        pytest.raises(OutputError, match="Another run is writing"),
    ):
        prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set")
    assert prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set").written == ("a_001",)


def test_sounds_are_mended_if_asked_for(demo_model, tmp_path: Path) -> None:
    clip_with_noise(tmp_path / "in" / "a.mp4", 1)
    (plain,) = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "plain").dataset.entries
    (fixed,) = prepare_dataset(
        demo_model, tmp_path / "in", tmp_path / "fixed", DatasetOptions(fix=True)
    ).dataset.entries
    level = {
        name: lufs(read_audio(each.audio).waveform[0], 16000) for name, each in (("p", plain), ("f", fixed))
    }
    assert level["f"] == pytest.approx(-23, abs=0.2) and abs(level["p"] + 23) > 1
    assert torch.equal(load_features(fixed.npz).sync, load_features(plain.npz).sync)


def test_a_data_set_is_not_prepared_again(demo_model, prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a data set already"):
        prepare_dataset(demo_model, prepared, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_findings_about_pictures_stay_until_the_clip_is_made_anew(
    demo_model, tmp_path: Path, monkeypatch
) -> None:
    halves = [np.full((48, 64, 3), 40 if number < 30 else 200, np.uint8) for number in range(60)]
    wave = torch.from_numpy(0.1 * np.random.default_rng(5).standard_normal((1, 1, 38400))).float()
    (tmp_path / "in").mkdir()
    write_video(halves, 25, tmp_path / "in" / "a.mp4", Audio(wave, 16000))
    (first,) = prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set").dataset.entries
    assert set(first.checks) == {"cut"} and first.faults == {}
    monkeypatch.setattr("selva_audio.dataset.checks.see_motion", None)
    assert prepare_dataset(demo_model, tmp_path / "in", tmp_path / "set").dataset.entries == (first,)
