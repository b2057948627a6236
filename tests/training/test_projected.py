import pytest
import torch

from selva_audio.training.projected import ProjectedConditions, leaves_projections_alone

LATENTS = 16


def features(generator, batch, seed=0):
    config, random = generator.config, torch.Generator().manual_seed(seed)
    shapes = ((5, config.clip_dim), (16, config.sync_dim), (config.text_length, config.text_dim))
    return [torch.randn(batch, *shape, generator=random) for shape in shapes]


def test_they_are_those_of_the_generator(generator):
    rows = features(generator, 3)
    known = ProjectedConditions(generator, LATENTS)
    found = known.of(["a", "b", "c"], lambda: rows)
    with torch.no_grad():
        expected = generator.conditions(*rows, LATENTS)
    for name in ("clip", "sync", "text", "clip_c", "text_c"):
        assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-5)
    assert torch.equal(found.groups, expected.groups)


def test_known_clips_are_not_asked_for_again_in_whatever_order(generator):
    rows = features(generator, 2)
    known = ProjectedConditions(generator, LATENTS)
    first = known.of(["a", "b"], lambda: rows)
    again = known.of(["b", "a", "b"], lambda: pytest.fail("both were known"))
    assert torch.equal(again.sync, first.sync[[1, 0, 1]])


def test_the_oldest_is_forgotten_first(generator, monkeypatch):
    monkeypatch.setattr("selva_audio.training.projected._MOST_KEPT", 2)
    asked = []

    def given():
        asked.append(1)
        return features(generator, 1)

    known = ProjectedConditions(generator, LATENTS)
    for key in ("a", "b", "a", "c", "a", "b"):
        known.of([key], given)
    assert len(asked) == 4  # a, b, c, and b again


@pytest.mark.parametrize(
    ("paths", "is_alone"),
    [
        (["joint_blocks.0.latent_block.attn.qkv", "final_layer.conv"], True),
        (["audio_input_proj.0"], True),
        (["joint_blocks.0.latent_block.attn.qkv", "sync_input_proj.0"], False),
        (["text_cond_proj"], False),
    ],
)
def test_adapters_of_a_projection_are_told_apart(paths, is_alone):
    assert leaves_projections_alone(paths) == is_alone
