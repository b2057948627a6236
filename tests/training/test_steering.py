import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from selva_audio.models.generator import Conditions
from selva_audio.options import SteeringExtractionOptions
from selva_audio.training.clips import Clips
from selva_audio.training.steering import RunningMean, find_directions, with_prompt

WIDTH, LATENTS, CHANNELS = 8, 12, 4
STYLE, OTHER = 1.0, 0.0


class ToyBlock(nn.Module):
    """Adds a direction in proportion to what the text says, and noise of the conditions."""

    def __init__(self, direction: Tensor | None, *, joint: bool) -> None:
        super().__init__()
        self.direction, self.joint = direction, joint

    def forward(self, x: Tensor, conditions: Conditions):
        x = x + 0.1 * torch.sin(x)
        if self.direction is not None:
            x = x + conditions.text.mean(dim=(1, 2))[:, None, None] * self.direction
            x = x + 0.02 * conditions.sync.mean(dim=(1, 2))[:, None, None]
        return (x, conditions.text) if self.joint else x


class Toy(nn.Module):
    """As much of a generator as the search needs; the style is a known direction after one block."""

    def __init__(self, direction: Tensor) -> None:
        super().__init__()
        self.project = nn.Linear(CHANNELS, WIDTH, bias=False)
        nn.init.orthogonal_(self.project.weight)
        self.joint_blocks = nn.ModuleList([ToyBlock(None, joint=True)])
        self.fused_blocks = nn.ModuleList([ToyBlock(direction, joint=False), ToyBlock(None, joint=False)])
        self.register_buffer("latent_mean", torch.zeros(1, 1, CHANNELS))
        self.register_buffer("latent_std", torch.ones(1, 1, CHANNELS))
        self.calls: list[Tensor] = []

    def conditions(self, clip: Tensor, sync: Tensor, text: Tensor, num_latents: int) -> Conditions:
        return Conditions(clip, sync, text, clip.mean(dim=1), text.mean(dim=1))

    def empty_clip(self, batch: int, count: int) -> Tensor:
        return torch.zeros(batch, count, 2)

    def empty_sync(self, batch: int, count: int) -> Tensor:
        return torch.zeros(batch, count, 2)

    def empty_text(self, batch: int) -> Tensor:
        return torch.zeros(batch, 3, 2)

    def velocity(self, latent: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        self.calls.append(latent)
        x = self.project(latent)
        for block in (*self.joint_blocks, *self.fused_blocks):
            out = block(x, conditions)
            x = out[0] if isinstance(out, tuple) else out
        return x


def make_clips(text: float, count: int = 6, seed: int = 0) -> Clips:
    random = torch.Generator().manual_seed(seed)
    valid = torch.ones(count, LATENTS, dtype=torch.bool)
    valid[:, 9:] = False
    return Clips(
        names=tuple(f"clip{index}" for index in range(count)),
        mean=torch.randn(count, LATENTS, CHANNELS, generator=random),
        std=torch.full((count, LATENTS, CHANNELS), 0.1),
        valid=valid,
        clip=torch.zeros(count, 4, 2),
        has_clip=torch.ones(count, dtype=torch.bool),
        sync=torch.randn(count, 8, 2, generator=random),
        text=torch.full((count, 3, 2), text),
        prompts=("style",) * count,
        recordings=("r",) * count,
        splits=("train",) * count,
        pad="zero",
        fingerprint="",
        encoded=0,
    )


@pytest.fixture(scope="module")
def direction() -> Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def toy(direction: Tensor) -> Toy:
    torch.manual_seed(0)
    return Toy(direction)


QUICK = SteeringExtractionOptions(n_samples=6, time_bins=4)


def found(toy: Toy, contrast: Clips | None, options: SteeringExtractionOptions = QUICK):
    return find_directions(toy, make_clips(STYLE), options, contrast=contrast)


@pytest.mark.parametrize("contrast", [None, make_clips(OTHER, seed=1)], ids=["empty", "other"])
def test_a_planted_direction_is_recovered(toy, direction, contrast) -> None:
    vectors = found(toy, contrast).vectors
    planted = vectors["fused_blocks.0"]
    assert planted.shape == (4, 1, WIDTH)
    assert functional.cosine_similarity(planted, direction.expand_as(planted), dim=-1).min() > 0.99
    # Before the block there is nothing to find.
    assert vectors["joint_blocks.0"].abs().max() < 1e-6


def test_a_style_against_itself_is_nothing_beside_one_against_another(toy) -> None:
    same, other = (
        found(toy, contrast).vectors["fused_blocks.0"].norm()
        for contrast in (make_clips(STYLE, seed=7), make_clips(OTHER, seed=1))
    )
    assert same < 0.05 * other


def test_both_sides_see_the_same_point_of_the_path(toy) -> None:
    toy.calls.clear()
    found(toy, make_clips(OTHER, seed=1))
    assert len(toy.calls) == 2 * QUICK.n_samples
    for style, other in zip(toy.calls[::2], toy.calls[1::2], strict=True):
        assert torch.equal(style, other) and len(style) == QUICK.time_bins
    # Close to the data at the end, close to noise at the start.
    clips = make_clips(STYLE).mean
    late = min(float((toy.calls[0][-1] - clip).norm()) for clip in clips)
    early = min(float((toy.calls[0][0] - clip).norm()) for clip in clips)
    assert late < early


def test_padding_is_left_out(toy) -> None:
    clips = make_clips(STYLE)
    clean = find_directions(toy, clips, QUICK).vectors
    dirty = replace(clips, mean=clips.mean + 5 * (~clips.valid)[..., None])
    again = find_directions(toy, dirty, QUICK).vectors
    assert all(torch.equal(clean[path], again[path]) for path in clean)


def test_nothing_is_left_in_the_generator(toy) -> None:
    before = {key: tensor.clone() for key, tensor in toy.state_dict().items()}
    found(toy, None)
    assert all(not module._forward_hooks for module in toy.modules())
    assert all(torch.equal(before[key], tensor) for key, tensor in toy.state_dict().items())


def test_the_report_tells_a_consistent_direction_from_noise(toy) -> None:
    report = found(toy, None).meta["report"]
    assert report["fused_blocks.0"]["consistency"] > 0.99
    assert report["fused_blocks.0"]["standard_error"] < 0.05
    assert 0 < report["fused_blocks.0"]["relative_norm"] < 10
    loose = find_directions(toy, make_clips(0.0, count=12), QUICK.model_copy(update={"n_samples": 12}))
    assert abs(loose.meta["report"]["fused_blocks.0"]["consistency"]) < 0.5


def test_one_sample_has_no_consistency(toy) -> None:
    report = found(toy, None, QUICK.model_copy(update={"n_samples": 1})).meta["report"]
    assert report["fused_blocks.0"]["consistency"] is None


@pytest.mark.parametrize("changed", [{"seed": 1}, {"n_samples": 3}, {"time_bins": 2}], ids=str)
def test_every_setting_changes_the_vectors(toy, changed) -> None:
    usual = found(toy, None).vectors["fused_blocks.1"]
    other = found(toy, None, QUICK.model_copy(update=changed)).vectors["fused_blocks.1"]
    assert usual.shape != other.shape or not torch.equal(usual, other)


def test_more_samples_than_clips_go_through_them_again(toy) -> None:
    options = QUICK.model_copy(update={"n_samples": 9})
    assert find_directions(toy, make_clips(STYLE, count=2), options).meta["n"] == 9


def test_a_prompt_takes_the_place_of_all(toy) -> None:
    clips = with_prompt(make_clips(STYLE), torch.zeros(1, 3, 2), "other")
    assert clips.text.shape == (6, 3, 2) and set(clips.prompts) == {"other"}
    assert find_directions(toy, clips, QUICK).vectors["fused_blocks.0"].norm() < 0.1


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_the_running_mean_is_the_mean(values: list[float]) -> None:
    running = RunningMean()
    for value in values:
        running.add(torch.tensor([value], dtype=torch.float64))
    expected = torch.tensor(values, dtype=torch.float64)
    assert float(running.mean) == pytest.approx(float(expected.mean()), rel=1e-9, abs=1e-6)
    error = float(expected.std()) / math.sqrt(len(values))
    assert running.standard_error == pytest.approx(error, rel=1e-6, abs=1e-6)
