import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from selva_audio.errors import InputError
from selva_audio.media.audio import read_audio, read_audio_track
from selva_audio.media.masks import load_mask
from selva_audio.media.video import probe, read_frames
from selva_audio.options import SceneOptions
from selva_audio.progress import Cancelled, Progress
from selva_audio.scenes import MATERIALS, draw_frames, draw_masks, draw_scene, prompt, stem
from selva_audio.tasks.scenes import ScenesResult, write_scenes

QUICK = SceneOptions(materials="glass, fan", count=3, seed=5, duration=1.2, size=64)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ScenesResult:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "set", QUICK)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def events(made: ScenesResult, place: int) -> dict:
    return json.loads((made.folder / made.scenes[place].events).read_text())


def test_prompted_materials_take_turns_and_are_in_their_scene(made: ScenesResult) -> None:
    assert [each.material for each in made.scenes] == ["glass", "fan", "glass"]
    assert all(each.material in each.stems and each.prompt in each.caption for each in made.scenes)
    assert len({each.number for each in made.scenes}) == 3


def test_a_clip_is_filed_under_its_material_with_its_prompt(made: ScenesResult) -> None:
    for each in made.scenes:
        assert Path(each.video).parent.name == each.material
        text = (made.folder / each.video).with_suffix(".txt").read_text()
        assert text == prompt(each.material) + "\n"
    # Whoever reads the folder as a data set finds these videos and no others.
    videos = [path for path in made.folder.rglob("*") if path.suffix in (".mp4", ".mov", ".mkv", ".webm")]
    assert sorted(videos) == sorted(made.folder / each.video for each in made.scenes)


def test_the_sound_of_a_clip_is_the_stem_of_its_material_alone(made: ScenesResult) -> None:
    for each in made.scenes:
        info, sound = probe(made.folder / each.video), read_audio_track(made.folder / each.video)
        assert (info.codec, info.average_rate, info.width, info.height) == ("h264", 25, 64, 64)
        assert info.duration == pytest.approx(1.2)
        alone = read_audio(made.folder / each.stems[each.material])
        assert sound.sample_rate == alone.sample_rate == 16000
        assert np.array_equal(sound.waveform, alone.waveform)


def test_stems_are_those_of_the_scene_and_add_up_to_the_mixture(made: ScenesResult) -> None:
    for place, each in enumerate(made.scenes):
        scene = draw_scene(each.number, split="train", duration=1.2)
        gain = events(made, place)["gain"]
        total = np.zeros(scene.num_samples)
        for index, (name, path) in enumerate(each.stems.items()):
            assert scene.objects[index].material.name == name
            wave = read_audio(made.folder / path).waveform[0, 0].numpy()
            assert np.allclose(wave, gain * stem(scene, index), atol=1e-6)
            total += wave
        mixed = read_audio(made.folder / each.mixture).waveform[0, 0].numpy()
        assert np.allclose(mixed, total, atol=1e-6)


def test_frames_and_masks_are_those_of_the_scene(made: ScenesResult) -> None:
    for each in made.scenes:
        scene = draw_scene(each.number, split="train", duration=1.2)
        pixels = read_frames(made.folder / each.video, (25,), 1.2)[0][25].pixels
        assert np.abs(pixels.astype(int) - draw_frames(scene, 64)[: len(pixels)]).mean() < 4
        for mask, path in zip(draw_masks(scene, 64), each.masks.values(), strict=True):
            loaded = load_mask(made.folder / path)
            assert np.array_equal(loaded.values > 127, mask)
            assert np.allclose(loaded.times, np.arange(30) / 25)


def test_events_hold_impacts_of_what_hits_and_the_speed_of_what_turns(made: ScenesResult) -> None:
    for place, each in enumerate(made.scenes):
        scene = draw_scene(each.number, split="train", duration=1.2)
        for account, true in zip(events(made, place)["objects"], scene.objects, strict=True):
            assert account["material"] == true.material.name
            assert np.allclose(account["impacts"], true.impacts, atol=1e-6)
            assert np.allclose(account["loudness"], true.loudness, atol=1e-6)
            assert ("speed" in account) is MATERIALS[account["material"]].continuous
            if "speed" in account:
                times = np.linspace(0, 1.2, 50)
                curve = np.interp(times, account["speed"]["times"], account["speed"]["turns_per_second"])
                assert np.allclose(curve, true.speeds(times), atol=1e-4)


