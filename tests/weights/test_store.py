import dataclasses
import json
import logging
import os
import sys
import types
from pathlib import Path

import pytest
import torch

from selva_audio.configs import VARIANTS
from selva_audio.errors import CheckpointError, DownloadError, InputError, MissingFileError
from selva_audio.models.vae import VAE
from selva_audio.weights.hashes import HashRegister, file_md5
from selva_audio.weights.io import convert_to_safetensors, read_state_dict
from selva_audio.weights.manifest import FILES
from selva_audio.weights.places import user_folder
from selva_audio.weights.store import WeightStore

SELVA = "jnwnlee/SelVA"
GENERATOR = "generator_medium_44k_sup_5.pth"
OTHER_SPELLING = "generator_medium_44khz_sup_5.pth"


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def weights(path: Path, **tensors: torch.Tensor) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors or {"a": torch.arange(4.0)}, path)
    return path.read_bytes()


def publish(monkeypatch, name, **changes):
    """Let the table say something else about one file."""
    entry = dataclasses.replace(FILES[name], **changes)
    monkeypatch.setattr("selva_audio.weights.manifest.FILES", {**FILES, name: entry})
    return entry


def comfy(monkeypatch, base: Path, **registered: list[str]) -> None:
    fake = types.ModuleType("folder_paths")
    fake.models_dir = str(base)
    fake.folder_names_and_paths = {key: (paths, {".pth"}) for key, paths in registered.items()}
    monkeypatch.setitem(sys.modules, "folder_paths", fake)


@pytest.mark.parametrize("folder", ["", "weights", "ext", "ext_weights"])
@pytest.mark.parametrize("name", ["v1-44.pth", "video_enc_sup_5.pth"])
def test_file_is_found_flat_and_in_the_usual_subfolders(models, folder, name):
    assert WeightStore(models).find(name) is None
    path = put(models / folder / name)
    assert WeightStore(models).find(name) == path
    assert WeightStore(str(models), offline=True).path(name) == path


@pytest.mark.parametrize("spelling", [GENERATOR, OTHER_SPELLING])
def test_both_spellings_on_disk_are_the_same_file(models, spelling):
    path = put(models / spelling)
    assert WeightStore(models).find(GENERATOR) == path


