"""Paths in widgets: below the output folder, or typed whole; nothing climbs out and nothing is touched."""

import pytest

from selva_audio.errors import InputError, MissingFileError, SelVAError

HOSTILE = [
    "../up",
    "a/../../up",
    "..\\up",
    "a\0b",
    "x" * 300,
    "/".join(["y" * 100] * 20),
    "CON",
    "nul.txt",
    "a/COM1",
    "a:b",
    "what?",
    "/srv/../etc",
]


@pytest.fixture
def folders(comfy):
    from selva_audio.comfyui import folders

    return folders


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("typed", HOSTILE)
def test_a_hostile_cache_folder_is_a_sentence(folders, comfy, typed):
    with pytest.raises(SelVAError):
        folders.cache_folder(typed)
    assert files(comfy.base) == []


@pytest.mark.parametrize("typed", [*HOSTILE, "", "  "])
def test_a_hostile_path_for_reading_is_a_sentence(folders, comfy, typed):
    with pytest.raises(SelVAError) as caught:
        folders.find(typed, "adapter_path")
    assert "adapter_path" in str(caught.value) or "file name" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("typed", [*HOSTILE, "", "/absolute/prefix", "  "])
def test_a_hostile_prefix_is_a_sentence(folders, comfy, typed):
    with pytest.raises(SelVAError):
        folders.output_file(typed, ".mp4")
    assert files(comfy.base) == []
    assert not (comfy.base.parent / "up").exists()


def test_a_path_is_looked_for_where_saved_workflows_mean_it_and_then_in_the_other_places(folders, comfy):
    """COMPAT 2.10."""
    for place in ("input", ".", "models", "output"):  # the last written is the first looked at
        (comfy.base / place / "loras").mkdir(parents=True)
        (comfy.base / place / "loras" / "dog.pt").write_text("")
        found = folders.find("loras/dog.pt", "adapter_path")
        assert found == comfy.base / place / "loras" / "dog.pt"
    assert folders.find("loras\\dog.pt", "adapter_path", "models") == comfy.base / "models/loras/dog.pt"
    assert folders.find("loras/dog.pt", "adapter_path", "base") == comfy.base / "loras/dog.pt"


def test_a_path_that_is_nowhere_tells_every_place_looked_at(folders, comfy):
    with pytest.raises(MissingFileError) as caught:
        folders.find("dog.pt", "adapter_path", "base")
    places = [comfy.base / place / "dog.pt" for place in ("", "output", "models", "input")]
    assert ", ".join(map(str, places)) in str(caught.value)


def test_an_absolute_path_for_reading_is_taken_as_typed(folders, tmp_path):
    (tmp_path / "dog.pt").write_text("")
    assert folders.find(str(tmp_path / "dog.pt"), "adapter_path") == tmp_path / "dog.pt"
    with pytest.raises(MissingFileError, match="nothing"):
        folders.find(str(tmp_path / "nothing.pt"), "adapter_path")


def test_the_fingerprint_changes_with_a_file_of_a_folder(folders, tmp_path):
    (tmp_path / "a").write_text("1")
    before = folders.fingerprint(tmp_path)
    assert folders.fingerprint(tmp_path) == before
    (tmp_path / "a").write_text("12")
    assert folders.fingerprint(tmp_path) != before


def test_the_usual_cache_is_below_the_output_folder(folders, comfy):
    assert folders.cache_folder("") == comfy.base / "output" / "selva" / "cache"
    assert folders.cache_folder("dogs/one") == comfy.base / "output" / "dogs" / "one"


def test_an_absolute_cache_folder_is_taken_as_typed(folders, tmp_path):
    assert folders.cache_folder(str(tmp_path / "mine")) == tmp_path / "mine"


def test_a_file_is_no_cache_folder(folders, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        folders.cache_folder(str(tmp_path / "file"))


def test_a_link_out_of_the_output_folder_is_refused(folders, comfy, tmp_path):
    (comfy.base / "output" / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="leaves the folder"):
        folders.cache_folder("link/there")


def test_results_are_numbered_below_the_output_folder(folders, comfy):
    path, subfolder = folders.output_file("video/SelVA", ".mp4")
    assert path == comfy.base / "output" / "video" / "SelVA_00001_.mp4"
    assert subfolder == "video"
    path.write_text("")
    assert folders.output_file("video/SelVA", ".mp4")[0].name == "SelVA_00002_.mp4"


def test_model_folders_of_the_user_stay_and_weights_are_listed(folders, comfy):
    comfy.folders["selva"] = (["/mine"], set())
    folders.register_folders()
    paths, suffixes = comfy.folders["selva"]
    assert paths == ["/mine", str(comfy.base / "models" / "selva"), str(comfy.base / "output" / "selva")]
    assert suffixes == {".safetensors", ".pt", ".pth"}
