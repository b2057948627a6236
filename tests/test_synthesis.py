import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from selva_audio import synthesis
from selva_audio.bundle import SelVAModel, load_model
from selva_audio.configs import num_segments
from selva_audio.errors import GenerationError, InputError
from selva_audio.features import VideoFeatures
from selva_audio.flow import latent_noise
from selva_audio.flow.steering import Steering, SteeringVectors, block_paths
from selva_audio.flow.windows import plan_windows
from selva_audio.options import GenerateOptions, SteeringOptions
from selva_audio.progress import Cancelled, Progress
from selva_audio.synthesis import decode_latents, encode_prompts, sample_latents, window_conditions


def make_features(model: SelVAModel, duration: float, seed: int = 0) -> VideoFeatures:
    """Noise of the right widths and lengths."""
    noise = torch.Generator().manual_seed(seed)
    config = model.config.generator
    return VideoFeatures(
        torch.randn(1, max(int(duration * 8), 1), config.clip_dim, generator=noise),
        torch.randn(1, 8 * num_segments(duration), config.sync_dim, generator=noise),
        prompt="dog",
        duration=duration,
    )


@torch.no_grad()
def latents_of(
    model: SelVAModel, features: VideoFeatures, *, negative: str = "", duration: float = 0.0, **options
) -> list[Tensor]:
    return sample_latents(
        model,
        features,
        encode_prompts(model, features.prompt, negative),
        GenerateOptions(**{"steps": 2} | options),
        duration=duration or features.duration,
    )


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """First argument of every call of ``module`` inside the block."""
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].clone()))
    try:
        yield seen
    finally:
        hook.remove()


def with_nan(module: nn.Module) -> nn.Module:
    broken = copy.deepcopy(module)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    return broken


def test_a_long_clip_has_its_exact_length_and_no_call_longer_than_a_window(demo_model: SelVAModel) -> None:
    model, duration = demo_model, 20.0
    features = make_features(model, duration)
    with (
        inputs_of(model.generator.audio_input_proj) as to_generator,
        inputs_of(model.vae.decoder.conv_in) as to_vae,
        inputs_of(model.vocoder) as to_vocoder,
        torch.no_grad(),
    ):
        latents = latents_of(model, features, steps=1)
        waveform = decode_latents(model, latents, duration=duration)
    assert latents[0].shape == (1, 625, 20)
    assert waveform.shape == (1, 1, 320_000)
    window = model.config.lengths(8.32).latent
    assert max(each.shape[1] for each in to_generator) <= window
    assert max(each.shape[-1] for each in to_vae) <= window
    assert len(to_vocoder) == 3
    assert max(each.shape[-1] for each in to_vocoder) <= 500 + 2 * model.vocoder.receptive_field


def test_each_window_starts_from_the_noise_of_its_absolute_time(demo_model: SelVAModel) -> None:
    features = make_features(demo_model, 18.0)
    with inputs_of(demo_model.generator.audio_input_proj) as seen:
        latents_of(demo_model, features, steps=1, cfg_strength=0, seed=5, takes=2)
    windows = plan_windows(18.0, demo_model.config)
    assert len(windows) == 3
    expected = [latent_noise(5, take, each.first, each.stop, 20) for each in windows for take in range(2)]
    assert all(torch.equal(got[0], noise) for got, noise in zip(seen, expected, strict=True))


def test_a_window_sees_the_feature_rows_of_its_time(demo_model: SelVAModel) -> None:
    model, duration = demo_model, 18.0
    features = make_features(model, duration)
    text = encode_prompts(model, "dog")
    for window in plan_windows(duration, model.config):
        with (
            inputs_of(model.generator.sync_input_proj) as sync,
            inputs_of(model.generator.clip_input_proj) as clip,
        ):
            window_conditions(model, features, text, GenerateOptions(), window)
        lengths = model.config.lengths(window.duration)
        first, first_clip = round(window.start * 25), round(window.start * 8)
        position = model.generator.sync_pos_emb.flatten(0, 2).repeat(lengths.segments, 1)
        rows = features.sync[:, first : first + lengths.sync]
        assert rows.shape[1] == lengths.sync
        torch.testing.assert_close(sync[0], rows + position)
        torch.testing.assert_close(clip[0], features.clip[:, first_clip : first_clip + lengths.clip])


