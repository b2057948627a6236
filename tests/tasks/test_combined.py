"""An adapter, a tuned vocoder, learned tokens and steering vectors on one model."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from small_generator import moved

from selva_audio.adapters import Adapter, write_adapter
from selva_audio.adapters.textual_inversion import TextualInversion, write_inversion
from selva_audio.bundle import SelVAModel, load_model
from selva_audio.cli.app import run as selva
from selva_audio.flow.steering import SteeringVectors, block_paths
from selva_audio.flow.steering_file import write_steering
from selva_audio.options import FeatureOptions, GenerateOptions, InversionOptions, SteeringOptions
from selva_audio.tasks.adapter import with_adapters
from selva_audio.tasks.generate import generate
from selva_audio.tasks.replay import replay
from selva_audio.tasks.run import run_video
from selva_audio.tasks.style import with_steering, with_textual_inversion, with_vocoder

QUICK = GenerateOptions(steps=1)


@pytest.fixture(scope="module")
def base() -> SelVAModel:
    return load_model("demo_16k", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def files(base: SelVAModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, random = tmp_path_factory.mktemp("four"), torch.Generator().manual_seed(0)
    adapter = moved(base.generator, amount=0.2)
    told = {**adapter.meta, "variant": "demo_16k", "clip_conditioning": "on"}
    state = {
        key: tensor + 0.3 if key.endswith("alpha") else tensor.clone()
        for key, tensor in base.vocoder.state_dict().items()
    }
    torch.save({"generator": state}, folder / "vocoder.pt")
    vectors = {path: torch.randn(1, 1, 96, generator=random) for path in block_paths(base.generator)}
    tokens = TextualInversion(torch.nn.functional.normalize(torch.randn(4, 64, generator=random), dim=-1))
    return {
        "adapter": write_adapter(folder / "adapter.pt", Adapter(adapter.deltas, told)),
        "vocoder": folder / "vocoder.pt",
        "tokens": write_inversion(folder / "tokens.pt", tokens),
        "steering": write_steering(folder / "steering.pt", SteeringVectors(vectors)),
    }


def loaded(model: SelVAModel, files: dict[str, Path], order: tuple[str, ...]) -> SelVAModel:
    ways = {
        "adapter": lambda model: with_adapters(model, [files["adapter"]], [0.5]),
        "vocoder": lambda model: with_vocoder(model, files["vocoder"]),
        "tokens": lambda model: with_textual_inversion(
            model, files["tokens"], InversionOptions(ti_strength=0.5)
        ),
        "steering": lambda model: with_steering(
            model, files["steering"], SteeringOptions(steering_strength=0.2)
        ),
    }
    for name in order:
        model = ways[name](model)
    return model


def test_the_order_of_loading_does_not_matter_and_each_is_heard(base, files, features) -> None:
    names = tuple(files)
    made = [
        generate(loaded(base, files, order), features, QUICK).waveform
        for order in (names, names[::-1], (names[2], names[0], names[3], names[1]))
    ]
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])
    for fewer in itertools.combinations(names, 3):
        assert not torch.equal(generate(loaded(base, files, fewer), features, QUICK).waveform, made[0])


def test_two_branches_of_one_model_do_not_disturb_each_other(base, files, features) -> None:
    plain = generate(base, features, QUICK).waveform
    one, other = loaded(base, files, ("steering", "vocoder")), loaded(base, files, ("tokens",))
    first = generate(one, features, QUICK).waveform
    generate(other, features, QUICK)
    assert torch.equal(generate(one, features, QUICK).waveform, first)
    assert torch.equal(generate(base, features, QUICK).waveform, plain)


def test_library_command_and_replay_write_the_same_bytes(base, files, clip, tmp_path) -> None:
    model = loaded(base, files, tuple(files))
    made = run_video(model, clip, tmp_path / "a.wav", FeatureOptions(prompt="ball"), QUICK).outputs[0]
    recipe = json.loads((tmp_path / "a.wav.json").read_text())
    assert all(recipe[name] for name in ("adapters", "vocoder", "textual_inversion", "steering"))
    assert replay(made, tmp_path / "b.wav").outputs[0].read_bytes() == made.read_bytes()
    four = (
        f"--adapter {files['adapter']} --adapter-strength 0.5 --vocoder {files['vocoder']} "
        f"--textual-inversion {files['tokens']} --ti-strength 0.5 "
        f"--steering {files['steering']} --steering-strength 0.2"
    )
    on_demo = "--variant demo_16k --precision fp32 --device cpu"
    assert selva(f"generate {clip} -p ball --steps 1 -o {tmp_path}/c.wav {four} {on_demo}".split()) == 0
    assert (tmp_path / "c.wav").read_bytes() == made.read_bytes()