def test_equal_options_give_equal_bytes_and_a_larger_count_adds(made: ScenesResult, tmp_path: Path) -> None:
    one = write_scenes(tmp_path / "again", QUICK.model_copy(update={"count": 1}))
    kept = (one.folder / one.scenes[0].video).stat().st_mtime_ns
    all_three = write_scenes(tmp_path / "again", QUICK)
    assert (one.written, all_three.written) == (1, 2)
    assert (one.folder / one.scenes[0].video).stat().st_mtime_ns == kept
    assert contents(all_three.folder) == contents(made.folder)


@pytest.mark.parametrize("reports", [2, 8, 14])
def test_a_cancelled_run_leaves_whole_files_and_goes_on(
    made: ScenesResult, tmp_path: Path, reports: int
) -> None:
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) > reports:
            raise Cancelled

    with pytest.raises(Cancelled):
        write_scenes(tmp_path / "set", QUICK, on_progress=stop)
    whole = contents(made.folder)
    left = contents(tmp_path / "set") if (tmp_path / "set").exists() else {}
    listed = json.loads(left.pop("scenes.json", b'{"scenes": []}'))["scenes"]
    assert all(whole[name] == content for name, content in left.items())
    assert [each["video"] for each in listed] == sorted(
        (name for name in left if name.endswith(".mp4")), key=lambda name: Path(name).stem
    )
    write_scenes(tmp_path / "set", QUICK)
    assert contents(tmp_path / "set") == whole


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 6}, "seed = 5, not 6"),
        ({"count": 2}, "count = 3, not 2"),
        ({"split": "test"}, "split = 'train', not 'test'"),
    ],
    ids=["seed", "count", "split"],
)
def test_a_folder_of_other_scenes_is_refused_and_kept(
    made: ScenesResult, tmp_path: Path, change: dict, sentence: str
) -> None:
    folder = shutil.copytree(made.folder, tmp_path / "set")
    with pytest.raises(InputError, match=sentence):
        write_scenes(folder, QUICK.model_copy(update=change))
    assert contents(folder) == contents(made.folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", "mine"),
        ("scenes.json", "[]"),
        ("scenes.json", "{"),
        ("scenes.json", '{"options": {"seed": "x"}}'),
    ],
)
def test_a_folder_with_other_files_is_refused_and_kept(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match="empty folder"):
        write_scenes(tmp_path, QUICK)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_unknown_material_is_told_with_the_nearest_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Unknown material 'glas'\. Did you mean 'glass'\?"):
        write_scenes(tmp_path / "set", SceneOptions(materials="wood,glas"))
    assert not (tmp_path / "set").exists()


def test_without_names_every_material_is_prompted_in_turn(tmp_path: Path) -> None:
    options = SceneOptions(count=len(MATERIALS), duration=1, size=64, objects=1)
    made = write_scenes(tmp_path, options)
    assert [each.material for each in made.scenes] == list(MATERIALS)
    assert all(list(each.stems) == [each.material] for each in made.scenes)


@pytest.mark.parametrize(
    ("one", "other"),
    [({"seed": 1}, {"seed": 2}), ({"split": "train"}, {"split": "test"})],
    ids=["seed", "split"],
)
def test_another_seed_or_split_gives_other_scenes(tmp_path: Path, one: dict, other: dict) -> None:
    small = {"count": 1, "duration": 1, "size": 64, "materials": "wood"}
    first, second = (
        write_scenes(tmp_path / str(index), SceneOptions(**small | change))
        for index, change in enumerate((one, other))
    )
    videos = [(made.folder / made.scenes[0].video).read_bytes() for made in (first, second)]
    assert videos[0] != videos[1]


def test_a_mixture_too_loud_for_a_file_is_turned_down_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selva_audio.tasks import scenes as module

    for name in ("stem", "mixture"):
        true = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *arguments, true=true: 8 * true(*arguments))
    made = write_scenes(tmp_path, SceneOptions(count=1, duration=1, size=64, materials="metal"))
    mixed = read_audio(tmp_path / made.scenes[0].mixture).waveform
    stems = sum(read_audio(tmp_path / path).waveform for path in made.scenes[0].stems.values())
    assert events(made, 0)["gain"] < 1
    assert float(mixed.abs().max()) == pytest.approx(0.99, abs=1e-4)
    assert np.allclose(mixed, stems, atol=1e-6)
