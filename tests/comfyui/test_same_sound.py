"""Node and command line make the same sound; nodes leave the models they share as they are."""

import hashlib
import json

import numpy as np
import pytest
import soundfile
import torch
from comfyui.stand_in import VideoComponents, VideoFromComponents, VideoFromFile
from comfyui.style_files import write_style
from comfyui.test_style_nodes import SEARCH, TOKENS, VOCODER
from comfyui.test_training_nodes import FAST, make_data
from small_generator import moved
from small_style import write_tones

from selva_audio.adapters import Adapter, write_adapter
from selva_audio.cli.app import run as selva
from selva_audio.media.encode import write_video

RECIPE = {
    "prompt": "rubber ball",
    "negative_prompt": "metal ball",
    "steps": 3,
    "cfg_strength": 3.5,
    "seed": 11,
}


@pytest.fixture
def clip(tmp_path, images):
    return write_video((images(40).numpy() * 255).astype(np.uint8), 25, tmp_path / "clip.mp4")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_node_and_command_line_give_the_same_samples(nodes, clip, tmp_path, precision):
    output = tmp_path / "out.wav"
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in RECIPE.items()]
    fixed = [
        "--variant",
        "demo_16k",
        "--device",
        "cpu",
        "--precision",
        precision,
        "--sample-format",
        "float32",
    ]
    assert selva(["generate", str(clip), "--output", str(output), *fixed, *flags]) == 0
    model = nodes["SelvaModelLoader"].execute("demo_16k", precision, "auto").args[0]
    features, _, prompt, _ = (
        nodes["SelvaFeatureExtractor"].execute(model, VideoFromFile(str(clip)), RECIPE["prompt"]).args
    )
    settings = {**RECIPE, "prompt": prompt, "duration": 0.0}
    audio = nodes["SelvaSampler"].execute(model, features, **settings).args[0]
    written, rate = soundfile.read(output, dtype="float32")
    assert rate == audio["sample_rate"]
    assert np.array_equal(written, audio["waveform"][0, 0].numpy())
    made = nodes["SelvaFoley"].execute(model, VideoFromFile(str(clip)), **RECIPE).args[1]
    assert torch.equal(made["waveform"], audio["waveform"])


def test_a_seed_of_a_take_is_the_seed_after(nodes, model, features):
    settings = {**RECIPE, "duration": 0.0}
    second = nodes["SelvaSampler"].execute(model, features, **settings, takes=2).args[0]["waveform"][1]
    settings["seed"] += 1
    alone = nodes["SelvaSampler"].execute(model, features, **settings).args[0]["waveform"][0]
    assert torch.equal(second, alone)


