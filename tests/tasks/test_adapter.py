import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from small_generator import moved

from selva_audio.adapters import Adapter, Delta, dense, read_adapter, write_adapter
from selva_audio.bundle import load_model
from selva_audio.errors import CheckpointError, InputError
from selva_audio.options import FeatureOptions, GenerateOptions
from selva_audio.tasks.adapter import (
    adapter_info,
    compare_adapters,
    convert_adapter,
    extract_adapter,
    load_generator,
    merge_adapters,
    resize_adapter,
    with_adapters,
)
from selva_audio.tasks.generate import extract_features, generate
from selva_audio.tasks.replay import replay
from selva_audio.tasks.run import run_video
from selva_audio.weights import load_component
from selva_audio.weights.io import read_metadata, read_state_dict, write_safetensors

ONE_STEP = GenerateOptions(steps=1)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters of the demo model that have moved from their start."""
    base, folder = load_generator("demo_16k"), tmp_path_factory.mktemp("adapters")
    files = {}
    for number, (name, settings) in enumerate(
        {"plain": {}, "pissa": {"init_mode": "pissa"}, "dora": {"use_dora": True, "target": "mlp"}}.items()
    ):
        adapter = moved(base, seed=number, amount=0.2, **settings)
        adapter = Adapter(adapter.deltas, {**adapter.meta, "variant": "demo_16k", "clip_conditioning": "on"})
        files[name] = write_adapter(folder / f"{name}.pt", adapter)
    return files


@pytest.fixture(scope="module")
def clip(make_clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", np.arange(25) / 25)


def sound(model, clip: Path) -> torch.Tensor:
    features = extract_features(model, clip, options=FeatureOptions(prompt="ball"))
    return generate(model, features, ONE_STEP).waveform


def test_a_model_with_adapters_sounds_different_and_the_given_one_as_before(
    demo_model, adapters, clip
) -> None:
    before = sound(demo_model, clip)
    model = with_adapters(demo_model, [adapters["plain"], adapters["pissa"]], [1.0, -0.5])
    assert not torch.equal(sound(model, clip), before)
    assert torch.equal(sound(with_adapters(demo_model, [adapters["plain"]], [0.0]), clip), before)
    assert torch.equal(sound(demo_model, clip), before)
    assert model.identity("generator") != demo_model.identity("generator")
    assert model.vae is demo_model.vae and with_adapters(demo_model, []) is demo_model
    assert [each["strength"] for each in model.adapters] == [1.0, -0.5] and demo_model.adapters == ()


def test_a_replay_takes_the_adapter_along(adapters, clip, tmp_path) -> None:
    base = load_model("demo_16k", device="cpu", precision="fp32")
    model = with_adapters(base, [adapters["plain"]], [0.5])
    run_video(model, clip, tmp_path / "a.wav", FeatureOptions(prompt="ball"), ONE_STEP)
    recipe = json.loads((tmp_path / "a.wav.json").read_text())
    assert recipe["adapters"][0]["strength"] == 0.5
    again = replay(tmp_path / "a.wav", tmp_path / "b.wav")
    assert again.outputs[0].read_bytes() == (tmp_path / "a.wav").read_bytes()


def test_a_replay_refuses_an_adapter_that_has_changed(demo_model, adapters, clip, tmp_path) -> None:
    own = tmp_path / "own.pt"
    own.write_bytes(adapters["plain"].read_bytes())
    run_video(
        with_adapters(demo_model, [own]), clip, tmp_path / "a.wav", FeatureOptions(prompt="ball"), ONE_STEP
    )
    own.write_bytes(adapters["pissa"].read_bytes())
    with pytest.raises(InputError, match="not the adapter of the recipe"):
        replay(tmp_path / "a.wav", tmp_path / "b.wav")


def test_merged_weights_sound_as_the_adapters_do(demo_model, adapters, clip, tmp_path) -> None:
    paths, amounts = [adapters["plain"], adapters["dora"]], [0.5, 1.0]
    result = merge_adapters(paths, tmp_path / "m.safetensors", strength=amounts)
    state = read_state_dict(tmp_path / "m.safetensors")
    generator = load_component("generator", "demo_16k", state)
    merged = sound(demo_model.replace(generator=generator), clip)
    expected = sound(with_adapters(demo_model, paths, amounts), clip)
    assert (merged - expected).norm() < 1e-2 * expected.norm()
    assert result["variant"] == "demo_16k" and len(result["changed"]) > 10
    told = json.loads(read_metadata(tmp_path / "m.safetensors")["selva_merged"])
    assert [each["file"] for each in told["adapters"]] == ["plain.pt", "dora.pt"]


def test_several_adapters_become_one(adapters, tmp_path) -> None:
    result = merge_adapters([adapters["plain"], adapters["pissa"]], tmp_path / "one.pt", into="adapter")
    joined = read_adapter(tmp_path / "one.pt")
    assert joined.rank == result["rank"] == 9
    assert [each["file"] for each in joined.meta["merged_from"]] == ["plain.pt", "pissa.pt"]


def test_several_adapters_become_one_of_a_lower_rank_with_its_loss_told(adapters, tmp_path):
    paths = [adapters["plain"], adapters["pissa"]]
    whole = merge_adapters(paths, tmp_path / "whole.pt", into="adapter")
    result = merge_adapters(paths, tmp_path / "small.pt", into="adapter", rank=4)
    small, exact = read_adapter(tmp_path / "small.pt"), read_adapter(tmp_path / "whole.pt")
    assert whole["least_energy"] == 1 and small.rank == result["rank"] == 4
    kept = [float((dense(small.deltas[n]).norm() / dense(d).norm()) ** 2) for n, d in exact.deltas.items()]
    assert result["least_energy"] == pytest.approx(min(kept), rel=1e-4) and min(kept) < 1
    with pytest.raises(InputError, match="Whole weights have no rank"):
        merge_adapters(paths, tmp_path / "w.safetensors", rank=4)


def test_intruders_are_taken_out_while_converting(tmp_path):
    base = load_generator("demo_16k")
    path = "fused_blocks.0.attn.qkv"
    weight = base.get_submodule(path).weight.detach().double()
    u, sigma, vh = torch.linalg.svd(weight)
    new = Delta(vh[-1:].float(), (3 * sigma[0] * u[:, -1:]).float(), 1.0)
    write_adapter(tmp_path / "new.pt", Adapter({path: new}, {"variant": "demo_16k"}))

    def count(name):
        (row,) = adapter_info(tmp_path / name, variant="demo_16k", intruders=True)["modules"]
        return row["intruders"]["counts"][0.5]

    result = convert_adapter(tmp_path / "new.pt", tmp_path / "out.safetensors", intruder_strength=0)
    assert (count("new.pt"), count("out.safetensors")) == (1, 0)
    assert [(row["path"], row["intruders"]) for row in result["reduced"]] == [(path, 1)]
    assert (
        convert_adapter(tmp_path / "new.pt", tmp_path / "same.pt")["reduced"] == [] and count("same.pt") == 1
    )
    with pytest.raises(InputError, match="is no share"):
        convert_adapter(tmp_path / "new.pt", tmp_path / "x.pt", intruder_strength=2)


@pytest.mark.parametrize("name", ["c.safetensors", "c.pt", "folder"])
def test_converting_gives_plain_lora(adapters, tmp_path, name) -> None:
    result = convert_adapter(adapters["pissa"], tmp_path / name)
    made = read_adapter(tmp_path / name)
    assert all(delta.is_plain for delta in made.deltas.values())
    assert result["rank"] == made.rank <= 6 and made.variant == "demo_16k"


def test_resizing_tells_what_is_kept(adapters, tmp_path) -> None:
    result = resize_adapter(adapters["pissa"], tmp_path / "r.safetensors", rank=2)
    assert result["rank"] == read_adapter(tmp_path / "r.safetensors").rank == 2
    assert 0 < result["least_energy"] < 1
    assert all(0 <= row["relative_error"] < 1 for row in result["modules"])


@pytest.mark.parametrize("name", ["plain", "pissa"])
def test_an_adapter_comes_back_out_of_the_weights_it_was_merged_into(adapters, tmp_path, name) -> None:
    merge_adapters([adapters[name]], tmp_path / "w.safetensors")
    result = extract_adapter(tmp_path / "w.safetensors", tmp_path / "x.pt", variant="demo_16k", rank=6)
    assert result["least_energy"] > 1 - 1e-6 and result["left_out"] == []
    likeness = compare_adapters(adapters[name], tmp_path / "x.pt")
    assert likeness["cosine"] > 1 - 1e-6 and likeness["relative_difference"] < 1e-3
    smaller = extract_adapter(tmp_path / "w.safetensors", tmp_path / "y.pt", variant="demo_16k", rank=1)
    assert smaller["rank"] == 1 and smaller["least_energy"] < 0.99
    made = read_adapter(tmp_path / "y.pt")
    assert made.variant == "demo_16k" and made.clip_conditioning


def test_what_an_adapter_cannot_hold_is_named(tmp_path) -> None:
    state = dict(load_generator("demo_16k").state_dict())
    name = next(key for key in state if key.endswith(".bias"))
    write_safetensors(tmp_path / "same.safetensors", state)
    with pytest.raises(InputError, match="do not differ"):
        extract_adapter(tmp_path / "same.safetensors", tmp_path / "x.pt", variant="demo_16k")
    weight = next(key for key in state if key.endswith("attn.qkv.weight"))
    state |= {name: state[name] + 1, weight: state[weight] + 0.01}
    write_safetensors(tmp_path / "tuned.safetensors", state)
    result = extract_adapter(tmp_path / "tuned.safetensors", tmp_path / "x.pt", variant="demo_16k")
    assert result["left_out"] == [name] and (result["layers"], result["rank"]) == (1, 1)


def test_adapters_are_compared_in_direction_and_size(adapters, tmp_path) -> None:
    same = compare_adapters(adapters["plain"], adapters["plain"])
    assert same["cosine"] == pytest.approx(1) and same["relative_difference"] == pytest.approx(0, abs=1e-6)
    merge_adapters([adapters["plain"]], tmp_path / "m.pt", strength=[-2.0], into="adapter")
    other = compare_adapters(adapters["plain"], tmp_path / "m.pt")
    assert other["cosine"] == pytest.approx(-1) and other["relative_difference"] == pytest.approx(3)
    # The definition, with the changes made.
    deltas = [read_adapter(adapters[name]).deltas for name in ("plain", "pissa")]
    found = compare_adapters(adapters["plain"], adapters["pissa"])["modules"][0]
    changes = [dense(each[found["path"]], torch.zeros(each[found["path"]].weight_shape)) for each in deltas]
    assert found["difference"] == pytest.approx(float((changes[0] - changes[1]).norm()), rel=1e-5)
    with pytest.raises(InputError, match="DoRA"):
        compare_adapters(adapters["plain"], adapters["dora"])


def test_info_tells_sizes_and_meta(adapters) -> None:
    alone = adapter_info(adapters["plain"])
    assert alone["rank"] == 3 and alone["variant"] == "demo_16k" and alone["norm"] > 0
    assert alone["modules"][0]["relative_norm"] is None
    beside = adapter_info(adapters["dora"], variant="demo_16k", intruders=True)
    assert all(0 < row["relative_norm"] < 10 for row in beside["modules"])
    found = beside["modules"][0]["intruders"]
    assert {"matches", "counts", "control", "right", "energy"} <= set(found)
    parts = {row["path"]: list(row["intruders"]["parts"]) for row in beside["modules"]}
    assert all(
        names == (["q", "k", "v"] if path.endswith("attn.qkv") else []) for path, names in parts.items()
    )
    json.dumps(beside)
    assert adapter_info(adapters["dora"])["norm"] is None


def test_what_cannot_be_done_is_said(demo_model, adapters, tmp_path, caplog) -> None:
    path = adapters["plain"]
    with pytest.raises(InputError, match="without an adapter"):
        with_adapters(demo_model, [], [1.0])
    with pytest.raises(InputError, match="2 strengths were given for 1"):
        with_adapters(demo_model, [path], [1.0, 2.0])
    with pytest.raises(InputError, match="no finite number"):
        with_adapters(demo_model, [path], [float("inf")])
    with pytest.raises(InputError, match="--variant"):
        adapter_info(path, intruders=True)
    with pytest.raises(InputError, match="inputs are never changed"):
        convert_adapter(path, path)
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        merge_adapters([path], tmp_path / "m.pt")
    with pytest.raises(InputError, match="nothing to merge"):
        merge_adapters([], tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="trained on demo_16k, not on small_16k"):
        merge_adapters([path], tmp_path / "m.safetensors", variant="small_16k")
    foreign = read_adapter(path)
    other = write_adapter(
        tmp_path / "o.pt", Adapter(foreign.deltas, {**foreign.meta, "variant": "small_16k"})
    )
    with pytest.raises(CheckpointError, match="trained on small_16k, and this is demo_16k"):
        with_adapters(demo_model, [other])
    none = write_adapter(tmp_path / "n.pt", Adapter(foreign.deltas, {}))
    with pytest.raises(InputError, match="they do not tell it"):
        merge_adapters([none], tmp_path / "m.safetensors")
    assert list(tmp_path.glob("m.*")) == []
    with caplog.at_level(logging.WARNING):
        with_adapters(
            demo_model, [write_adapter(tmp_path / "p.pt", Adapter(foreign.deltas, {}, origin="pack"))]
        )
    assert "mis-scaled" in caplog.text
