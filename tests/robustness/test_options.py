"""Hostile options: numbers, names, prompts and outputs. One sentence each, before any work."""

import hashlib
import json

import numpy as np
import pytest

from selva_audio.bundle import PARTS
from selva_audio.options import FeatureOptions, GenerateOptions, OutputOptions

NUMBERS = sorted(
    {
        name
        for model in (FeatureOptions, GenerateOptions, OutputOptions)
        for name, field in model.model_fields.items()
        if field.annotation in (int, float)
    }
)
NAMES_REFUSED = ["..", ".", "...", "\0", "n" * 300, "CON", "nul.txt", "lpt1", "_", " ", "\udcff"]
NAMES_MENDED = {"a/../../b": "a_.._.._b_001.npz", "C:\\x": "C__x_001.npz", "new\nline": "new_line_001.npz"}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_none_or_out_of_range_is_refused(bench, video, toy, name):
    option = f"--{name.replace('_', '-')}"
    before = bench.listing()
    for value in ("nan", "inf", "-inf", "1e400", "-1e308", "1e308", "9" * 5000, "", "abc", "0x10", "１e9"):
        outcome = bench.run(
            "generate", video, "-o", bench.out / "x.wav", "-p", "dog", *toy[:-1], f"{option}={value}"
        )
        sentence = outcome.check_refused(option, "See `selva generate --help`")
        assert len(sentence) < 300
    assert bench.listing() == before


def test_an_unknown_variant_is_told_the_nearest_one(bench, video, toy):
    outcome = bench.run("generate", video, "-o", bench.out / "x.wav", "--variant", "smal_16k")
    outcome.check_refused("Unknown variant 'smal_16k'", "Did you mean 'small_16k'?", "mmaudio_large_44k_v2")
    bench.run("models", "download", "demo16k").check_refused("Did you mean 'demo_16k'?")
    bench.run("models", "where", "x").check_refused("Unknown variant 'x'")
    assert not any(bench.out.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["genrate"], 'Did you mean "generate"?'),
        (["generate", "--promt", "x"], "Did you mean --prompt?"),
        (["generate", "a.mp4"], "--output"),
        (["generate", "a.mp4", "-o", "x.wav", "--solver", "rk45"], "solver"),
        (["generate", "a.mp4", "-o", "x.wav", "--precision", "int8"], "precision"),
        (["replay", "none.wav"], "There is no recipe"),
        (["demo", "--seed", "nan"], "seed"),
    ],
)
def test_bad_usage_is_one_sentence(bench, arguments, words):
    before = bench.listing()
    bench.run(*arguments).check_refused(words)
    assert bench.listing() == before


@pytest.mark.parametrize(("device", "words"), [("tpu", "Unknown device"), ("cuda:99", "has no device")])
def test_a_device_that_is_not_there_is_refused(bench, video, device, words):
    outcome = bench.run(
        "generate", video, "-o", bench.out / "x.wav", "--variant", "demo_16k", "--device", device
    )
    outcome.check_refused(words)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b'{"format": "selva-recipe/1"}', b"[" * 100_000, b"\xff\xfe\0", b"{" * 9],
)
def test_what_is_no_recipe_is_not_replayed(bench, content):
    path = bench.write("result.wav.json", content)
    before = bench.listing()
    assert len(bench.run("replay", path).check_refused("result.wav.json")) < 1000
    assert bench.listing() == before