def test_a_shorter_duration_keeps_the_time_of_every_event(demo_model: SelVAModel) -> None:
    features = make_features(demo_model, 6.0)
    text, options = encode_prompts(demo_model, "dog"), GenerateOptions()
    (whole,), (part,) = plan_windows(6.0, demo_model.config), plan_windows(3.0, demo_model.config)
    long, _ = window_conditions(demo_model, features, text, options, whole)
    short, _ = window_conditions(demo_model, features, text, options, part)
    # The convolutions reach over the cut; everything before is the same token at the same time.
    settled = part.num_latents - 25
    torch.testing.assert_close(short.sync[:, :settled], long.sync[:, :settled])


def test_a_take_of_a_batch_is_the_take_alone_and_that_of_the_next_seed(demo_model: SelVAModel) -> None:
    features = make_features(demo_model, 9.0)
    batch = latents_of(demo_model, features, seed=7, takes=3)
    assert not torch.equal(batch[0], batch[1])
    for take in range(3):
        (alone,) = latents_of(demo_model, features, seed=7 + take)
        assert torch.equal(alone, batch[take])
    with torch.no_grad():
        sound = decode_latents(demo_model, batch, duration=9.0)
        assert torch.equal(decode_latents(demo_model, batch[2:], duration=9.0)[0], sound[2])


@pytest.mark.parametrize("steered", [False, True])
def test_takes_and_windows_sampled_at_once_are_those_sampled_alone(
    demo_model: SelVAModel, monkeypatch: pytest.MonkeyPatch, steered: bool
) -> None:
    model, features = demo_model, make_features(demo_model, 18.0)
    if steered:
        noise = torch.Generator().manual_seed(1)
        width = model.config.generator.hidden_dim
        vectors = {path: torch.randn(1, 1, width, generator=noise) for path in block_paths(model.generator)}
        options = SteeringOptions(steering_strength=0.1, steering_branch="cond")
        model = model.with_inputs(steering=Steering(SteeringVectors(vectors), options))
    wish = {"takes": 2, "steps": 2, "negative": "wind", "clip_conditioning": "on"}
    alone = latents_of(model, features, **wish)
    seen: list[Progress] = []
    for size, batches in ((2, [2, 2, 2]), (3, [3, 1, 2]), (16, [4, 2])):
        monkeypatch.setattr(synthesis, "_ITEMS_ON_CPU", size)
        with inputs_of(model.generator.audio_input_proj) as calls:
            together = latents_of(model, features, **wish)
        # Two windows of eight seconds and a shorter one, each for two takes and in two steps.
        assert [len(each) for each in calls] == [each for each in batches for _ in range(2)]
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    text = encode_prompts(model, "dog")
    with torch.no_grad():
        sample_latents(
            model,
            features,
            text,
            GenerateOptions(steps=2, takes=2),
            duration=18.0,
            on_progress=seen.append,
        )
    assert [(each.step, each.total) for each in seen] == [(4, 12), (8, 12), (10, 12), (12, 12)]
    assert seen[0].preview().shape == (model.config.mel.num_mels, 500)


def test_prompts_are_read_once_and_their_text_is_what_it_was() -> None:
    model = load_model("demo_16k", device="cpu", precision="fp32")
    other = load_model("demo_16k", device="cpu", precision="fp32")
    asked = [("dog", ""), ("dog", "wind"), ("wind", ""), ("dog", "")]
    with torch.no_grad(), inputs_of(model.clip.text_model.final_layer_norm) as read:
        found = [encode_prompts(model, *prompts) for prompts in asked]
        shared = encode_prompts(model.replace(generator=model.generator), "dog")
    assert [len(each) for each in read] == [1, 2, 1]
    assert shared.prompt.data_ptr() == found[0].prompt.data_ptr()
    for prompts, text in zip(asked, found, strict=True):
        plain = other.clip.encode_text([each for each in prompts if each])
        assert torch.equal(text.prompt, plain[:1])
        assert (text.negative is None) == (not prompts[1])
        assert text.negative is None or torch.equal(text.negative, plain[1:])
    with torch.no_grad(), inputs_of(other.clip.text_model.final_layer_norm) as read:
        encode_prompts(model.replace(clip=other.clip), "dog")
    assert len(read) == 1, "the text of other weights is another text"