def weights(model):
    digest = hashlib.sha256()
    for part in (model.generator, model.video_encoder, model.clip, model.t5, model.vae, model.vocoder):
        for key, tensor in sorted(part.state_dict().items()):
            digest.update(key.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def plan_files(folder, data, adapter):
    """A series of one short training, and a comparison of one sound."""
    quick = {"steps": 2, "rank": 2, "warmup_steps": 0, "val_fraction": 0.0, "sample_steps": 0}
    series = {"kind": "lora", "data_dir": str(data), "base": quick, "experiments": [{"id": "one"}]}
    compared = {"data_dir": str(data), "output_dir": "compared", "steps": 1, "max_clips": 1}
    compared["adapters"] = [{"id": "base"}, {"id": "other", "path": str(adapter)}]
    for name, content in {"series.json": series, "compared.json": compared}.items():
        (folder / name).write_text(json.dumps(content))


def test_the_base_output_is_the_same_before_and_after_every_node(
    nodes, model, features, images, tmp_path, comfy
):
    """Two branches on one loaded model do not disturb each other (COMPAT 5.12)."""
    settings = {**RECIPE, "duration": 0.0}
    before = nodes["SelvaSampler"].execute(model, features, **settings).args[0]["waveform"]
    state, clip_rows = weights(model), features.clip.clone()
    noise = {"waveform": 0.1 * torch.randn(1, 1, 16000), "sample_rate": 16000}
    sampling = {"steps": 2, "cfg_strength": 6.0, "seed": 3, "prompt": "metal ball", "negative_prompt": ""}
    made = moved(model.generator, seed=1, amount=0.3)
    adapter = write_adapter(tmp_path / "a.pt", Adapter(made.deltas, {**made.meta, "variant": "demo_16k"}))
    data = make_data(nodes, model, images, tmp_path / "clips", count=2)
    plan_files(comfy.base / "models", data, adapter)
    for kind, quick, sounding in (("tokens", TOKENS, data), ("vocoders", VOCODER, tmp_path / "sounds")):
        base = {name: value for name, value in quick.items() if name != "output_path"}
        plan = {"data_dir": str(sounding), "base": base, "experiments": [{"id": "one"}]}
        (comfy.base / "models" / f"{kind}.json").write_text(json.dumps(plan))
    video = VideoFromComponents(VideoComponents(images(24), 24))
    style = write_style(model, tmp_path / "style")
    tokens = nodes["SelvaTextualInversionLoader"].execute(str(style["tokens"])).args[0]
    vectors = nodes["SelvaActivationSteeringLoader"].execute(str(style["steering"])).args[0]
    wires = {"textual_inversion": tokens, "steering_vectors": vectors}
    sounds = str(write_tones(tmp_path / "sounds", 2))
    others = [
        ("SelvaTextualInversionTrainer", [model, str(data)], TOKENS),
        ("SelvaTiScheduler", [model, "tokens.json"], {}),
        ("SelvaActivationSteeringExtractor", [model, str(data), "v.pt"], {"n_samples": 1, "seed": 0}),
        ("SelvaBigvganTrainer", [model, sounds], VOCODER),
        ("SelvaBigvganScheduler", [model, "vocoders.json"], {}),
        ("SelvaBigvganLoader", [model, str(style["vocoder"])], {}),
        ("SelvaDittoOptimizer", [model, features], {**SEARCH, **wires, "reference_dir": sounds}),
        ("SelvaSampler", [model, features], {**sampling, **wires, "duration": 0.8}),
        ("SelvaLoraLoader", [model, str(adapter), -1.0], {}),
        ("SelvaLoraTrainer", [model, str(data)], FAST),
        ("SelvaLoraScheduler", [model, "series.json"], {}),
        ("SelvaLoraEvaluator", [model, "compared.json"], {}),
        ("SelvaModelLoader", ["demo_16k", "bf16", "offload_to_cpu"], {}),
        ("SelvaFeatureExtractor", [model, images(30), "metal ball"], {"mask": torch.eye(4)}),
        ("SelvaSampler", [model, features], {**sampling, "duration": 0.8, "takes": 2, "solver": "heun"}),
        ("SelvaFoley", [model, video], sampling),
        ("SelvaMux", [images(8), noise, "v"], {}),
        ("SelvaVaeRoundtrip", [model, noise], {}),
        ("SelvaHfSmoother", [noise], {"cutoff_hz": 4000.0, "blend": 0.5}),
        ("SelvaSpectralMatcher", [noise], {"mode": "16k", "strength": 0.5, "max_gain_db": 6.0}),
        ("SelvaHarmonicExciter", [noise], {"cutoff_hz": 3000.0, "drive": 2.0, "mix": 0.5}),
        ("SelvaOutputNormalizer", [noise], {"target_lufs": -20.0, "true_peak_dbtp": -1.0}),
    ]
    for name, arguments, keywords in others:
        result = nodes[name].execute(*arguments, **keywords)
        if name in ("SelvaLoraLoader", "SelvaLoraTrainer", "SelvaBigvganLoader"):
            adapted = nodes["SelvaSampler"].execute(result.args[0], features, **settings)
            assert not torch.equal(adapted.args[0]["waveform"], before)
        assert weights(model) == state, name
    takes_model = {
        name
        for name, node in nodes.items()
        if any(each.io_type == "SELVA_MODEL" for each in node.define_schema().inputs)
    }
    assert takes_model <= {name for name, _, _ in others}
    assert torch.equal(features.clip, clip_rows)
    assert torch.equal(nodes["SelvaSampler"].execute(model, features, **settings).args[0]["waveform"], before)
