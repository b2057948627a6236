import json
from pathlib import Path

import numpy as np
import pytest
import torch

from selva_audio.bundle import SelVAModel, load_model
from selva_audio.cli.app import run as selva
from selva_audio.errors import CheckpointError, InputError, MissingFileError
from selva_audio.features import VideoFeatures, save_features
from selva_audio.flow.steering import SteeringVectors, block_paths
from selva_audio.flow.steering_file import read_steering, write_steering
from selva_audio.media.audio import write_audio
from selva_audio.options import FeatureOptions, GenerateOptions, SteeringExtractionOptions, SteeringOptions
from selva_audio.records import Audio
from selva_audio.tasks.generate import generate
from selva_audio.tasks.replay import replay
from selva_audio.tasks.run import run_video
from selva_audio.tasks.steer import extract_steering
from selva_audio.tasks.style import with_steering

ONE_STEP = GenerateOptions(steps=1)
QUICK = SteeringExtractionOptions(n_samples=2, time_bins=2)
STRONG = SteeringOptions(steering_strength=0.5)


def make_set(folder: Path, pitch: float, prompt: str, seed: int) -> Path:
    """Two pairs of features and a tone."""
    folder.mkdir()
    noise = torch.Generator().manual_seed(seed)
    for name in ("a", "b"):
        clip, sync = (torch.randn(1, *shape, generator=noise) for shape in ((64, 64), (192, 96)))
        save_features(folder / f"{name}.npz", VideoFeatures(clip, sync, prompt=prompt, duration=8.0))
        wave = 0.2 * torch.sin(2 * torch.pi * pitch * torch.arange(128000) / 16000)
        wave = wave * (torch.rand(128000, generator=noise) > 0.3)
        write_audio(folder / f"{name}.wav", Audio(wave[None, None], 16000))
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sets")
    return make_set(folder / "metal", 1350, "metal ball", 1), make_set(folder / "wood", 520, "wood", 2)