def test_the_empty_conditions_are_made_once_for_equal_lengths() -> None:
    model = load_model("demo_16k", device="cpu", precision="fp32")
    with torch.no_grad(), inputs_of(model.generator.sync_input_proj) as made:
        first, again, _ = (latents_of(model, make_features(model, 1.0, seed)) for seed in (0, 0, 1))
        assert len(made) == 1 + 3
        latents_of(model, make_features(model, 2.0))
        assert len(made) == 1 + 3 + 2
        latents_of(model, make_features(model, 2.0), negative="wind")
        assert len(made) == 1 + 3 + 2 + 2
    assert torch.equal(first[0], again[0])


@pytest.mark.parametrize(
    "changed",
    [
        {"negative": "wind"},
        {"cfg_strength": 2.0},
        {"cfg_strength": 0.0},
        {"steps": 3},
        {"seed": 1},
        {"solver": "midpoint"},
        {"solver": "heun"},
        {"clip_conditioning": "off"},
    ],
    ids=str,
)
def test_every_sampling_option_changes_the_latents(demo_model: SelVAModel, changed: dict) -> None:
    features = make_features(demo_model, 1.0)
    (usual,), (other,) = latents_of(demo_model, features), latents_of(demo_model, features, **changed)
    assert (usual - other).abs().max() > 1e-4 * usual.abs().max()


def test_midpoint_and_heun_call_the_generator_twice_a_step(demo_model: SelVAModel) -> None:
    features = make_features(demo_model, 1.0)
    calls = {}
    for solver in ("euler", "midpoint", "heun"):
        with inputs_of(demo_model.generator.audio_input_proj) as seen:
            latents_of(demo_model, features, steps=3, solver=solver)
        calls[solver] = len(seen)
    assert calls == {"euler": 3, "midpoint": 6, "heun": 6}


def test_guidance_under_one_is_the_conditional_branch_alone(demo_model: SelVAModel) -> None:
    features = make_features(demo_model, 1.0)
    with inputs_of(demo_model.generator.audio_input_proj) as seen:
        results = [latents_of(demo_model, features, cfg_strength=w)[0] for w in (0.0, 0.99)]
    assert torch.equal(*results)
    assert {len(each) for each in seen} == {1}
    (at_one,) = latents_of(demo_model, features, cfg_strength=1.0)
    torch.testing.assert_close(at_one, results[0], rtol=1e-3, atol=1e-4)


def test_features_of_another_variant_are_refused_by_width(demo_model: SelVAModel) -> None:
    good = make_features(demo_model, 1.0)
    wide_sync = VideoFeatures(good.clip, torch.zeros(1, 16, 768), duration=1.0)
    wide_clip = VideoFeatures(torch.zeros(1, 8, 1024), good.sync, duration=1.0)
    with pytest.raises(InputError, match="sync features are 768 wide, but demo_16k takes 96"):
        latents_of(demo_model, wide_sync)
    with pytest.raises(InputError, match="CLIP features are 1024 wide, but demo_16k takes 64"):
        latents_of(demo_model, wide_clip)


def test_features_of_several_videos_are_refused(demo_model: SelVAModel) -> None:
    good = make_features(demo_model, 1.0)
    two = VideoFeatures(good.clip.repeat(2, 1, 1), good.sync.repeat(2, 1, 1), duration=1.0)
    with pytest.raises(InputError, match="hold 2 videos"):
        latents_of(demo_model, two)


