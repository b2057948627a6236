"""Recorded steps: what a replay gives is what the step gives, and nothing is recorded that must not be."""

import gc
import logging
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.speed.launches import as_on_a_gpu, launched
from benchmarks.speed.tape import Tape
from selva_audio import graphs
from selva_audio.adapters import inject, trainable_parameters
from selva_audio.bundle import SelVAModel, load_model
from selva_audio.features import encode_video
from selva_audio.flow.steering import Steering, SteeringVectors, block_paths
from selva_audio.graphs import Replayed, forget
from selva_audio.options import AdapterOptions, FeatureOptions, GenerateOptions, SteeringOptions
from selva_audio.records import Frames
from selva_audio.synthesis import decode_latents, encode_prompts, sample_latents


class Layer(nn.Module):
    """Adds up products; ``calls`` counts how often its Python ran."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.calls = 0

    def step(self, x: Tensor, t: Tensor, shift: Tensor, *, scale: float = 1.0) -> Tensor:
        self.calls += 1
        return scale * self.linear(x) * t[:, None] + shift


@pytest.fixture
def tape(monkeypatch) -> Tape:
    tape = Tape()
    monkeypatch.setattr(graphs, "_recorder", tape)
    return tape


@pytest.fixture
def layer() -> Layer:
    torch.manual_seed(0)
    return Layer().requires_grad_(False)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def arguments(seed: int) -> tuple[Tensor, Tensor]:
    return numbers(seed, 3, 4), numbers(seed + 100, 3)


@torch.no_grad()
def test_the_first_call_runs_the_second_is_recorded_and_later_ones_are_replayed(tape, layer):
    shift = numbers(7, 4)
    step = Replayed(layer, Layer.step, shift, scale=0.5)
    ran = []
    for seed in range(5):
        x, t = arguments(seed)
        expected = layer.step(x, t, shift, scale=0.5)
        layer.calls = 0
        assert torch.equal(step(x, t), expected)
        ran.append(layer.calls)
    assert ran == [1, 2, 0, 0, 0]
    assert tape.replays == 4  # one of them to compare with


@torch.no_grad()
def test_results_are_not_written_over_by_the_next_call(tape, layer):
    step = Replayed(layer, Layer.step, numbers(7, 4))
    made = [step(*arguments(seed)) for seed in range(6)]
    assert all(
        torch.equal(each, layer.step(*arguments(seed), numbers(7, 4))) for seed, each in enumerate(made)
    )


@torch.no_grad()
def test_two_clips_in_turn_keep_their_own_fixed_tensors(tape, layer):
    shifts = [numbers(seed, 4) for seed in (7, 8)]
    steps = [Replayed(layer, Layer.step, shift) for shift in shifts]
    for seed in range(4):
        for step, shift in zip(steps, shifts, strict=True):
            assert torch.equal(step(*arguments(seed)), layer.step(*arguments(seed), shift))
    assert len(tape.operations) == 1


@torch.no_grad()
def test_other_shapes_settings_and_calls_have_recordings_of_their_own(tape, layer):
    shift = numbers(7, 4)

    def other(layer: Layer, x: Tensor, t: Tensor, shift: Tensor, *, scale: float = 1.0) -> Tensor:
        return -layer.step(x, t, shift, scale=scale)

    for _ in range(3):
        for call, scale, count in (
            (Layer.step, 1.0, 3),
            (Layer.step, 2.0, 3),
            (other, 1.0, 3),
            (other, 1.0, 2),
        ):
            x, t = numbers(1, count, 4), numbers(2, count)
            found = Replayed(layer, call, shift, scale=scale)(x, t)
            assert torch.equal(found, call(layer, x, t, shift, scale=scale))
    assert len(tape.operations) == 4


@torch.no_grad()
def test_new_values_in_the_weights_are_seen_and_new_places_make_a_new_recording(tape, layer):
    shift = numbers(7, 4)
    step = Replayed(layer, Layer.step, shift)
    for seed in range(3):
        step(*arguments(seed))
    layer.linear.weight.mul_(2)
    assert torch.equal(step(*arguments(9)), layer.step(*arguments(9), shift))
    layer.linear.weight.data = layer.linear.weight * 3
    moved = Replayed(layer, Layer.step, shift)
    for seed in range(3):
        assert torch.equal(moved(*arguments(seed)), layer.step(*arguments(seed), shift))
    assert len(tape.operations) == 2


def test_nothing_is_recorded_where_gradients_are_asked_for(tape, layer):
    x = numbers(1, 3, 4).requires_grad_()
    step = Replayed(layer, Layer.step, numbers(7, 4))
    for _ in range(3):
        step(x, numbers(2, 3)).sum().backward()
    assert x.grad is not None and not tape.operations


@torch.no_grad()
def test_a_module_with_hooks_is_left_as_it_is(tape, layer):
    heard = []
    layer.linear.register_forward_hook(lambda *_: heard.append(1))
    step = Replayed(layer, Layer.step, numbers(7, 4))
    for seed in range(4):
        step(*arguments(seed))
    assert len(heard) == 4 and not tape.operations


def test_what_was_recorded_in_inference_mode_is_replayed_outside_it(tape, layer):
    step = Replayed(layer, Layer.step, numbers(7, 4))
    with torch.inference_mode():
        for seed in range(3):
            step(*arguments(seed))
    with torch.no_grad():
        assert torch.equal(step(*arguments(5)), layer.step(*arguments(5), numbers(7, 4)))
    assert len(tape.operations) == 1


@torch.no_grad()
def test_a_step_that_waits_for_a_value_is_told_once_and_runs_as_it_is(tape, layer, caplog):
    def waiting(layer: Layer, x: Tensor) -> Tensor:
        return x * float(x.sum())

    step = Replayed(layer, waiting)
    with caplog.at_level(logging.WARNING):
        for seed in range(4):
            x = numbers(seed, 3)
            assert torch.equal(step(x), waiting(layer, x))
    assert [record.getMessage().startswith("A step could not be recorded") for record in caplog.records] == [
        True
    ]


@torch.no_grad()
def test_a_recording_that_gives_other_values_is_told_once_and_not_used(tape, layer, caplog, monkeypatch):
    record = tape.record

    def wrong(run, x):
        result, replay = record(run, x)
        return result, lambda: (replay(), result.mul_(1.01))

    monkeypatch.setattr(tape, "record", wrong)
    step = Replayed(layer, Layer.step, numbers(7, 4))
    with caplog.at_level(logging.WARNING):
        for seed in range(4):
            assert torch.equal(step(*arguments(seed)), layer.step(*arguments(seed), numbers(7, 4)))
    assert ["off, with" in record.getMessage() for record in caplog.records] == [True]


@torch.no_grad()
def test_few_are_kept_and_a_forgotten_or_dead_module_lets_go_of_its_memory(tape, layer):
    step = Replayed(layer, Layer.step, numbers(7, 4))
    for count in range(1, 12):
        for _ in range(2):
            step(numbers(1, count, 4), numbers(2, count))
    recordings = graphs._known[layer]
    assert len(recordings._kept) == 4
    recordings = weakref.ref(recordings)
    forget(layer)
    del step
    gc.collect()
    assert recordings() is None
    Replayed(layer, Layer.step, numbers(7, 4))(*arguments(1))
    assert layer in graphs._known
    count = len(graphs._known)
    layer = None
    gc.collect()
    assert len(graphs._known) <= count


def test_without_a_gpu_every_step_runs_as_it_is(layer):
    with torch.no_grad():
        step = Replayed(layer, Layer.step, numbers(7, 4))
        for seed in range(4):
            step(*arguments(seed))
    assert layer.calls == 4


def test_cuda_graphs_are_for_a_gpu_and_can_be_switched_off(monkeypatch):
    recorder, x = graphs.CudaGraphs(), torch.zeros(1)
    assert not recorder.takes(x)
    monkeypatch.setattr(graphs, "can_record", lambda x: True)
    assert recorder.takes(x)
    monkeypatch.setenv("SELVA_CUDA_GRAPHS", "off")
    assert not recorder.takes(x)


# The whole job


@pytest.fixture(scope="module")
def model() -> SelVAModel:
    """As a GPU would have it: parts stay."""
    return load_model("demo_16k", device="cpu", precision="fp32", offload="keep_in_vram")


@pytest.fixture(scope="module")
def adapted(model) -> SelVAModel:
    options = AdapterOptions.parse(rank=3)
    generator, _ = inject(model.generator, options)
    random = torch.Generator().manual_seed(1)
    for parameter in trainable_parameters(generator).values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=random)
    return model.replace(generator=generator.requires_grad_(False))


def frames(model: SelVAModel, seed: int, seconds: float) -> Frames:
    size, count = model.config.video_encoder.image_size, round(25 * seconds)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return Frames(pixels, np.arange(count) / 25 + 1e-6)


@torch.no_grad()
def sounds(model: SelVAModel, video: Frames, seed: int, **options) -> list[Tensor]:
    """Sync features, latents and waveform of each take, as one list."""
    features = encode_video(model, video, FeatureOptions(prompt=f"ball {seed % 2}"))
    text = encode_prompts(model, features.prompt)
    settings = GenerateOptions(**{"steps": 3, "seed": seed} | options)
    latents = sample_latents(model, features, text, settings, duration=features.duration)
    return [features.sync, *latents, decode_latents(model, latents, duration=features.duration)]


@pytest.mark.parametrize(
    "options", [{}, {"cfg_strength": 0.5}, {"solver": "heun"}, {"takes": 2}], ids=lambda each: str([*each])
)
@pytest.mark.parametrize("kind", ["model", "adapted"])
def test_sounds_are_to_the_bit_those_of_the_steps_as_they_are(kind, options, request):
    model = request.getfixturevalue(kind)
    clips = [frames(model, seed, 1.2) for seed in range(4)]
    with as_on_a_gpu(None):
        expected = [sounds(model, clip, seed, **options) for seed, clip in enumerate(clips)]
    tape = Tape()
    with as_on_a_gpu(tape):
        found = [sounds(model, clip, seed, **options) for seed, clip in enumerate(clips)]
    assert tape.operations and tape.replays > len(tape.operations)
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_a_step_is_a_few_launches_once_it_is_recorded(model):
    video = frames(model, 0, 1.2)

    def launches(steps: int) -> int:
        return launched(lambda: sounds(model, video, 0, steps=steps))

    with as_on_a_gpu(Tape()):
        first, *_, later = (launches(25) for _ in range(3))
        assert (launches(45) - later) / 20 <= 10
    with as_on_a_gpu(None):
        plain = launches(25)
    assert later < first < plain / 3
    assert later < plain / 10


def test_a_steered_generator_is_not_recorded(model):
    width = model.config.generator.hidden_dim
    vectors = {path: torch.ones(1, 1, width) for path in block_paths(model.generator)}
    options = SteeringOptions(steering_strength=0.1)
    steered = model.with_inputs(steering=Steering(SteeringVectors(vectors), options))
    video = frames(model, 0, 1.2)
    with as_on_a_gpu(None):
        expected = [sounds(steered, video, seed) for seed in range(3)]
    with as_on_a_gpu(Tape()):
        found = [sounds(steered, video, seed) for seed in range(3)]
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    assert not torch.equal(found[0][1], sounds(model, video, 0)[1])


@torch.no_grad()
def test_parts_that_visit_the_gpu_leave_no_recording_behind(model):
    visiting = SelVAModel(model.config, replace(model.policy, staged=True), model._parts)
    with as_on_a_gpu(Tape()):
        for seed in range(3):
            sounds(visiting, frames(model, seed, 1.2), seed)
        kept = [
            part for part in (model.generator, model.video_encoder, model.vocoder) if part in graphs._known
        ]
    assert kept == []


@torch.no_grad()
def test_parts_that_make_room_leave_no_recording_behind(model):
    making_room = SelVAModel(model.config, replace(model.policy, device="cuda", staged=True), model._parts)
    with as_on_a_gpu(Tape()):
        for seed in range(3):
            sounds(model, frames(model, seed, 1.2), seed)
        assert {model.generator, model.vocoder} <= set(graphs._known)
        with making_room.aside("vocoder"):
            assert model.generator not in graphs._known and model.vocoder in graphs._known