@pytest.fixture(scope="module")
def file(demo_model, sets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "metal.pt"
    extract_steering(demo_model, sets[0], path, QUICK, contrast_dir=sets[1])
    return path


def sound(model: SelVAModel, features: VideoFeatures, **options) -> torch.Tensor:
    return generate(model, features, GenerateOptions(**{"steps": 2, **options})).waveform


def test_extraction_writes_vectors_for_every_block_with_a_report(demo_model, sets, file, tmp_path) -> None:
    vectors = read_steering(file)
    assert list(vectors.vectors) == block_paths(demo_model.generator)
    assert vectors.edges == (0.0, 0.5, 1.0) and vectors.variant == "demo_16k"
    assert vectors.base == demo_model.identity("generator")
    assert vectors.meta["contrast"] == "other:wood" and vectors.meta["n"] == 2
    result = extract_steering(demo_model, sets[0], tmp_path / "again.pt", QUICK, contrast_dir=sets[1])
    assert result["report"].keys() == vectors.vectors.keys() and result["clips"] == 2
    json.dumps(result)
    assert all(
        torch.equal(tensor, read_steering(tmp_path / "again.pt").vectors[path])
        for path, tensor in vectors.vectors.items()
    )


def test_what_it_is_contrasted_with_changes_the_vectors(demo_model, sets, file, tmp_path) -> None:
    told = {}
    for name, changed in (
        ("empty", {}),
        ("prompt", {"contrast_prompt": "rubber ball"}),
        ("own", {"prompt": "glass"}),
    ):
        extract_steering(demo_model, sets[0], tmp_path / f"{name}.pt", QUICK.model_copy(update=changed))
        told[name] = read_steering(tmp_path / f"{name}.pt")
    assert told["empty"].meta["contrast"] == "empty"
    assert told["prompt"].meta["contrast"] == "prompt:rubber ball"
    path = "fused_blocks.1"
    found = [each.vectors[path] for each in (*told.values(), read_steering(file))]
    assert all(not torch.equal(a, b) for k, a in enumerate(found) for b in found[:k])


def test_a_set_against_itself_gives_nothing(demo_model, sets, tmp_path) -> None:
    extract_steering(demo_model, sets[0], tmp_path / "same.pt", QUICK, contrast_dir=sets[0])
    assert all(not tensor.any() for tensor in read_steering(tmp_path / "same.pt").vectors.values())


def test_a_steered_model_sounds_different_and_the_given_one_as_before(demo_model, file, features) -> None:
    before = sound(demo_model, features)
    steered = with_steering(demo_model, file, STRONG)
    assert not torch.equal(sound(steered, features), before)
    assert torch.equal(sound(demo_model, features), before)
    assert steered.generator is demo_model.generator
    assert all(not module._forward_hooks for module in demo_model.generator.modules())
    assert with_steering(demo_model, None) is demo_model


def test_strength_zero_is_the_plain_sound_bit_for_bit(demo_model, file, features) -> None:
    plain = with_steering(demo_model, file, SteeringOptions(steering_strength=0.0))
    assert torch.equal(sound(plain, features), sound(demo_model, features))


@pytest.mark.parametrize(
    "changed",
    [
        {"steering_strength": -0.5},
        {"steering_mode": "raw"},
        {"steering_branch": "cond"},
        {"steering_blocks": "0-1"},
    ],
    ids=str,
)
def test_every_setting_changes_the_sound(demo_model, file, features, changed) -> None:
    usual = sound(with_steering(demo_model, file, STRONG), features)
    other = sound(with_steering(demo_model, file, STRONG.model_copy(update=changed)), features)
    assert not torch.equal(usual, other)


def test_a_model_with_two_sets_of_vectors_takes_the_last(demo_model, file, features) -> None:
    once = with_steering(demo_model, file, STRONG)
    twice = with_steering(with_steering(demo_model, file), file, STRONG)
    assert torch.equal(sound(once, features), sound(twice, features))


def test_an_error_while_sampling_leaves_no_hook(demo_model, file, features) -> None:
    def fail(progress) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        generate(with_steering(demo_model, file, STRONG), features, ONE_STEP, on_progress=fail)
    assert all(not module._forward_hooks for module in demo_model.generator.modules())


def test_replay_takes_the_vectors_along(file, clip, tmp_path) -> None:
    base = load_model("demo_16k", device="cpu", precision="fp32")
    run_video(
        with_steering(base, file, STRONG), clip, tmp_path / "a.wav", FeatureOptions(prompt="ball"), ONE_STEP
    )
    run_video(base, clip, tmp_path / "plain.wav", FeatureOptions(prompt="ball"), ONE_STEP)
    recipe = json.loads((tmp_path / "a.wav.json").read_text())
    assert recipe["steering"]["options"]["steering_strength"] == 0.5
    again = replay(tmp_path / "a.wav", tmp_path / "b.wav").outputs[0]
    made = (tmp_path / "a.wav").read_bytes()
    assert again.read_bytes() == made
    assert np.frombuffer(made[44:], np.uint8).tobytes() != (tmp_path / "plain.wav").read_bytes()[44:]


def test_another_strength_is_another_run(demo_model, file, clip, tmp_path) -> None:
    for strength, status in ((0.5, True), (0.5, False), (0.2, True)):
        model = with_steering(demo_model, file, SteeringOptions(steering_strength=strength))
        run = run_video(
            model, clip, tmp_path / "a.wav", FeatureOptions(prompt="ball"), ONE_STEP, skip_done=True
        )
        assert bool(run.seconds) == status


def test_a_replay_refuses_vectors_that_have_changed(demo_model, file, clip, tmp_path) -> None:
    own = tmp_path / "own.pt"
    own.write_bytes(file.read_bytes())
    model = with_steering(demo_model, own, STRONG)
    run_video(model, clip, tmp_path / "a.wav", FeatureOptions(prompt="ball"), ONE_STEP)
    vectors = read_steering(file)
    write_steering(own, SteeringVectors({p: -t for p, t in vectors.vectors.items()}, vectors.edges))
    with pytest.raises(InputError, match="not the steering of the recipe"):
        replay(tmp_path / "a.wav", tmp_path / "b.wav")
    own.unlink()
    with pytest.raises(MissingFileError, match="Put it back there"):
        replay(tmp_path / "a.wav", tmp_path / "b.wav")


def test_what_does_not_fit_is_refused(demo_model, file, sets, tmp_path) -> None:
    vectors = read_steering(file)

    def written(name: str, **changed) -> Path:
        fields = {"vectors": vectors.vectors, "edges": vectors.edges, **changed}
        return write_steering(tmp_path / name, SteeringVectors(**fields))

    with pytest.raises(CheckpointError, match="found in small_16k, and this is demo_16k"):
        with_steering(demo_model, written("v.pt", variant="small_16k"))
    with pytest.raises(CheckpointError, match="other weights of demo_16k"):
        with_steering(demo_model, written("b.pt", base="md5:0"))
    narrow = {path: tensor[..., :5] for path, tensor in vectors.vectors.items()}
    with pytest.raises(CheckpointError, match="do not fit this generator"):
        with_steering(demo_model, written("n.pt", vectors=narrow))
    with pytest.raises(InputError, match="names block 9"):
        with_steering(demo_model, file, SteeringOptions(steering_blocks="9"))
    with pytest.raises(InputError, match="without vectors"):
        with_steering(demo_model, None, STRONG)
    with pytest.raises(InputError, match=r"End the name in \.pt"):
        extract_steering(demo_model, sets[0], tmp_path / "v.safetensors")
    with pytest.raises(MissingFileError):
        extract_steering(demo_model, tmp_path / "none", tmp_path / "v2.pt")


def test_the_commands_extract_and_steer(demo_model, sets, clip, tmp_path, capsys) -> None:
    on_demo = ["--variant", "demo_16k", "--precision", "fp32", "--device", "cpu"]
    out = tmp_path / "v.pt"
    command = (
        f"steer extract --data-dir {sets[0]} --contrast-dir {sets[1]} --output {out} --n-samples 2 --json"
    )
    assert selva([*command.split(), "--time-bins", "2", *on_demo]) == 0
    assert json.loads(capsys.readouterr().out)["contrast"] == "other:wood"
    generate_it = (
        f"generate {clip} -p ball --steps 1 -o {tmp_path}/c.wav --steering {out} --steering_strength 0.5"
    )
    assert selva([*generate_it.split(), *on_demo]) == 0
    model = with_steering(demo_model, out, STRONG)
    library = run_video(model, clip, tmp_path / "l.wav", FeatureOptions(prompt="ball"), ONE_STEP).outputs[0]
    assert library.read_bytes() == (tmp_path / "c.wav").read_bytes()
    assert selva([*generate_it.replace("0.5", "x").split(), *on_demo]) == 2
