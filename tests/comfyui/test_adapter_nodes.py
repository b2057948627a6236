"""SelvaLoraLoader: adapters add up, branches do not disturb each other, and what does not fit is refused."""

import math
import os

import pytest
import torch
from small_generator import moved

from selva_audio.adapters import Adapter, write_adapter
from selva_audio.errors import CheckpointError, SelVAError

SETTINGS = {"prompt": "", "negative_prompt": "", "duration": 0.0, "steps": 2, "cfg_strength": 4.5, "seed": 3}


@pytest.fixture(scope="module")
def adapter(model, tmp_path_factory):
    """``adapter(name, **meta)``: an adapter of the demo model that has moved from its start, as a file."""
    folder = tmp_path_factory.mktemp("adapters")

    def write(name, seed=0, **meta):
        made = moved(model.generator, seed=seed, amount=0.3)
        told = {**made.meta, "variant": "demo_16k", "clip_conditioning": "on", **meta}
        return write_adapter(folder / f"{name}.pt", Adapter(made.deltas, told))

    return write


@pytest.fixture
def load(nodes, model):
    def run(path, strength=1.0, into=model):
        return nodes["SelvaLoraLoader"].execute(into, str(path), strength).args

    return run


@pytest.fixture
def sound(nodes, features):
    def run(model):
        return nodes["SelvaSampler"].execute(model, features, **SETTINGS).args[0]["waveform"]

    return run


def test_branches_with_different_adapters_on_one_model_do_not_disturb_each_other(adapter, load, sound, model):
    base = sound(model)
    first, second = load(adapter("one"))[0], load(adapter("two", seed=1))[0]
    before = sound(first), sound(second)
    assert not torch.equal(before[0], base)
    assert not torch.equal(before[0], before[1])
    assert torch.equal(sound(first), before[0])
    assert torch.equal(sound(second), before[1])
    assert torch.equal(sound(model), base)


def test_adapters_add_up_and_one_of_the_opposite_strength_takes_the_other_away(adapter, load, sound, model):
    one, two = adapter("one"), adapter("two", seed=1)
    stacked = load(two, 0.5, load(one, 1.0)[0])[0]
    other_way = load(one, 1.0, load(two, 0.5)[0])[0]
    assert torch.allclose(sound(stacked), sound(other_way), atol=1e-3)
    assert not torch.equal(sound(stacked), sound(load(one)[0]))
    undone = load(one, -1.0, load(one, 1.0)[0])[0]
    assert torch.allclose(sound(undone), sound(model), atol=1e-3)


def test_strength_0_is_the_base_bitwise(adapter, load, sound, model):
    assert torch.equal(sound(load(adapter("one"), 0.0)[0]), sound(model))


@pytest.mark.parametrize("changed", [{"strength": 0.5}, {"strength": -1.0}])
def test_each_strength_changes_the_sound(adapter, load, sound, changed):
    path = adapter("one")
    assert not torch.equal(sound(load(path, **changed)[0]), sound(load(path)[0]))


def test_the_report_tells_what_the_adapter_is_and_of_whom(adapter, load, comfy):
    _, text = load(adapter("one", steps=700))
    assert text == comfy.texts[-1]
    assert text.startswith("one.pt at strength 1: rank 3 on ")
    assert "trained on demo_16k, 700 steps" in text
    content = torch.load(adapter("one"), weights_only=True)
    del content["meta"]["format_version"]
    torch.save(content, comfy.base / "pack.pt")
    assert "worth training again" in load("pack.pt")[1]


def test_an_adapter_of_another_variant_or_another_size_is_refused_with_both_names(adapter, load, model):
    """COMPAT 5.21: the public pack loaded what fitted and went on."""
    with pytest.raises(CheckpointError, match=r"small_16k.*demo_16k"):
        load(adapter("other", variant="small_16k"))
    made = moved(model.generator, seed=0)
    first, *rest = made.deltas
    odd = {f"{first}.nothing": made.deltas[first], **{name: made.deltas[name] for name in rest}}
    path = write_adapter(adapter("one").with_name("odd.pt"), Adapter(odd, {"variant": "demo_16k"}))
    with pytest.raises(CheckpointError, match=r"nothing is not in the generator"):
        load(path)


def test_a_replaced_file_is_read_again(adapter, nodes):
    path, mark = adapter("one"), nodes["SelvaLoraLoader"].fingerprint_inputs
    before = mark(adapter_path=str(path))
    assert mark(adapter_path=str(path)) == before
    os.utime(path, ns=(1, 1))
    assert mark(adapter_path=str(path)) != before


@pytest.mark.parametrize(
    ("path", "strength"),
    [
        ("", 1.0),
        ("../../etc/passwd", 1.0),
        ("a\0b.pt", 1.0),
        ("x" * 300, 1.0),
        ("CON.pt", 1.0),
        ("nowhere.pt", 1.0),
        ("/etc/passwd", 1.0),
        (".", 1.0),
        ("one.pt", math.nan),
        ("one.pt", math.inf),
    ],
)
def test_a_hostile_value_is_a_sentence_and_touches_nothing(adapter, load, comfy, path, strength):
    target = comfy.base / "one.pt"
    target.write_bytes(adapter("one").read_bytes())
    before = {file: file.stat().st_mtime_ns for file in comfy.base.rglob("*")}
    with pytest.raises(SelVAError) as caught:
        load(path, strength)
    assert len(str(caught.value)) < 600
    assert {file: file.stat().st_mtime_ns for file in comfy.base.rglob("*")} == before


def test_code_in_a_file_is_not_run(load, tmp_path):
    """COMPAT 5.24."""

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "run"),))

    torch.save({"state_dict": Evil(), "meta": {}}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        load(tmp_path / "evil.pt")
    assert not (tmp_path / "run").exists()
