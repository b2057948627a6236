"""Weight files that are missing, damaged, of another model, or hostile: refused by name, never run."""

import io
import os
import pickle
import pickletools
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from published import published_files, toy_config

from selva_audio import configs
from selva_audio.weights.manifest import FILES, variant_files

VARIANT = "small_16k"
POSITIONS = ("generator", "video_encoder", "vae", "vocoder", "clip", "t5")
TOKENIZER = "tokenizer.json"


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


class DeepCanary(Canary):
    """The same by way of a function that a list of forbidden names may lack."""

    def __reduce__(self):
        return eval, (f"__import__('os').mkdir({self.place!r})",)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A models folder with every file of the variant, at toy width, under its published name."""
    folder = tmp_path_factory.mktemp("published")
    for (repo, path), content in published_files(toy_config(VARIANT)).items():
        entries = (file for file in variant_files(VARIANT).values() if file.repo == repo)
        entry = next(file for file in entries if _has(file, path))
        target = folder / entry.folder_name / path if entry.is_folder else folder / entry.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
    return folder


def _has(file, path):
    return path in file.paths or any(path in names for names in file.parts)


@pytest.fixture
def models(bench, published, monkeypatch):
    """A copy of that folder that a test may spoil; published hashes are shown in tests/weights."""
    monkeypatch.setitem(configs.VARIANTS, VARIANT, toy_config(VARIANT))
    table = {name: replace(entry, md5=None) for name, entry in FILES.items()}
    monkeypatch.setattr("selva_audio.weights.manifest.FILES", table)
    return Path(shutil.copytree(published, bench.root / "models"))


def place_of(models, position):
    entry = variant_files(VARIANT)[position]
    if not entry.is_folder:
        return models / entry.name
    names = {"clip": "open_clip_pytorch_model.bin", "t5": "pytorch_model.bin"}
    (models / entry.folder_name / "model.safetensors").unlink()
    return models / entry.folder_name / names[position]


def generate(bench, video, models, *extra):
    options = ("--variant", VARIANT, "--precision", "fp32", "--device", "cpu", "--steps=1", "--json")
    target = ("-o", bench.out / "x.wav", "--models-dir", models)
    return bench.run("generate", video, *target, "-p", "dog", *options, *extra)


def left_behind(bench):
    """New files outside the models folder, the cache of finished features and the register of hashes."""
    return [name for name in bench.listing() if name.startswith(("out/", "tmp/")) or ".part" in name]


def test_the_whole_folder_makes_sound(bench, video, models):
    outcome = generate(bench, video, models)
    assert outcome.code == 0, outcome.err
    assert (bench.out / "x.wav").stat().st_size > 40_000


def test_missing_weights_are_told_with_every_place_the_size_and_the_command(bench, video):
    empty = bench.root / "models"
    empty.mkdir()
    before = bench.listing()
    for arguments in (["--offline"], []):  # HF_HUB_OFFLINE is set
        outcome = bench.run(
            "generate", video, "-o", bench.out / "x.wav", "-p", "dog", "--models-dir", empty, *arguments
        )
        outcome.check_refused("MB", "selva models download small_16k", str(empty), lines=None)
        assert outcome.out == ""
        looked = [line.strip() for line in outcome.err.splitlines() if line.startswith("  ")]
        assert looked[0] == str(empty / "generator_small_16k_sup_5.pth")
        assert any(str(bench.root / "data") in place for place in looked)
        assert any(str(bench.root / "hf") in place for place in looked)
    assert bench.listing() == before


def pickled(content, archive=False):
    memory = io.BytesIO()
    torch.save(content, memory, _use_new_zipfile_serialization=archive)
    return memory.getvalue()


def hostile_pickles(place):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("archive/data.pkl", pickle.dumps({"a": Canary(place)}))
        zipped.writestr("archive/version", "3")
        zipped.writestr("archive/byteorder", "little")
    return {
        "torch archive": pickled({"weight": torch.zeros(3), "b": Canary(place)}, archive=True),
        "old torch format": pickled({"weight": torch.zeros(3), "b": Canary(place)}),
        "plain pickle": pickle.dumps(Canary(place)),
        "eval": pickle.dumps({"state_dict": DeepCanary(place)}),
        "protocol 0": pickle.dumps(Canary(place), protocol=0),
        "hand-made archive": archive.getvalue(),
    }


@pytest.mark.parametrize("kind", sorted(hostile_pickles(Path("x"))))
def test_the_canary_sings_for_a_careless_reader(tmp_path, kind):
    if "torch" in kind or "archive" in kind:
        (tmp_path / "a.pth").write_bytes(hostile_pickles(tmp_path / "canary")[kind])
        torch.load(tmp_path / "a.pth", weights_only=False)
    else:
        pickle.loads(hostile_pickles(tmp_path / "canary")[kind])
    assert (tmp_path / "canary").is_dir()


@pytest.mark.parametrize("position", POSITIONS)
def test_a_pickle_that_would_run_code_is_refused_in_every_position(bench, video, models, position):
    canary = bench.root / "canary"
    place = place_of(models, position)
    for content in hostile_pickles(canary).values():
        place.write_bytes(content)
        outcome = generate(bench, video, models)
        assert not canary.exists()
        outcome.check_refused(str(place))
        assert not left_behind(bench)
    for arguments in (["verify", VARIANT], ["list"], ["where", VARIANT], ["download", VARIANT, "--convert"]):
        outcome = bench.run("models", *arguments, "--models-dir", models)
        assert not canary.exists()
        assert "Traceback" not in outcome.err


def test_a_safetensors_name_does_not_open_the_door_to_pickles(bench, video, models):
    canary = bench.root / "canary"
    (models / "generator_small_16k_sup_5.pth").unlink()
    place = models / "generator_small_16k_sup_5.safetensors"
    place.write_bytes(pickle.dumps(Canary(canary)))
    generate(bench, video, models).check_refused(str(place), "safetensors")
    assert not canary.exists()


def damaged(content):
    return {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "page": b"<!DOCTYPE html><html><body>404</body></html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 629134576\n",
        "noise": os.urandom(4000),
        "zeros": bytes(4000),
        "json": b'{"error": "not found"}',
        "list": pickled([torch.zeros(2)], archive=True),
        "nothing": pickled({}, archive=True),
    }


@pytest.mark.parametrize("kind", sorted(damaged(b"")))
@pytest.mark.parametrize(
    "position", ["generator", *(pytest.param(name, marks=pytest.mark.slow) for name in POSITIONS[1:])]
)
def test_a_damaged_weight_file_is_named_with_the_command(bench, video, models, position, kind):
    place = place_of(models, position)
    whole = pickled({"a": torch.zeros(1000)}, archive=True)
    place.write_bytes(damaged(whole)[kind])
    outcome = generate(bench, video, models)
    sentence = outcome.check_refused(str(place), "selva models download small_16k")
    assert len(sentence) < 700
    assert not left_behind(bench)


@pytest.mark.parametrize("name", ["model.safetensors", TOKENIZER])
@pytest.mark.parametrize("content", [b"", b"<html></html>", b"{}", b"[" * 50_000, b"\xff" * 100])
def test_a_damaged_file_of_a_folder_is_named(bench, video, models, name, content):
    place = models / "flan-t5-base" / name
    place.write_bytes(content)
    generate(bench, video, models).check_refused(str(place), "selva models download")
    assert not left_behind(bench)


def test_weights_of_another_size_under_this_name_are_told_apart(bench, video, models):
    medium = configs.get_config("medium_44k")
    with torch.device("meta"):
        from selva_audio.models.generator import Generator

        shapes = {key: value.shape for key, value in Generator(medium.generator).state_dict().items()}
    place = models / "generator_small_16k_sup_5.pth"
    # One number behind every tensor keeps the file of a gigabyte small.
    place.write_bytes(
        pickled({key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}, archive=True)
    )
    outcome = generate(bench, video, models)
    outcome.check_refused(str(place), "medium_44k")
    assert not left_behind(bench)


def test_weights_of_another_part_are_told_apart(bench, video, models):
    (models / "v1-16.pth").write_bytes((models / "video_enc_sup_5.pth").read_bytes())
    generate(bench, video, models).check_refused("v1-16.pth", "video_encoder")


@pytest.mark.parametrize("position", POSITIONS)
def test_a_folder_or_a_pipe_in_place_of_a_weight_file_is_no_weight_file(bench, video, models, position):
    place = place_of(models, position)
    place.unlink(missing_ok=True)
    place.mkdir()
    generate(bench, video, models, "--offline").check_refused(place.name, lines=None)
    place.rmdir()
    os.mkfifo(place)
    generate(bench, video, models, "--offline").check_refused(place.name, lines=None)


def test_nan_weights_never_become_sound(bench, video, models):
    place = models / "v1-16.pth"
    state = torch.load(place, weights_only=True)
    place.write_bytes(pickled({key: torch.full_like(value, torch.nan) for key, value in state.items()}, True))
    generate(bench, video, models).check_refused("not finite")
    assert not left_behind(bench)


def test_hostile_feature_files_in_the_cache_are_passed_over(bench, video, toy):
    canary = bench.root / "canary"
    command = ("generate", video, "-o", bench.out / "x.wav", "-p", "dog", *toy)
    assert bench.run(*command).code == 0
    kept = next((bench.root / "cache").rglob("*.npz"))
    whole = kept.read_bytes()
    sound = (bench.out / "x.wav").read_bytes()
    memory = io.BytesIO()
    live = np.array([Canary(canary)], dtype=object)
    np.savez(memory, clip_features=live, sync_features=np.zeros((1, 8, 4)))
    for content in (memory.getvalue(), whole[:100], b"", pickle.dumps(Canary(canary)), whole[:-30]):
        kept.write_bytes(content)
        (bench.out / "x.wav").unlink()
        outcome = bench.run(*command)
        assert outcome.code == 0, outcome.err
        assert not canary.exists()
        assert (bench.out / "x.wav").read_bytes() == sound
        assert kept.stat().st_size == len(whole)


def test_the_pickles_hold_what_they_claim():
    names = [argument for _, argument, _ in pickletools.genops(pickle.dumps(Canary(Path("x")))) if argument]
    assert "mkdir" in names