def test_search_order_is_models_dir_variable_comfyui_user_folder_hub_cache(tmp_path, monkeypatch):
    name = "video_enc_sup_5.pth"
    cache = tmp_path / "hf" / "hub" / "models--jnwnlee--SelVA" / "snapshots" / "abc" / "weights" / name
    expected = [
        tmp_path / "given" / name,
        tmp_path / "named" / name,
        tmp_path / "comfy" / "selva" / name,
        tmp_path / "extra" / name,
        user_folder() / "models" / name,
        cache,
    ]
    monkeypatch.setenv("SELVA_MODELS_DIR", str(tmp_path / "named"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    comfy(monkeypatch, tmp_path / "comfy", selva=[str(tmp_path / "extra")])
    for path in expected:
        put(path)
    store = WeightStore(tmp_path / "given")
    places = store.places(name)
    assert [path for path in places if path in expected] == expected
    for path in expected:
        assert store.find(name) == path
        path.unlink()
    assert store.find(name) is None


def test_synchformer_of_the_prismaudio_folder_is_used(tmp_path, monkeypatch):
    comfy(monkeypatch, tmp_path)
    path = put(tmp_path / "prismaudio" / "synchformer_state_dict.pth")
    put(tmp_path / "selva" / "synchformer_state_dict.pth")
    assert WeightStore().find("synchformer_state_dict.pth") == path
    put(tmp_path / "prismaudio" / "v1-16.pth")
    assert WeightStore().find("v1-16.pth") is None


def test_comfyui_is_never_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "folder_paths", raising=False)
    WeightStore().places("v1-16.pth")
    assert "folder_paths" not in sys.modules


@pytest.mark.parametrize(
    "layout",
    [
        "DFN5B-CLIP-ViT-H-14-384",
        "apple/DFN5B-CLIP-ViT-H-14-384",
        "apple--DFN5B-CLIP-ViT-H-14-384",
        "models--apple--DFN5B-CLIP-ViT-H-14-384/snapshots/0123",
    ],
)
@pytest.mark.parametrize("part", ["model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin"])
def test_clip_folder_is_found_in_every_layout_and_format(models, layout, part):
    path = put(models / layout / part)
    store = WeightStore(models, offline=True)
    assert store.path("clip") == models / layout
    assert store.weights_file("clip") == path


def test_hub_cache_of_the_environment_is_found_and_main_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    root = tmp_path / "models--google--flan-t5-base"
    for commit in ("aaa", "bbb", "ccc"):
        put(root / "snapshots" / commit / "model.safetensors")
        put(root / "snapshots" / commit / "tokenizer.json")
    put(root / "refs" / "main", b"bbb")
    os.utime(root / "snapshots" / "aaa", (1, 1))
    assert WeightStore().path("t5") == root / "snapshots" / "bbb"


def test_folder_that_lacks_a_part_is_not_found(models):
    put(models / "flan-t5-base" / "model.safetensors")
    assert WeightStore(models).find("t5") is None
    put(models / "flan-t5-base" / "tokenizer.json")
    assert WeightStore(models).find("t5") == models / "flan-t5-base"


def test_missing_file_error_lists_places_size_command_and_address(models):
    store = WeightStore(models, offline=True)
    with pytest.raises(MissingFileError) as caught:
        store.path("v1-44.pth")
    message = str(caught.value)
    at = [message.index(str(path)) for path in store.places("v1-44.pth")]
    assert at == sorted(at)
    assert "1.22 GB" in message
    assert "`selva models download small_44k`" in message
    assert "https://huggingface.co/jnwnlee/SelVA/resolve/main/ext_weights/v1-44.pth" in message


def test_offline_variable_forbids_downloads_and_the_argument_overrides_it(hub, models, monkeypatch):
    hub.put(SELVA, f"weights/{GENERATOR}", weights(models / "source.pth"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingFileError, match="offline mode is on"):
        WeightStore(models).path(GENERATOR)
    with pytest.raises(DownloadError, match="offline mode is on"):
        WeightStore(models).download(GENERATOR)
    assert hub.requests == []
    assert WeightStore(models, offline=False).path(GENERATOR) == models / GENERATOR


def test_demo_files_come_from_the_package_and_are_never_asked_of_a_hub(hub, monkeypatch, tmp_path):
    monkeypatch.setattr("selva_audio.weights.places.BUNDLED", tmp_path)
    name = VARIANTS["demo_16k"].files["vae"]
    with pytest.raises(MissingFileError, match="part of the package"):
        WeightStore().path(name)
    assert hub.requests == []
    path = put(tmp_path / name)
    assert WeightStore().path(name) == path


def test_unknown_name_is_an_input_error(models):
    with pytest.raises(InputError, match="Unknown weight file"):
        WeightStore(models).path("v1-16k.pth")


@pytest.mark.parametrize("spelling", [GENERATOR, OTHER_SPELLING])
def test_generator_is_downloaded_under_either_spelling_into_one_flat_file(hub, models, tmp_path, spelling):
    content = hub.put(SELVA, f"weights/{spelling}", weights(tmp_path / "source.pth"))
    path = WeightStore(models).path(GENERATOR)
    assert path == models / GENERATOR
    assert path.read_bytes() == content
    assert [entry.name for entry in models.iterdir()] == [GENERATOR]


def test_present_file_is_not_downloaded_again(hub, models, tmp_path):
    content = weights(tmp_path / "source.pth")
    hub.put(SELVA, f"weights/{GENERATOR}", content)
    for path in (models / "ext" / GENERATOR, models / "weights" / OTHER_SPELLING):
        put(path, content)
        assert WeightStore(models).download(GENERATOR) == path
        path.unlink()
    assert hub.requests == []


def test_truncated_file_of_the_user_is_reported_and_not_replaced(hub, models, tmp_path):
    content = weights(tmp_path / "source.pth")
    hub.put(SELVA, f"weights/{GENERATOR}", content)
    path = put(models / GENERATOR, content[:200])
    store = WeightStore(models)
    assert store.path(GENERATOR) == path
    with pytest.raises(CheckpointError, match=r"200 bytes found, about 2\.5 GB expected"):
        store.check(GENERATOR, "generator", "medium_44k")
    assert path.read_bytes() == content[:200]
    assert hub.requests == []


def test_published_hash_is_enforced_on_download(hub, models, tmp_path):
    hub.put(SELVA, "weights/video_enc_sup_5.pth", weights(tmp_path / "source.pth"))
    with pytest.raises(DownloadError, match="ff09a6dc36148536ee4db97eba081d05"):
        WeightStore(models).path("video_enc_sup_5.pth")
    assert list(models.iterdir()) == []


def test_unpublished_hash_is_recorded_at_the_first_download_and_enforced_ever_after(hub, models, tmp_path):
    content = hub.put(SELVA, f"weights/{GENERATOR}", weights(tmp_path / "source.pth"))
    store = WeightStore(models)
    store.path(GENERATOR)
    assert store.verify(GENERATOR).status == "recorded"
    (models / GENERATOR).unlink()
    hub.put(SELVA, f"weights/{GENERATOR}", weights(tmp_path / "changed.pth", b=torch.zeros(2)))
    with pytest.raises(DownloadError, match="it was removed"):
        WeightStore(models).path(GENERATOR)
    hub.put(SELVA, f"weights/{GENERATOR}", content)
    assert WeightStore(models).path(GENERATOR).read_bytes() == content


def test_release_page_is_the_second_source(hub, models, tmp_path, monkeypatch):
    content = weights(tmp_path / "source.pth")
    entry = publish(
        monkeypatch,
        "v1-16.pth",
        urls=(f"{hub.url}/releases/v1-16.pth",),
        md5=file_md5(tmp_path / "source.pth"),
    )
    hub.files["releases/v1-16.pth"] = content
    assert WeightStore(models).path("v1-16.pth").read_bytes() == content
    assert hub.asked(entry.paths[0]) == [None]


def test_folder_is_downloaded_with_all_its_parts(hub, models):
    hub.put("google/flan-t5-base", "pytorch_model.bin", b"\x80\x02 weights")
    hub.put("google/flan-t5-base", "tokenizer.json", b"{}")
    assert WeightStore(models).path("t5") == models / "flan-t5-base"
    names = sorted(path.name for path in (models / "flan-t5-base").iterdir())
    assert names == ["pytorch_model.bin", "tokenizer.json"]


def test_folder_download_fetches_only_what_is_missing(hub, models):
    put(models / "flan-t5-base" / "model.safetensors", b"mine")
    hub.put("google/flan-t5-base", "tokenizer.json", b"{}")
    hub.put("google/flan-t5-base", "model.safetensors", b"\x80 theirs")
    WeightStore(models).path("t5")
    assert (models / "flan-t5-base" / "model.safetensors").read_bytes() == b"mine"
    assert len(hub.requests) == 1


def test_vocoder_comes_with_the_config_that_other_readers_need(hub, models):
    repo = FILES["bigvgan_v2"].repo
    hub.put(repo, "bigvgan_generator.pt", b"PK\x03\x04 weights")
    hub.put(repo, "config.json", b"{}")
    folder = WeightStore(models).path("bigvgan_v2")
    assert sorted(path.name for path in folder.iterdir()) == ["bigvgan_generator.pt", "config.json"]


def test_trouble_of_the_hub_is_not_taken_for_a_missing_format(hub, models):
    hub.always = "500"
    with pytest.raises(DownloadError, match=r"model\.safetensors"):
        WeightStore(models).path("clip")
    assert {path for _, path, _ in hub.requests} == {f"/{FILES['clip'].repo}/resolve/main/model.safetensors"}


def test_download_goes_to_the_first_folder_that_can_be_written(hub, tmp_path, monkeypatch, caplog):
    hub.put(SELVA, f"weights/{GENERATOR}", weights(tmp_path / "source.pth"))
    monkeypatch.setenv("SELVA_MODELS_DIR", str(put(tmp_path / "no_folder")))
    comfy(monkeypatch, tmp_path / "comfy")
    with caplog.at_level(logging.WARNING):
        assert WeightStore().path(GENERATOR) == tmp_path / "comfy" / "selva" / GENERATOR
    assert "no_folder" in caplog.text


def test_no_network_is_one_sentence(models, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DownloadError) as caught:
        WeightStore(models, offline=False).path("clip")
    assert "\n" not in str(caught.value)
    assert "--models-dir" in str(caught.value)


def test_hash_is_computed_once_until_the_file_changes(tmp_path):
    path, register = put(tmp_path / "w.pth", b"one"), HashRegister(tmp_path / "verified.json")
    reports = []
    first = register.md5(path, reports.append)
    assert first == file_md5(path)
    assert len(reports) == 1
    assert register.md5(path, reports.append) == first
    assert HashRegister(register.path).md5(path, reports.append) == first
    assert len(reports) == 1
    put(path, b"two!")
    assert register.md5(path, reports.append) != first
    assert len(reports) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": []}', b"\xff\xfe"])
def test_damaged_register_is_started_anew(tmp_path, content):
    register = HashRegister(put(tmp_path / "verified.json", content))
    path = put(tmp_path / "w.pth")
    assert register.md5(path) == file_md5(path)
    assert json.loads(register.path.read_bytes())["files"]


def test_register_that_cannot_be_written_only_warns(tmp_path, caplog):
    register = HashRegister(put(tmp_path / "file") / "verified.json")
    assert register.md5(put(tmp_path / "w.pth")) == file_md5(tmp_path / "w.pth")
    assert "is not remembered" in caplog.text


def test_identity_is_equal_exactly_when_the_weights_are(models):
    store = WeightStore(models, offline=True)
    put(models / "v1-16.pth", b"one")
    first = store.identity("v1-16.pth")
    assert WeightStore(models).identity("v1-16.pth") == first
    put(models / "v1-16.pth", b"another")
    assert store.identity("v1-16.pth") != first


def vae_of(config):
    return {key: torch.zeros_like(value) for key, value in VAE(config.vae).state_dict().items()}


@pytest.fixture
def demo():
    return VARIANTS["demo_16k"]


@pytest.fixture
def vae_file(models, demo):
    weights(models / "ext" / "v1-16.pth", **vae_of(demo))
    return models / "ext" / "v1-16.pth"


def test_file_with_another_hash_that_fits_is_used_with_one_warning_naming_both(
    models, demo, vae_file, caplog
):
    store = WeightStore(models, offline=True)
    assert store.check("v1-16.pth", "vae", demo) == vae_file
    assert store.read("v1-16.pth", "vae", demo).keys() == vae_of(demo).keys()
    (record,) = [record for record in caplog.records if "fit" in record.message]
    assert file_md5(vae_file) in record.message
    assert FILES["v1-16.pth"].md5 in record.message


def test_file_with_another_hash_that_does_not_fit_is_refused_with_its_path(models, vae_file):
    with pytest.raises(CheckpointError, match=r"v1-16\.pth: These are not the vae weights of small_16k"):
        WeightStore(models, offline=True).check("v1-16.pth", "vae", "small_16k")


def test_file_of_integers_is_refused(models, demo):
    weights(models / "v1-16.pth", **{key: value.to(torch.int8) for key, value in vae_of(demo).items()})
    with pytest.raises(CheckpointError, match=r"is torch\.int8; floating-point weights are needed"):
        WeightStore(models, offline=True).check("v1-16.pth", "vae", demo)


def test_file_with_the_published_hash_is_taken_without_a_warning(models, demo, vae_file, monkeypatch, caplog):
    publish(monkeypatch, "v1-16.pth", md5=file_md5(vae_file))
    store = WeightStore(models, offline=True)
    assert store.check("v1-16.pth", "vae", demo) == vae_file
    assert store.verify("v1-16.pth").status == "ok"
    assert caplog.records == []


def test_conversion_that_stands_alone_is_found_and_checked_by_its_content(models, demo, vae_file, caplog):
    target = convert_to_safetensors(vae_file)
    vae_file.unlink()
    store = WeightStore(models, offline=True)
    assert store.check("v1-16.pth", "vae", demo) == target
    assert read_state_dict(target).keys() == vae_of(demo).keys()
    assert caplog.records == []


def test_verify_tells_every_state_apart(models, demo, vae_file):
    store = WeightStore(models, offline=True)
    different = store.verify("v1-16.pth")
    assert different.status == "different"
    assert different.problem.startswith(f"{vae_file} has the md5 {file_md5(vae_file)}")
    missing = store.verify("v1-44.pth")
    assert (missing.status, missing.path, missing.md5) == ("missing", None, None)
    assert "`selva models download small_44k`" in missing.problem
    weights(models / GENERATOR)
    assert store.verify(GENERATOR).status == "unknown"
    put(models / GENERATOR, b"<html>")
    damaged = store.verify(GENERATOR)
    assert damaged.status == "damaged"
    assert "a web page" in damaged.problem


def test_verify_hashes_anew_although_a_hash_is_remembered(models, vae_file):
    store = WeightStore(models, offline=True)
    before = store.verify("v1-16.pth").md5
    status = vae_file.stat()
    content = bytearray(vae_file.read_bytes())
    content[-1] ^= 1
    vae_file.write_bytes(content)
    os.utime(vae_file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.verify("v1-16.pth").md5 != before
