import json
from pathlib import Path

import pytest
import torch

import selva_audio
from selva_audio.errors import InputError, MissingFileError
from selva_audio.files import file_digest
from selva_audio.media.container import read_tags
from selva_audio.options import FeatureOptions, GenerateOptions, OutputOptions
from selva_audio.tasks.recipe import FORMAT, read_recipe, same_run, sidecar_path, write_sidecar
from selva_audio.tasks.run import run_video


@pytest.fixture(scope="module")
def made(demo_model, clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound with its recipe."""
    options = GenerateOptions(steps=1, seed=7, negative_prompt="wind", cfg_strength=3.0)
    output = tmp_path_factory.mktemp("made") / "out.flac"
    run_video(demo_model, clip, output, FeatureOptions(prompt="dog"), options)
    return output


def test_the_sidecar_holds_everything_that_decides_the_samples(made: Path, demo_model, clip: Path) -> None:
    recipe = json.loads(sidecar_path(made).read_text())
    assert sidecar_path(made).name == "out.flac.json"
    assert recipe["format"] == FORMAT == "selva-recipe/1"
    assert recipe["selva_audio"] == selva_audio.__version__
    assert recipe["torch"] == torch.__version__
    assert recipe["source"] == {"path": str(clip.resolve()), "sha256": file_digest(clip)}
    assert recipe["mask"] is None
    assert (recipe["variant"], recipe["precision"], recipe["device"]) == ("demo_16k", "fp32", "cpu")
    assert (recipe["threads"], recipe["take"], recipe["duration"]) == (1, 0, 1.0)
    assert recipe["weights"] == demo_model.identities()
    assert GenerateOptions.parse(**recipe["generate"]).seed == 7
    assert FeatureOptions.parse(**recipe["features"]).prompt == "dog"
    assert OutputOptions.parse(**recipe["output"]) == OutputOptions()


def test_where_features_are_kept_is_no_part_of_a_recipe(made: Path) -> None:
    features = read_recipe(made)["features"]
    assert set(features) == set(FeatureOptions.model_fields) - {"cache_dir", "name"}


@pytest.mark.parametrize("ending", [".wav", ".flac", ".mp4", ".mkv"])
def test_the_short_form_is_in_the_tags(demo_model, clip, tmp_path: Path, ending: str) -> None:
    options = GenerateOptions(steps=1, seed=7)
    run_video(demo_model, clip, tmp_path / f"out{ending}", FeatureOptions(prompt="dög"), options)
    short = json.loads(read_tags(tmp_path / f"out{ending}")["comment"])
    assert short == {
        "selva_audio": selva_audio.__version__,
        "variant": "demo_16k",
        "prompt": "dög",
        "negative_prompt": "",
        "seed": 7,
        "steps": 1,
        "cfg_strength": 4.5,
        "solver": "euler",
    }


def test_a_recipe_is_found_by_the_result_and_by_its_own_path(made: Path) -> None:
    assert read_recipe(made) == read_recipe(sidecar_path(made))


def test_a_moved_source_is_the_same_run_and_a_changed_one_is_not(made: Path) -> None:
    recipe = read_recipe(made)
    moved = recipe | {"source": recipe["source"] | {"path": "elsewhere.mp4"}}
    changed = recipe | {"source": recipe["source"] | {"sha256": "0"}}
    assert same_run(made, recipe) and same_run(made, moved)
    assert not same_run(made, changed)
    assert not same_run(made, recipe | {"weights": {}})
    assert not same_run(made.with_name("other.flac"), recipe)


def test_a_damaged_sidecar_is_another_run(made: Path, tmp_path: Path) -> None:
    (tmp_path / "out.wav").write_bytes(b"")
    sidecar_path(tmp_path / "out.wav").write_text("{torn")
    assert not same_run(tmp_path / "out.wav", read_recipe(made))


def test_no_recipe_is_told_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no recipe .*out\.wav\.json"):
        read_recipe(tmp_path / "out.wav")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{torn", "not readable as JSON"),
        ("[]", "is not a recipe of this program"),
        ('{"format": "selva-recipe/99"}', "is not a recipe of this program"),
    ],
)
def test_what_is_no_recipe_is_a_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=sentence):
        read_recipe(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("variant", None),
        ("threads", 10**9),
        ("threads", 0),
        ("take", -1),
        ("weights", []),
        ("source", {"path": 3}),
        ("generate", "fast"),
    ],
)
def test_a_recipe_with_a_wrong_entry_names_it(made: Path, tmp_path: Path, key: str, value: object) -> None:
    write_sidecar(tmp_path / "x.wav", read_recipe(made) | {key: value})
    with pytest.raises(InputError, match=f"cannot be used.*{key}"):
        read_recipe(tmp_path / "x.wav")


def test_a_recipe_that_lacks_an_entry_names_it(made: Path, tmp_path: Path) -> None:
    recipe = read_recipe(made)
    del recipe["source"]
    write_sidecar(tmp_path / "x.wav", recipe)
    with pytest.raises(InputError, match=r"cannot be used.*source"):
        read_recipe(tmp_path / "x.wav")
