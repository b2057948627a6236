"""Disks that are full and folders that cannot be written: a sentence, and no part of a file."""

import contextlib
import ctypes
import json
import os
import sys
from dataclasses import replace

import pytest
from published import published_files, toy_config

from selva_audio import configs
from selva_audio.weights.manifest import FILES

resource = pytest.importorskip("resource")

_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_PR_CAPBSET_DROP = 24


@contextlib.contextmanager
def full_disk(limit):
    """No file may grow past ``limit`` bytes: what a full disk does, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def mere_mortal():
    """In a child: take from root what lets it write where it may not."""
    if sys.platform == "linux" and os.getuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
                os._exit(99)


@contextlib.contextmanager
def locked(folder):
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(0o755)


def parts(bench):
    return [name for name in bench.listing() if ".part" in name or name.startswith("tmp/")]


@pytest.mark.parametrize(
    "name",
    [
        "x.wav",
        "x.mp4",
        *(pytest.param(f"x.{end}", marks=pytest.mark.slow) for end in ("flac", "mov", "mkv", "webm")),
    ],
)
def test_a_full_disk_leaves_no_part_of_a_result(bench, video, webm, toy, name):
    source = webm if name == "x.webm" else video
    bench.run("features", source, "-o", bench.out / "f.npz", "-p", "dog", *toy[:-1])  # into the cache
    (bench.out / "f.npz").unlink()
    before = bench.listing()
    for limit in (1500, 9000):
        with full_disk(limit):
            outcome = bench.run("generate", source, "-o", bench.out / name, "-p", "dog", *toy)
        outcome.check_refused(name, "no space is left", "Free some space", lines=None)
        assert bench.listing() == before


def test_a_full_disk_keeps_the_result_that_was_there(bench, video, toy):
    command = ("generate", video, "-o", bench.out / "x.mp4", "-p", "dog", *toy)
    assert bench.run(*command).code == 0
    before, content = bench.listing(), (bench.out / "x.mp4").read_bytes()
    with full_disk(2000):
        bench.run(*command, "--seed", 7).check_refused("x.mp4", "Free some space", lines=None)
    assert bench.listing() == before
    assert (bench.out / "x.mp4").read_bytes() == content


def test_a_full_disk_leaves_no_part_of_features(bench, video, toy):
    before = bench.listing()
    with full_disk(2000):
        for extra in ([], ["--name", "dog"]):
            target = bench.out / ("set" if extra else "x.npz")
            outcome = bench.run("features", video, "-o", target, "-p", "dog", *extra, *toy[:-1])
            outcome.check_refused("Free some space", lines=None)
            assert not parts(bench)
            assert not list(bench.root.rglob("*.npz"))
    assert before.items() <= bench.listing().items()


def test_a_cache_that_is_full_or_no_folder_only_costs_a_warning(bench, video, toy):
    (bench.root / "data" / "file").touch()
    command = ("generate", video, "-o", bench.out / "x.wav", "-p", "dog", *toy)
    outcome = bench.run(*command, "--cache-dir", bench.root / "data" / "file")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("were not kept") == 1
    assert json.loads(outcome.out)["results"][0]["status"] == "done"
    assert not parts(bench)


def test_a_sidecar_that_cannot_be_written_is_told(bench, video, toy):
    (bench.out / "x.wav.json").mkdir()
    outcome = bench.run("generate", video, "-o", bench.out / "x.wav", "-p", "dog", *toy)
    outcome.check_refused("x.wav.json is a folder", lines=None)
    assert not parts(bench)


def test_a_full_disk_during_a_download_keeps_what_arrived(bench, hub, monkeypatch):
    monkeypatch.setitem(configs.VARIANTS, "small_16k", toy_config("small_16k"))
    table = {name: replace(entry, md5=None, urls=()) for name, entry in FILES.items()}
    monkeypatch.setattr("selva_audio.weights.manifest.FILES", table)
    for (repo, path), content in published_files(toy_config("small_16k")).items():
        hub.put(repo, path, content)
    command = ("models", "download", "small_16k", "--models-dir", bench.root / "models")
    with full_disk(30_000):
        outcome = bench.run(*command)
    outcome.check_refused("Cannot write", "Free some space", lines=None)
    assert not list((bench.root / "models").glob("*.pth"))
    assert bench.run(*command).code == 0
    assert not parts(bench)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.wav", "x.mp4"])
def test_a_full_disk_in_a_process_of_its_own(bench, video, toy, name):
    before = bench.listing()
    outcome = bench.spawn(
        *("generate", video, "-o", bench.out / name, "-p", "dog", *toy),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )
    outcome.check_refused(name, "Free some space", lines=None)
    assert outcome.err.count("were not kept") == 1
    assert {key: size for key, size in bench.listing().items() if size >= 0} == {
        key: size for key, size in before.items() if size >= 0
    }


@pytest.mark.slow
def test_an_output_folder_that_may_not_be_written(bench, video, toy):
    with locked(bench.out):
        before = bench.listing()
        outcome = bench.spawn(
            *("generate", video, "-o", bench.out / "x.wav", "-p", "dog", *toy), preexec_fn=mere_mortal
        )
        if outcome.code == 99:
            pytest.skip("cannot give up the rights of root here")
        outcome.check_refused("x.wav", "may not write into")
        assert bench.listing() == before


@pytest.mark.slow
def test_a_cache_folder_that_may_not_be_written_only_costs_a_warning(bench, video, toy):
    with locked(bench.cache):
        outcome = bench.spawn(
            *("generate", video, "-o", bench.out / "x.wav", "-p", "dog", *toy), preexec_fn=mere_mortal
        )
        if outcome.code == 99:
            pytest.skip("cannot give up the rights of root here")
        assert outcome.code == 0, outcome.err
        assert outcome.err.count("were not kept") == 1
        assert not any(bench.cache.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("place", ["inputs/clip.mp4", "inputs/m.png"])
def test_an_input_that_may_not_be_read(bench, video, toy, place):
    path = bench.write("clip.mp4", video.read_bytes())
    mask = bench.write("m.png", b"x")
    (bench.root / place).chmod(0)
    outcome = bench.spawn(
        *("generate", path, "-o", bench.out / "x.wav", "--mask", mask, *toy), preexec_fn=mere_mortal
    )
    if outcome.code == 99:
        pytest.skip("cannot give up the rights of root here")
    outcome.check_refused(place.partition("/")[2], "not a file that can be read")
    assert not any(bench.out.iterdir())
