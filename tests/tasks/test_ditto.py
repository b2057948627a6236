import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from staged import staged

from selva_audio.bundle import SelVAModel, load_model
from selva_audio.cli.app import run as selva
from selva_audio.dataset.sounds import load_sounds
from selva_audio.errors import InputError, MissingFileError
from selva_audio.features import VideoFeatures
from selva_audio.flow.ditto import OptimisedNoise
from selva_audio.flow.noise_file import read_noise
from selva_audio.media.audio import read_audio, write_audio
from selva_audio.options import DittoOptions, FeatureOptions, GenerateOptions
from selva_audio.progress import Cancelled, Progress
from selva_audio.records import Audio
from selva_audio.tasks.ditto import ditto, find_noise, run_ditto
from selva_audio.tasks.generate import generate
from selva_audio.tasks.replay import replay

SHORT = GenerateOptions(steps=2, normalize=False)
QUICK = DittoOptions(n_opt_steps=3, n_ode_steps=2, check_every=3)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise that is louder in the low bands, in a folder and one below."""
    folder, random = tmp_path_factory.mktemp("references"), torch.Generator().manual_seed(1)
    (folder / "below").mkdir()
    for name in ("a.wav", "below/b.flac"):
        wave = torch.cumsum(0.02 * torch.randn(24000, generator=random), 0)
        write_audio(folder / name, Audio(wave.sub(wave.mean())[None, None].clamp(-0.9, 0.9), 16000))
    return folder


def search(model: SelVAModel, features: VideoFeatures, references: Path, sampling=SHORT, **options):
    chosen = QUICK.model_copy(update=options)
    return find_noise(model, features, load_sounds(references), chosen, sampling)


@pytest.fixture(scope="module")
def usual(demo_model, features, references) -> OptimisedNoise:
    return search(demo_model, features, references)[0]


def test_the_sound_comes_nearer_and_no_weight_changes(demo_model, features, references) -> None:
    before = {key: tensor.clone() for key, tensor in demo_model.generator.state_dict().items()}
    result = ditto(demo_model, features, references, QUICK, SHORT)
    assert result.found.after < result.found.before
    assert result.references == ("a", "b")
    assert torch.equal(
        result.audio.waveform, generate(demo_model, features, SHORT, noise=result.found.noise).waveform
    )
    after = demo_model.generator.state_dict()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    assert not any(parameter.requires_grad for parameter in demo_model.generator.parameters())
    assert 0.9 < result.found.norm < 1.1


def test_it_starts_from_the_sound_of_the_seed(demo_model, features, references) -> None:
    found, _ = search(demo_model, features, references, opt_lr=1e-4, n_opt_steps=1)
    plain = generate(demo_model, features, SHORT).waveform
    another = SHORT.model_copy(update={"seed": 5})
    other, _ = search(demo_model, features, references, sampling=another, n_opt_steps=1)
    assert found.before != other.before
    near = generate(demo_model, features, SHORT, noise=found.noise).waveform
    assert (near - plain).norm() < 0.05 * plain.norm()


def test_calls_of_the_generator_are_counted(demo_model, features, references) -> None:
    _, evaluations = search(demo_model, features, references)
    # First noise for the level, then 2 looks of 2 steps; 3 iterations of 2 steps, forward twice and backward.
    assert evaluations == 2 + 2 * 2 + 3 * 2 * 4


@pytest.mark.parametrize(
    "changed",
    [
        {"gradient": "truncated", "n_grad_steps": 1},
        {"gradient": "surrogate", "surrogate_steps": 1},
        {"loss": "latent"},
        {"gram_weight": 0.0},
        {"n_ode_steps": 1},
    ],
    ids=str,
)
def test_every_setting_changes_what_is_found(demo_model, features, references, usual, changed) -> None:
    other, _ = search(demo_model, features, references, **changed)
    assert usual.history != other.history
    assert all(math.isfinite(each.norm) for each in other.history)


@pytest.mark.parametrize(("mode", "name"), [("truncated", "n_grad_steps"), ("surrogate", "surrogate_steps")])
def test_a_mode_that_takes_all_steps_is_exact(demo_model, features, references, usual, mode, name) -> None:
    whole, _ = search(demo_model, features, references, gradient=mode, **{name: QUICK.n_ode_steps})
    assert whole.history == usual.history


def test_the_level_of_the_references_does_not_count(
    demo_model, features, references, usual, tmp_path
) -> None:
    for path in references.rglob("*.*"):
        quiet = replace(read_audio(path), waveform=0.25 * read_audio(path).waveform)
        write_audio(tmp_path / f"{path.stem}.wav", quiet, subtype="float32")
    found, _ = search(demo_model, features, tmp_path, n_opt_steps=1)
    assert found.before == pytest.approx(usual.before, rel=0.05)


def test_a_sound_that_is_its_own_reference_has_little_loss(demo_model, features, usual, tmp_path) -> None:
    own = generate(demo_model, features, SHORT)
    write_audio(tmp_path / "own.wav", replace(own, notes=()), subtype="float32")
    found, _ = search(demo_model, features, tmp_path, n_opt_steps=1)
    # The vocoder stands between the latent and the file; what it loses is what is left.
    assert found.before < 0.2 * usual.before


def test_a_clip_of_several_windows_is_optimised_as_one(demo_model, references) -> None:
    noise = torch.Generator().manual_seed(0)
    clip, sync = (torch.randn(1, *shape, generator=noise) for shape in ((72, 64), (216, 96)))
    long = VideoFeatures(clip, sync, prompt="dog", duration=9.0)
    sampling = GenerateOptions(steps=2, normalize=False)
    options = DittoOptions(n_opt_steps=2, n_ode_steps=1, check_every=1)
    result = ditto(demo_model, long, references, options, sampling)
    assert result.found.noise.shape == (282, 20) and result.audio.waveform.shape[-1] == 144000
    assert result.found.after < result.found.before


def test_noise_of_another_length_or_for_several_takes_is_refused(demo_model, features, references) -> None:
    with pytest.raises(InputError, match=r"The noise is \(5, 20\)"):
        generate(demo_model, features, SHORT, noise=torch.zeros(5, 20))
    several = SHORT.model_copy(update={"takes": 2})
    with pytest.raises(InputError, match="one sound to make, not 2 takes"):
        generate(demo_model, features, several, noise=torch.zeros(63, 20))
    with pytest.raises(InputError, match="one sound, not 2 takes"):
        ditto(demo_model, features, references, QUICK, several)


def test_cancelling_gives_the_sound_of_the_best(demo_model, features, references) -> None:
    def cancel(progress: Progress) -> None:
        seen.append(progress)
        if sum(each.stage == "optimising" for each in seen) == 3:
            raise Cancelled

    seen: list[Progress] = []
    options = QUICK.model_copy(update={"check_every": 1})
    result = ditto(demo_model, features, references, options, SHORT, on_progress=cancel)
    losses = {each.step: each.true_loss for each in result.found.history}
    assert result.found.status == "cancelled" and list(losses) == [0, 1, 2]
    assert result.found.after == losses[result.found.step] == min(losses.values())
    assert result.audio.waveform.isfinite().all()


def test_parts_compute_on_the_device_alone_and_leave_it_after_an_error(
    demo_model, features, references
) -> None:
    with staged(demo_model) as (model, policy):
        for loss in ("mel", "latent"):
            found, _ = search(model, features, references, loss=loss)
            assert found.history and policy.active == []

        def fail(progress: Progress) -> None:
            raise OSError("stop")

        with pytest.raises(OSError, match="stop"):
            find_noise(model, features, load_sounds(references), QUICK, SHORT, on_progress=fail)
        assert policy.active == [] and any(part is model.vae for part in policy.seen)


def test_it_runs_in_bfloat16_and_under_inference_mode(features, references) -> None:
    model = load_model("demo_16k", device="cpu", precision="bf16")
    with torch.inference_mode():  # as ComfyUI runs its nodes
        found, _ = search(model, features, references)
    assert math.isfinite(found.after) and found.noise.dtype == torch.float32


def test_files_recipe_and_replay(demo_model, clip, references, tmp_path) -> None:
    result = run_ditto(
        load_model("demo_16k", device="cpu", precision="fp32"),
        clip,
        tmp_path / "out.wav",
        references,
        QUICK,
        FeatureOptions(prompt="ball"),
        SHORT,
        figure=tmp_path / "loss.png",
    )
    assert [path.name for path in result.outputs] == ["out.wav", "out.wav.noise.safetensors"]
    recipe = json.loads((tmp_path / "out.wav.json").read_text())
    told = recipe["ditto"]
    assert told["options"]["n_opt_steps"] == 3 and set(told["references"]) == {"a", "b"}
    assert told["style_loss_after"] <= told["style_loss_before"]
    assert read_noise(tmp_path / "out.wav.noise.safetensors").shape == (32, 20)
    assert (tmp_path / "loss.png").stat().st_size > 1000
    again = replay(tmp_path / "out.wav", tmp_path / "again.wav").outputs[0]
    assert again.read_bytes() == (tmp_path / "out.wav").read_bytes()


def test_references_that_are_not_there_are_said(demo_model, features, tmp_path) -> None:
    with pytest.raises(MissingFileError, match="no folder"):
        ditto(demo_model, features, tmp_path / "none", QUICK, SHORT)
    with pytest.raises(MissingFileError, match="holds no sound"):
        ditto(demo_model, features, tmp_path, QUICK, SHORT)


def test_the_command_writes_what_the_library_does(demo_model, clip, references, tmp_path, capsys) -> None:
    command = f"ditto {clip} --reference-dir {references} -p ball -o {tmp_path}/c.wav --steps 2 --json"
    quick = "--n-opt-steps 3 --n_ode_steps 2 --check-every 3 --no-normalize"
    on_demo = "--variant demo_16k --precision fp32 --device cpu"
    assert selva(f"{command} {quick} {on_demo}".split()) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["ditto"]["status"] == "done"
    run_ditto(demo_model, clip, tmp_path / "l.wav", references, QUICK, FeatureOptions(prompt="ball"), SHORT)
    assert (tmp_path / "l.wav").read_bytes() == (tmp_path / "c.wav").read_bytes()
