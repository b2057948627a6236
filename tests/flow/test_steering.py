import pytest
import torch
from small_generator import LATENTS, make_generator
from torch import nn

from selva_audio.errors import CheckpointError, InputError
from selva_audio.flow import guided_velocity, sample_euler
from selva_audio.flow.steering import Steering, SteeringVectors, block_paths, check_steering_fits
from selva_audio.models.generator import Conditions, Generator
from selva_audio.options import SteeringOptions

WIDTH = 16
BLOCKS = ["joint_blocks.0", "joint_blocks.1", "fused_blocks.0"]


@pytest.fixture(scope="module")
def generator() -> Generator:
    return make_generator()


def conditions(generator: Generator, seed: int) -> Conditions:
    random = torch.Generator().manual_seed(seed)
    config = generator.config
    widths = (config.clip_dim, config.sync_dim, config.text_dim)
    rows = [torch.randn(1, n, w, generator=random) for n, w in zip((3, 8, 5), widths, strict=True)]
    return generator.conditions(*rows, LATENTS)


def vectors(seed: int = 0, *, bins: int = 1, positions: int = 1, **told) -> SteeringVectors:
    random = torch.Generator().manual_seed(seed)
    found = {path: torch.randn(bins, positions, WIDTH, generator=random) for path in BLOCKS}
    return SteeringVectors(found, tuple(k / bins for k in range(bins + 1)), **told)


def sample(generator: Generator, steering: Steering | None, *, guided: bool = True) -> torch.Tensor:
    x0 = torch.randn(1, LATENTS, 4, generator=torch.Generator().manual_seed(9))
    first, second = conditions(generator, 1), conditions(generator, 2)
    velocity = guided_velocity(generator, first, second, 3.0 if guided else 0.0)
    with torch.no_grad():
        if steering is None:
            return sample_euler(velocity, x0, 4)
        with steering.attached(generator, velocity, guided=guided) as steered:
            return sample_euler(steered, x0, 4)


def steered(strength: float = 0.3, found: SteeringVectors | None = None, **options) -> Steering:
    return Steering(found or vectors(), SteeringOptions(steering_strength=strength, **options))


def hooks_of(generator: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in generator.modules())


def test_blocks_are_named_in_the_order_of_the_stream(generator) -> None:
    assert block_paths(generator) == BLOCKS


def test_strength_zero_is_the_plain_sound_bit_for_bit(generator) -> None:
    for mode in ("raw", "relative"):
        assert torch.equal(sample(generator, steered(0.0, steering_mode=mode)), sample(generator, None))


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("mode", ["raw", "relative"])
@pytest.mark.parametrize("branch", ["both", "cond"])
def test_every_way_of_steering_changes_the_sound(generator, guided, mode, branch) -> None:
    made = sample(generator, steered(steering_mode=mode, steering_branch=branch), guided=guided)
    assert (made - sample(generator, None, guided=guided)).abs().max() > 1e-3


def test_hooks_are_gone_afterwards_and_after_an_error(generator) -> None:
    sample(generator, steered())
    assert hooks_of(generator) == 0
    with (
        pytest.raises(RuntimeError, match="on the way"),
        steered().attached(generator, lambda t, x: x, guided=True),
    ):
        assert hooks_of(generator) == len(BLOCKS)
        raise RuntimeError("on the way")
    assert hooks_of(generator) == 0


def test_no_hook_stays_where_a_block_is_not_there(generator) -> None:
    steering = steered(steering_blocks="1-3")
    with (
        pytest.raises(InputError, match="names block 3, but the generator has blocks 0 to 2"),
        steering.attached(generator, lambda t, x: x, guided=True),
    ):
        pass
    assert hooks_of(generator) == 0


def outputs(
    generator: Generator, steering: Steering, *, guided: bool, t: float = 0.5
) -> dict[str, torch.Tensor]:
    """Change of the latent stream after each block, when the block alone is steered: path -> (B, N, D)."""
    seen: dict[str, list[torch.Tensor]] = {}
    first, second = conditions(generator, 1), conditions(generator, 2)
    velocity = guided_velocity(generator, first, second, 3.0 if guided else 0.0)
    x = torch.randn(1, LATENTS, 4, generator=torch.Generator().manual_seed(9))

    def keep(path: str):
        def hook(module, inputs, output):
            seen.setdefault(path, []).append(output[0] if isinstance(output, tuple) else output)

        return hook

    for path in steering.paths(generator):
        block = generator.get_submodule(path)
        before = block.register_forward_hook(keep(path))
        with torch.no_grad(), steering.attached(generator, velocity, guided=guided) as at:
            after = block.register_forward_hook(keep(path))
            at(torch.tensor(t), x)
            after.remove()
        before.remove()
    return {path: (plain, moved) for path, (plain, moved) in seen.items()}


