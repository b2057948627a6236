import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from selva_audio.configs import VARIANTS
from selva_audio.errors import DownloadError, InputError
from selva_audio.tasks.models import download_models, list_models, verify_models, where
from selva_audio.weights.manifest import FILES


@pytest.fixture
def published(hub, tmp_path, monkeypatch):
    """A hub that has every file of medium_44k, made small, and a table without published hashes."""
    torch.save({"a": torch.arange(3.0)}, tmp_path / "source.pth")
    content = (tmp_path / "source.pth").read_bytes()
    table = {name: dataclasses.replace(entry, md5=None, urls=()) for name, entry in FILES.items()}
    monkeypatch.setattr("selva_audio.weights.manifest.FILES", table)
    for name in VARIANTS["medium_44k"].files.values():
        entry = table[name]
        for path in entry.paths[-1:]:
            hub.put(entry.repo, path, content)
        for names in (*entry.parts, entry.companions):
            for part in names[-1:]:
                hub.put(entry.repo, part, b"{}" if part.endswith(".json") else content)
    return hub


def as_json(records):
    return json.loads(json.dumps([dataclasses.asdict(record) for record in records]))


def test_list_has_every_variant_with_size_licence_and_place_of_each_file(tmp_path):
    (tmp_path / "ext").mkdir()
    (tmp_path / "ext" / "v1-44.pth").write_bytes(b"x")
    listed = {entry["variant"]: entry for entry in as_json(list_models(models_dir=tmp_path))}
    assert list(listed) == list(VARIANTS)
    files = {info["component"]: info for info in listed["large_44k"]["files"]}
    assert files["vae"]["path"] == str(tmp_path / "ext" / "v1-44.pth")
    assert files["generator"]["path"] is None
    assert files["generator"]["size"] == "4.1 GB"
    assert files["generator"]["licence"] == "none stated by the SelVA repository"
    assert files["vocoder"]["licence"] == "MIT"
    assert listed["large_44k"]["complete"] is False
    assert listed["large_44k"]["command"] == "selva models download large_44k"


def test_listing_loads_no_torch():
    code = "import sys, selva_audio.tasks.models as m; m.list_models(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_download_fetches_all_files_once_and_completes_the_variant(published, tmp_path):
    models = tmp_path / "models"
    first = as_json(download_models("medium_44k", models_dir=models))
    assert [entry["name"] for entry in first] == list(VARIANTS["medium_44k"].files.values())
    assert all(entry["downloaded"] and entry["converted"] is None for entry in first)
    assert (models / "generator_medium_44k_sup_5.pth").is_file()
    asked = len(published.requests)
    assert not any(entry.downloaded for entry in download_models("medium_44k", models_dir=models))
    assert len(published.requests) == asked
    (info,) = [entry for entry in list_models(models_dir=models) if entry.variant == "medium_44k"]
    assert info.complete
    assert info.command is None


def test_download_can_convert_what_it_fetched(published, tmp_path):
    results = download_models("medium_44k", models_dir=tmp_path / "models", convert=True)
    assert all(Path(entry.converted).suffix == ".safetensors" for entry in results)
    assert all(Path(entry.converted).is_file() for entry in results)


def test_download_reports_each_file(published, tmp_path):
    stages = []
    download_models(
        "medium_44k", models_dir=tmp_path / "models", on_progress=lambda p: stages.append(p.stage)
    )
    assert "downloading v1-44.pth" in stages


def test_verify_covers_what_is_here_or_the_whole_variant(published, tmp_path):
    models = tmp_path / "models"
    # The demo's files come with the package, so they are always here.
    assert not [entry for entry in verify_models(models_dir=models) if not FILES[entry.name].is_bundled]
    missing = as_json(verify_models("medium_44k", models_dir=models))
    assert {entry["status"] for entry in missing} == {"missing"}
    download_models("medium_44k", models_dir=models)
    here = [entry for entry in verify_models(models_dir=models) if not FILES[entry.name].is_bundled]
    assert {entry.status for entry in here} == {"recorded"}
    (models / "v1-44.pth").write_bytes(b"<html>")
    states = {entry.name: entry.status for entry in verify_models("medium_44k", models_dir=models)}
    assert states["v1-44.pth"] == "damaged"


def test_where_lists_the_places_in_order_and_what_was_found(tmp_path):
    (tmp_path / "v1-16.pth").write_bytes(b"x")
    found = {entry["name"]: entry for entry in as_json(where("small_16k", models_dir=tmp_path))}
    assert found["v1-16.pth"]["found"] == str(tmp_path / "v1-16.pth")
    assert found["best_netG.pt"]["found"] is None
    assert found["best_netG.pt"]["places"][0] == str(tmp_path / "best_netG.pt")
    assert {entry.name for entry in where()} == set(FILES)


def test_refused_download_is_one_error(published, tmp_path):
    published.always = "503"
    with pytest.raises(DownloadError, match="answered 503"):
        download_models("medium_44k", models_dir=tmp_path / "models")


@pytest.mark.parametrize("task", [download_models, verify_models, where])
def test_unknown_variant_is_refused(task, tmp_path):
    with pytest.raises(InputError, match="Did you mean 'medium_44k'"):
        task("medium_44", models_dir=tmp_path)
