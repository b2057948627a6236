import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imsave

from selva_audio.cli.app import run as selva
from selva_audio.errors import InputError, MissingFileError
from selva_audio.media.masks import mask_from_array
from selva_audio.options import FeatureOptions, GenerateOptions
from selva_audio.runtime import num_threads
from selva_audio.tasks.recipe import read_recipe, write_sidecar
from selva_audio.tasks.replay import replay
from selva_audio.tasks.run import run_video

DOG = FeatureOptions(prompt="dog")
QUICK = GenerateOptions(steps=2, seed=11)


@pytest.fixture
def made(demo_model, clip: Path, tmp_path: Path) -> Path:
    """A sound beside a copy of its video."""
    source = Path(shutil.copy(clip, tmp_path / "source.mp4"))
    return run_video(demo_model, source, tmp_path / "out.wav", DOG, QUICK).outputs[0]


def test_library_command_and_replay_write_the_same_bytes(demo_model, clip, tmp_path) -> None:
    options = GenerateOptions(steps=2, seed=11, negative_prompt="wind")
    library = run_video(demo_model, clip, tmp_path / "library.wav", DOG, options).outputs[0]
    command = f"generate {clip} -o {tmp_path}/command.wav -p dog --negative-prompt wind --steps 2 --seed 11"
    code = selva([*command.split(), "--variant", "demo_16k", "--precision", "fp32", "--device", "cpu"])
    assert code == 0
    again = replay(library).outputs[0]
    assert again == tmp_path / "library_replay.wav"
    assert library.read_bytes() == (tmp_path / "command.wav").read_bytes() == again.read_bytes()


def test_each_of_several_takes_is_replayed_alone(demo_model, clip, tmp_path) -> None:
    options = GenerateOptions(steps=1, seed=11, takes=3)
    takes = run_video(demo_model, clip, tmp_path / "out.wav", DOG, options).outputs
    for take in takes[1:]:
        again = replay(take, tmp_path / "again.wav").outputs
        assert [path.read_bytes() for path in again] == [take.read_bytes()]
        assert read_recipe(again[0])["generate"]["seed"] == 11 + takes.index(take)


def test_a_replay_of_a_replay_is_the_same(made: Path, tmp_path: Path) -> None:
    again = replay(replay(made, tmp_path / "a.wav").outputs[0], tmp_path / "b.wav").outputs[0]
    assert again.read_bytes() == made.read_bytes()


def test_the_video_is_found_beside_the_result_or_where_it_is_said_to_be(made: Path, tmp_path: Path) -> None:
    sound = made.read_bytes()
    folder = tmp_path / "moved"
    folder.mkdir()
    for name in ("out.wav", "out.wav.json", "source.mp4"):
        shutil.move(tmp_path / name, folder / name)
    assert replay(folder / "out.wav").outputs[0].read_bytes() == sound
    shutil.move(folder / "source.mp4", tmp_path / "renamed.mp4")
    with pytest.raises(MissingFileError, match=r"source\.mp4.* Say where it is now with --video"):
        replay(folder / "out.wav")
    again = replay(folder / "out.wav", video=tmp_path / "renamed.mp4").outputs[0]
    assert again.read_bytes() == sound


def test_another_video_is_refused(made: Path, tmp_path: Path) -> None:
    with (tmp_path / "source.mp4").open("ab") as handle:
        handle.write(b"\0")
    with pytest.raises(InputError, match="its content has changed"):
        replay(made)


def test_a_mask_is_looked_for_too(demo_model, clip, tmp_path) -> None:
    mask = tmp_path / "mask.png"
    imsave(mask, np.eye(8), cmap="gray")
    result = run_video(demo_model, clip, tmp_path / "out.wav", DOG, QUICK, mask=mask).outputs[0]
    moved = mask.rename(tmp_path / "elsewhere.png")
    with pytest.raises(MissingFileError, match="with --mask"):
        replay(result)
    assert replay(result, mask=moved).outputs[0].read_bytes() == result.read_bytes()


def test_a_mask_from_memory_cannot_be_replayed(demo_model, clip, tmp_path) -> None:
    mask = mask_from_array(np.eye(4))
    result = run_video(demo_model, clip, tmp_path / "out.wav", DOG, QUICK, mask=mask)
    with pytest.raises(InputError, match="mask of the recipe was in memory"):
        replay(result.outputs[0])


def test_the_threads_of_the_recipe_are_used_and_then_put_back(made: Path, tmp_path: Path) -> None:
    write_sidecar(made, read_recipe(made) | {"threads": 2})
    before, seen = num_threads(), set()
    result = replay(made, tmp_path / "a.wav", on_progress=lambda _: seen.add(num_threads()))
    assert (seen, num_threads(), result.recipe["threads"]) == ({2}, before, 2)


def test_other_weights_are_told(made: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = read_recipe(made)
    write_sidecar(made, recipe | {"weights": recipe["weights"] | {"vae": "md5:0"}})
    with caplog.at_level(logging.WARNING):
        replay(made)
    assert "Other weights than in the recipe: vae." in caplog.text


def test_an_option_of_a_newer_version_is_refused_by_name(made: Path) -> None:
    recipe = read_recipe(made)
    write_sidecar(made, recipe | {"generate": recipe["generate"] | {"reverb": 1}})
    with pytest.raises(InputError, match="Unknown option 'reverb'"):
        replay(made)


def test_the_command_tells_its_result(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert selva(["replay", str(made), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["outputs"] == [str(made.with_name("out_replay.wav"))]
    assert result["recipe"]["generate"]["seed"] == 11