def test_raw_adds_the_vector_and_relative_a_share_of_the_activation(generator) -> None:
    for path in ("0", "1", "2"):
        raw = steered(0.5, steering_mode="raw", steering_blocks=path)
        ((plain, moved),) = outputs(generator, raw, guided=False).values()
        (name,) = raw.paths(generator)
        torch.testing.assert_close(moved - plain, (0.5 * raw.vectors.vectors[name][0]).expand_as(plain))
        relative = steered(0.5, steering_mode="relative", steering_blocks=path)
        ((plain, moved),) = outputs(generator, relative, guided=False).values()
        torch.testing.assert_close((moved - plain).norm(dim=-1), 0.5 * plain.norm(dim=-1))
        cosine = nn.functional.cosine_similarity(
            moved - plain, relative.vectors.vectors[name][0].expand_as(plain), dim=-1
        )
        assert cosine.min() > 0.999


def test_branch_cond_leaves_the_empty_branch(generator) -> None:
    for branch, touched in (("cond", [True, False]), ("both", [True, True])):
        steering = steered(steering_branch=branch, steering_blocks="1")
        ((plain, moved),) = outputs(generator, steering, guided=True).values()
        assert [bool((a != b).any()) for a, b in zip(plain, moved, strict=True)] == touched


def test_files_of_the_pack_are_raw_in_the_conditional_branch_unless_asked_otherwise(generator) -> None:
    found = vectors(is_of_pack=True)
    as_there = sample(generator, steered(found=found, steering_mode="raw", steering_branch="cond"))
    assert torch.equal(sample(generator, steered(found=found)), as_there)
    ours = sample(generator, steered(found=vectors()))
    expected = sample(generator, steered(found=found, steering_mode="relative", steering_branch="both"))
    assert torch.equal(ours, expected) and not torch.equal(ours, as_there)


def test_a_bin_of_time_holds_from_its_edge_to_the_next() -> None:
    found = vectors(bins=4)
    for t, expected in ((0.0, 0), (0.24, 0), (0.25, 1), (0.5, 2), (0.99, 3), (1.0, 3)):
        assert torch.equal(found.at(BLOCKS[0], t, LATENTS), found.vectors[BLOCKS[0]][expected])


def test_steps_of_a_sound_use_the_bins_of_their_times(generator) -> None:
    found = vectors(bins=2)
    late = {path: tensor * torch.tensor([0.0, 1.0])[:, None, None] for path, tensor in found.vectors.items()}
    steering = steered(found=SteeringVectors(late, found.edges), steering_mode="raw")
    for t, changed in ((0.25, False), (0.75, True)):
        ((plain, moved), *_) = outputs(generator, steering, guided=False, t=t).values()
        assert bool((plain != moved).any()) == changed


def test_positions_are_interpolated_linearly_in_time() -> None:
    ramp = torch.arange(4.0)[:, None].expand(4, WIDTH)
    found = SteeringVectors(dict.fromkeys(BLOCKS, ramp[None]))
    assert torch.equal(found.at(BLOCKS[0], 0.3, 4), ramp)
    stretched = found.at(BLOCKS[0], 0.3, 8)[:, 0]
    torch.testing.assert_close(stretched, torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]))


def test_block_ranges_choose_blocks(generator) -> None:
    assert steered(steering_blocks="0,2").paths(generator) == [BLOCKS[0], BLOCKS[2]]
    assert steered(steering_blocks="1-2").paths(generator) == BLOCKS[1:]
    made = {blocks: sample(generator, steered(steering_blocks=blocks)) for blocks in ("all", "0-2", "0", "2")}
    assert torch.equal(made["all"], made["0-2"])
    assert not torch.equal(made["0"], made["2"])


@pytest.mark.parametrize("text", ["", "1-", "a", "1,,2", "-1"])
def test_other_texts_are_no_blocks(text) -> None:
    with pytest.raises(InputError, match="ranges joined by commas"):
        SteeringOptions.parse(steering_blocks=text)


def test_vectors_of_another_generator_are_refused(generator) -> None:
    check_steering_fits(generator, vectors(), WIDTH)
    with pytest.raises(CheckpointError, match="3 blocks of width 16, and it has 3 of width 8"):
        check_steering_fits(generator, vectors(), 8)
    fewer = SteeringVectors({path: vectors().vectors[path] for path in BLOCKS[:2]}, variant="large_44k")
    with pytest.raises(CheckpointError, match=r"2 blocks .* found in large_44k"):
        check_steering_fits(generator, fewer, WIDTH)


def test_activations_in_half_precision_stay_so() -> None:
    steering = steered(steering_mode="relative")
    moved = steering._moved(torch.randn(1, LATENTS, WIDTH).bfloat16(), vectors().vectors[BLOCKS[0]][0])
    assert moved.dtype == torch.bfloat16
