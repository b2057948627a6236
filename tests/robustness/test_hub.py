"""A hub that is not there, refuses, or sends something else: one sentence, nothing mistaken for weights."""

import json
import socket
from dataclasses import replace

import pytest
from published import published_files, toy_config

from selva_audio import configs
from selva_audio.weights.manifest import FILES

VARIANT = "small_16k"
GENERATOR = "generator_small_16k_sup_5.pth"


@pytest.fixture
def shelf(bench, hub, monkeypatch):
    """The hub with every file of the variant at toy width; without upstream's hashes and release pages."""
    monkeypatch.setitem(configs.VARIANTS, VARIANT, toy_config(VARIANT))
    table = {name: replace(entry, md5=None, urls=()) for name, entry in FILES.items()}
    monkeypatch.setattr("selva_audio.weights.manifest.FILES", table)
    for (repo, path), content in published_files(toy_config(VARIANT)).items():
        hub.put(repo, path, content)
    return hub


def commands(bench, video):
    models = ("--models-dir", bench.root / "models")
    yield "models", "download", VARIANT, *models, "--json"
    options = ("--variant", VARIANT, "--precision", "fp32", "--device", "cpu", "--steps=1", "--json")
    yield "generate", video, "-o", bench.out / "x.wav", "-p", "dog", *options, *models
    yield "features", video, "-o", bench.out / "x.npz", "-p", "dog", *options[:-2], *models


def left_behind(bench):
    """Files beside the locks of downloads and the inputs."""
    return [
        name
        for name, size in bench.listing().items()
        if size >= 0 and not name.startswith("data/selva-audio/locks/")
    ]


def test_no_network_and_an_empty_cache(bench, video, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for arguments in commands(bench, video):
        outcome = bench.run(*arguments)
        outcome.check_refused(GENERATOR, f"127.0.0.1:{port} cannot be reached", "--models-dir", "HF_ENDPOINT")
        assert outcome.out == ""
        assert not left_behind(bench)


def test_an_endpoint_that_is_no_address(bench, video, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for arguments in commands(bench, video):
        bench.run(*arguments).check_refused("HF_ENDPOINT is 'file:///etc'")
        assert not left_behind(bench)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("404", "answered 404"),
        ("401", "set HF_TOKEN"),
        ("403", "accept the conditions"),
        ("429", "too many requests"),
        ("500", "answered 500"),
        ("503", "answered 503"),
        ("html", "a web page instead of the file"),
        ("loop", "redirects in a circle"),
    ],
)
def test_a_hub_that_refuses(bench, video, shelf, fault, words):
    shelf.always = fault
    for arguments in commands(bench, video):
        outcome = bench.run(*arguments)
        outcome.check_refused(GENERATOR, words)
        assert outcome.out == ""
        assert not left_behind(bench)


def test_half_a_body_is_never_taken_for_the_file_and_is_continued(bench, video, shelf):
    shelf.always = "half"
    content = shelf.files[f"jnwnlee/SelVA/weights/{GENERATOR}"]
    download = next(commands(bench, video))
    outcome = bench.run(*download)
    outcome.check_refused("broke off in the middle of the file", "what arrived is kept")
    kept = [name for name in left_behind(bench) if GENERATOR in name]
    assert len(kept) == 1
    assert kept[0].endswith(".part")
    assert "tmp/" not in kept[0]
    shelf.always = None
    outcome = bench.run(*download)
    assert outcome.code == 0, outcome.err
    assert (bench.root / "models" / GENERATOR).read_bytes() == content
    assert not [name for name in left_behind(bench) if ".part" in name]
    assert all(file["downloaded"] for file in json.loads(outcome.out))


def test_a_hub_that_is_busy_at_first_is_asked_again(bench, video, shelf):
    shelf.faults = ["503", "429", "half"]
    download, generate, _ = commands(bench, video)
    assert bench.run(*download).code == 0
    outcome = bench.run(*generate)
    assert outcome.code == 0, outcome.err
    assert (bench.out / "x.wav").stat().st_size > 40_000


def test_weights_of_another_content_under_a_published_hash_are_removed(bench, video, shelf, monkeypatch):
    table = {name: replace(entry, md5="0" * 32) for name, entry in FILES.items()}
    monkeypatch.setattr("selva_audio.weights.manifest.FILES", table)
    outcome = bench.run(*next(commands(bench, video)))
    outcome.check_refused(GENERATOR, "expected is " + "0" * 32, "it was removed")
    assert not left_behind(bench)
