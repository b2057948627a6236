from pathlib import Path

import pytest
from small_generator import moved

from selva_audio.adapters import Adapter, read_adapter, write_adapter
from selva_audio.tasks.adapter import load_generator


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    adapter = moved(load_generator("demo_16k"), amount=0.2, target="qkv")
    adapter = Adapter(adapter.deltas, {**adapter.meta, "variant": "demo_16k", "clip_conditioning": "on"})
    return write_adapter(tmp_path_factory.mktemp("adapter") / "a.pt", adapter)


def test_info_shows_every_layer(selva, file) -> None:
    result = selva("adapter", "info", file)
    assert result.code == 0 and "demo_16k" in result.out and "rank 3" in result.out
    assert result.out.count(".attn.qkv linear") == len(read_adapter(file).deltas)
    compared = selva("adapter", "info", file, "--variant", "demo_16k", "--intruders", "--json").json
    assert compared["modules"][0]["intruders"]["control"]


def test_convert_resize_and_merge_write_their_files(selva, file, tmp_path) -> None:
    assert selva("adapter", "convert", file, "-o", tmp_path / "peft").code == 0
    assert (tmp_path / "peft" / "adapter_config.json").is_file()
    result = selva("adapter", "resize", tmp_path / "peft", "--rank", 2, "-o", tmp_path / "r.pt", "--json")
    assert result.json["rank"] == 2 and "keeps" in result.err
    flags = ("--into", "adapter", "--adapter-strength", -0.5)
    merged = selva("adapter", "merge", file, tmp_path / "r.pt", *flags, "-o", tmp_path / "m.safetensors")
    assert merged.code == 0 and read_adapter(tmp_path / "m.safetensors").rank == 5
    smaller = selva("adapter", "merge", file, tmp_path / "r.pt", *flags, "--rank", 2, "-o", tmp_path / "n.pt")
    assert read_adapter(tmp_path / "n.pt").rank == 2 and "rank 2; each layer keeps 0." in smaller.err
    tamed = selva("adapter", "convert", file, "--intruder-strength", 0, "-o", tmp_path / "t.pt", "--json")
    assert tamed.code == 0 and "reduced" in tamed.json
    weights = selva("adapter", "merge", file, "-o", tmp_path / "w.safetensors", "--json").json
    assert weights["variant"] == "demo_16k" and (tmp_path / "w.safetensors").is_file()
    flags = ("--variant", "demo_16k", "--rank", 3, "-o", tmp_path / "x.pt")
    extracted = selva("adapter", "extract", tmp_path / "w.safetensors", *flags)
    assert extracted.code == 0 and "rank 3; each keeps 1.0000" in extracted.err
    compared = selva("adapter", "diff", file, tmp_path / "x.pt")
    assert compared.code == 0 and "cosine 1.0000" in compared.out.splitlines()[0]
    assert selva("adapter", "diff", file, tmp_path / "x.pt", "--json").json["cosine"] > 0.999


def test_generate_takes_adapters_with_strengths(generate, file, clip, tmp_path) -> None:
    def made(name: str, *flags: object) -> bytes:
        result = generate(clip, "-p", "ball", "-o", tmp_path / name, *flags)
        assert result.code == 0, result.err
        return (tmp_path / name).read_bytes()

    base = made("base.wav")
    assert made("zero.wav", "--adapter", file, "--adapter-strength", 0) == base
    one = made("one.wav", "--adapter", file)
    assert one != base
    both = made(
        "both.wav", "--adapter", file, "--adapter", file, "--adapter-strength", 1, "--adapter-strength", -1
    )
    assert both != one


def test_mistakes_end_with_two_and_a_sentence(selva, generate, file, clip, tmp_path) -> None:
    for result, sentence in (
        (selva("adapter", "info", tmp_path / "no.pt"), "There is no adapter"),
        (selva("adapter", "resize", file, "-o", tmp_path / "x.pt"), "Give one of them"),
        (selva("adapter", "merge", "-o", tmp_path / "x.safetensors"), "at least"),
        (generate(clip, "-o", tmp_path / "x.wav", "--adapter", tmp_path / "no.pt"), "There is no adapter"),
        (generate(clip, "-o", tmp_path / "x.wav", "--adapter-strength", 1), "without an adapter"),
    ):
        assert result.code == 2 and sentence in result.err
    assert list(tmp_path.iterdir()) == []


def test_selectivity_is_scored_with_the_adapter(selva, file) -> None:
    flags = ("--scenes", 1, "--steps", 1, "--materials", "wood", "--no-controls", "--json")
    plain = selva("evaluate", "selectivity", *flags)
    zero = selva("evaluate", "selectivity", *flags, "--adapter", file, "--adapter-strength", 0)
    tuned = selva("evaluate", "selectivity", *flags, "--adapter", file, "--adapter-strength", 3)
    assert plain.code == zero.code == tuned.code == 0, tuned.err
    assert tuned.json["adapters"][0]["strength"] == 3 and plain.json["adapters"] == []
    scores = [{k: v for k, v in each.json.items() if k != "adapters"} for each in (plain, zero, tuned)]
    assert scores[0] == scores[1] != scores[2]