def test_a_recipe_with_hostile_values_is_not_replayed(bench, video, toy):
    recipe = {
        "format": "selva-recipe/1",
        "variant": "../../demo_16k",
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "take": 0,
        "weights": {part: "md5:0" for part in PARTS},
        "source": {"path": str(video), "sha256": hashlib.sha256(video.read_bytes()).hexdigest()},
        "mask": None,
        "features": {},
        "generate": {"seed": 0},
        "output": {},
    }
    hostile = {
        "threads": 10**9,
        "take": -5,
        "source": {"path": "/dev/zero", "sha256": ""},
        "generate": {"seed": 1e300},
        "features": {"prompt": ["a"]},
        "output": {"codec": "flac"},
        "variant": "x" * 100_000,
    }
    for name, value in hostile.items():
        path = bench.write("r.json", json.dumps({**recipe, "variant": "demo_16k", name: value}).encode())
        before = bench.listing()
        sentence = bench.run("replay", path, "-o", bench.out / "x.wav").check_refused()
        assert len(sentence) < 600
        assert bench.listing() == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.xyz", "'.xyz'"),
        ("x.mp3", "'.mp3'"),
        ("x.wav.txt", "'.txt'"),
        ("n" * 300 + ".wav", "name too long"),
        ("file/x.wav", "is a file"),
        ("file/deep/x.mp4", "is a file"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(bench, video, toy, name, words):
    (bench.out / "file").write_bytes(b"mine")
    before = bench.listing()
    outcome = bench.run("generate", video, "-o", bench.out / name, "-p", "dog", *toy)
    outcome.check_refused(words)
    assert bench.listing() == before


def test_the_input_is_never_the_output(bench, video, toy):
    path = bench.write("clip.mp4", video.read_bytes())
    (bench.out / "link.mp4").symlink_to(path)
    (bench.out / "hard.mp4").hardlink_to(path)
    before = bench.listing()
    for target in (path, bench.out / "link.mp4", bench.out / "hard.mp4", "clip.mp4", path.parent):
        bench.run("generate", path, "-o", target, "-p", "dog", *toy).check_refused("is an input itself")
    assert bench.listing() == before
    assert path.read_bytes() == video.read_bytes()


@pytest.mark.parametrize("name", NAMES_REFUSED)
def test_a_feature_name_that_is_no_file_name_is_refused_before_any_work(bench, video, toy, name):
    before = bench.listing()
    outcome = bench.run("features", video, "-o", bench.out / "set", f"--name={name}", *toy[:-1])
    outcome.check_refused()
    assert bench.listing() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NAMES_MENDED))
def test_a_feature_name_never_leaves_its_folder(bench, video, toy, name):
    outcome = bench.run("features", video, "-o", bench.out / "set", f"--name={name}", *toy[:-1])
    assert outcome.code == 0
    made = [path.name for path in (bench.out / "set").iterdir() if not path.name.startswith(".")]
    assert made == [NAMES_MENDED[name]]
    assert {path.name for path in bench.out.iterdir()} == {"set"}


@pytest.mark.parametrize(("prompt", "words"), [("a" * 4001, "4000"), ("\udcff\udc80", "unicode")])
def test_a_prompt_that_is_no_text_or_too_long_is_refused(bench, video, toy, prompt, words):
    before = bench.listing()
    outcome = bench.run("generate", video, "-o", bench.out / "x.wav", f"--prompt={prompt}", *toy)
    assert len(outcome.check_refused("prompt", words)) < 300
    assert bench.listing() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "prompt",
    ["", "   ", "a" * 4000, "🐶🎉", "\x01\x1b[31mred\x7f", "שלום \u202e abc", "a\nb\tc", "[red]m[/]", "--x"],
)
def test_any_text_is_a_prompt_and_comes_back_in_the_recipe(bench, video, toy, prompt):
    target = bench.out / "x.mp4"
    outcome = bench.run("generate", video, "-o", target, f"--prompt={prompt}", *toy)
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["failed"] == 0
    recipe = json.loads((bench.out / "x.mp4.json").read_text(encoding="utf-8"))
    assert recipe["features"]["prompt"] == prompt
    assert sorted(path.name for path in bench.out.iterdir()) == ["x.mp4", "x.mp4.json"]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(7, 200), (1, 1), (300, 2)])
def test_a_mask_of_any_size_fits(bench, video, toy, shape):
    from matplotlib.image import imsave

    imsave(bench.root / "inputs" / "m.png", np.random.default_rng(0).random((*shape, 3)))
    outcome = bench.run("generate", video, "-o", bench.out / "x.wav", "--mask", "m.png", *toy)
    assert outcome.code == 0, outcome.err