def test_clip_conditioning_without_clip_rows_is_refused_unless_auto(demo_model: SelVAModel) -> None:
    good = make_features(demo_model, 1.0)
    bare = VideoFeatures(torch.zeros(1, 0, 64), good.sync, prompt="dog", duration=1.0)
    with pytest.raises(InputError, match="clip_conditioning is on, but the features hold no CLIP frames"):
        latents_of(demo_model, bare, clip_conditioning="on")
    (auto,), (off,) = (latents_of(demo_model, bare, clip_conditioning=each) for each in ("auto", "off"))
    assert torch.equal(auto, off)


def test_auto_follows_how_the_variant_was_trained(demo_model: SelVAModel) -> None:
    features = make_features(demo_model, 1.0)
    modes = {
        mode: latents_of(demo_model, features, clip_conditioning=mode)[0] for mode in ("auto", "on", "off")
    }
    trained = "on" if demo_model.config.clip_conditioning else "off"
    assert torch.equal(modes["auto"], modes[trained])
    assert not torch.equal(modes["on"], modes["off"])


def test_values_that_are_not_finite_are_an_error(demo_model: SelVAModel) -> None:
    features = make_features(demo_model, 1.0)
    with pytest.raises(GenerationError, match=r"not finite .*Nothing was written"):
        latents_of(demo_model.replace(generator=with_nan(demo_model.generator)), features)
    latents = latents_of(demo_model, features)
    broken = demo_model.replace(vocoder=with_nan(demo_model.vocoder))
    with pytest.raises(GenerationError, match="vocoder"), torch.no_grad():
        decode_latents(broken, latents, duration=1.0)


def test_progress_counts_every_step_and_cancels_within_one(demo_model: SelVAModel) -> None:
    features, text = make_features(demo_model, 9.0), encode_prompts(demo_model, "dog")
    options = GenerateOptions(steps=3, takes=2)
    seen: list[Progress] = []
    with torch.no_grad():
        sample_latents(demo_model, features, text, options, duration=9.0, on_progress=seen.append)
    assert [(each.step, each.total) for each in seen] == [(k, 12) for k in range(1, 13)]

    def cancel_at_two(progress: Progress) -> None:
        if progress.step == 2:
            raise Cancelled

    with (
        inputs_of(demo_model.generator.audio_input_proj) as calls,
        pytest.raises(Cancelled),
        torch.no_grad(),
    ):
        sample_latents(demo_model, features, text, options, duration=9.0, on_progress=cancel_at_two)
    assert len(calls) == 2


def test_decoding_reports_from_nothing_to_all(demo_model: SelVAModel) -> None:
    latents = latents_of(demo_model, make_features(demo_model, 9.0), steps=1)
    seen: list[Progress] = []
    with torch.no_grad():
        decode_latents(demo_model, latents, duration=9.0, on_progress=seen.append)
    shares = [each.step / each.total for each in seen]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert "vocoding" in {each.stage for each in seen}


_PEAK = """
import sys, torch
from peak import peak_bytes
torch.set_num_threads(1)
from selva_audio.bundle import load_model
from selva_audio.features import VideoFeatures
from selva_audio.options import GenerateOptions
from selva_audio.tasks.generate import generate
model, duration = load_model("demo_16k", device="cpu", precision="fp32"), float(sys.argv[1])
rows = int((duration * 25 - 16) // 8 + 1) * 8
features = VideoFeatures(torch.randn(1, int(8 * duration), 64), torch.randn(1, rows, 96), duration=duration)
generate(model, features, GenerateOptions(steps=1, normalize=False))
print(peak_bytes())
"""


@pytest.mark.slow
def test_memory_is_flat_in_the_length() -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}  # for peak.py
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", _PEAK, str(seconds)], env=env).split()[-1])
        for seconds in (20, 240)
    ]
    # Runs differ by some 50 MB; the activations of 220 more seconds would be gigabytes.
    assert peaks[1] - peaks[0] < 150e6, peaks
