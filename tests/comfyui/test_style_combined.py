"""An adapter, a vocoder, tokens and vectors on one sampler: the order does not matter, and the command line
and a replay make the same samples."""

import itertools
import json

import numpy as np
import pytest
import soundfile
import torch
from comfyui.stand_in import VideoFromFile
from comfyui.style_files import write_style

from selva_audio.cli.app import run as selva
from selva_audio.media.encode import write_video

SAMPLING = {"prompt": "", "negative_prompt": "metal ball", "steps": 2, "cfg_strength": 3.5, "seed": 11}


@pytest.fixture
def clip(tmp_path, images):
    return write_video((images(40).numpy() * 255).astype(np.uint8), 25, tmp_path / "clip.mp4")


@pytest.fixture
def plain(nodes):
    return nodes["SelvaModelLoader"].execute("demo_16k", "fp32", "auto").args[0]


@pytest.fixture
def style(plain, tmp_path):
    return write_style(plain, tmp_path / "style")


@pytest.fixture
def wires(nodes, style):
    return {
        "textual_inversion": nodes["SelvaTextualInversionLoader"].execute(str(style["tokens"])).args[0],
        "steering_vectors": nodes["SelvaActivationSteeringLoader"].execute(str(style["steering"])).args[0],
        "ti_strength": 0.5,
        "steering_strength": 0.2,
    }


def loaded(nodes, model, style, order):
    """The model through the loaders of an adapter and a vocoder."""
    ways = {"adapter": ("SelvaLoraLoader", [0.5]), "vocoder": ("SelvaBigvganLoader", [])}
    for name in order:
        node, more = ways[name]
        model = nodes[node].execute(model, str(style[name]), *more).args[0]
    return model


def test_nodes_command_line_and_replay_give_the_same_samples(
    nodes, plain, style, wires, clip, tmp_path, comfy
):
    features = nodes["SelvaFeatureExtractor"].execute(plain, VideoFromFile(str(clip)), "rubber ball").args[0]
    sample = nodes["SelvaSampler"].execute
    made = [
        sample(loaded(nodes, plain, style, order), features, duration=0.0, **SAMPLING, **wires).args[0]
        for order in (("adapter", "vocoder"), ("vocoder", "adapter"))
    ]
    sound = made[0]["waveform"]
    assert torch.equal(made[1]["waveform"], sound)
    whole = loaded(nodes, plain, style, ("adapter", "vocoder"))
    foley = nodes["SelvaFoley"].execute
    settings = {**SAMPLING, "prompt": "rubber ball", **wires}
    assert torch.equal(foley(whole, VideoFromFile(str(clip)), **settings).args[1]["waveform"], sound)

    written, again = tmp_path / "out.wav", tmp_path / "again.wav"
    files = {"adapter": style["adapter"], "adapter-strength": 0.5, "vocoder": style["vocoder"],
             "textual-inversion": style["tokens"], "ti-strength": 0.5, "steering": style["steering"],
             "steering-strength": 0.2, "variant": "demo_16k", "device": "cpu", "precision": "fp32",
             "sample-format": "float32", **SAMPLING, "prompt": "rubber ball"}  # fmt: skip
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in files.items()]
    assert selva(["generate", str(clip), "--output", str(written), *flags]) == 0
    assert np.array_equal(soundfile.read(written, dtype="float32")[0], sound[0, 0].numpy())
    assert selva(["replay", str(written), "-o", str(again)]) == 0
    assert again.read_bytes() == written.read_bytes()
    recipe = json.loads((tmp_path / "out.wav.json").read_text())
    assert all(recipe[name] for name in ("adapters", "vocoder", "textual_inversion", "steering"))


def test_each_of_the_four_is_heard_beside_the_others(nodes, plain, style, wires, features):
    def sound(names):
        model = loaded(nodes, plain, style, [name for name in ("adapter", "vocoder") if name in names])
        given = {key: value for key, value in wires.items() if key in names}
        settings = {**SAMPLING, "duration": 0.0, "steps": 1, **given}
        return nodes["SelvaSampler"].execute(model, features, **settings).args[0]["waveform"]

    names = ("adapter", "vocoder", "textual_inversion", "steering_vectors")
    whole = sound(names)
    for fewer in itertools.combinations(names, 3):
        assert not torch.equal(sound(fewer), whole), fewer
