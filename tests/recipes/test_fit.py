from dataclasses import replace

import numpy as np
import pytest
import torch

from recipes.demo_model import clip, encoder, generator, vae, vocoder
from recipes.demo_model.features import Pairs
from recipes.demo_model.fit import Plan, fit, learning_rate
from recipes.demo_model.stages import STAGES as RECIPE


def toy_generator():
    config = generator.CONFIG.generator
    noise = torch.Generator().manual_seed(0)
    pairs = Pairs(
        *(
            torch.randn(2, length, width, generator=noise).half()
            for length, width in ((250, config.latent_dim), (192, config.sync_dim), (64, config.clip_dim))
        ),
        prompts=["wood", "metal"],
    )
    text = {key: torch.randn(77, config.text_dim, generator=noise) for key in ("", "wood", "metal")}
    return generator.GeneratorStage(pairs, text, batch=1)


def toy_refine():
    return encoder.EncoderStage(segments=2, start=encoder.EncoderStage(segments=2).module.state_dict())


def toy_polish():
    start = vocoder.VocoderStage(None).module.state_dict()
    return vocoder.VocoderStage(None, start=start, batch=1, frames=18)


STAGES = {
    "refine": (encoder.REFINE_PLAN, toy_refine),
    "vae": (vae.PLAN, lambda: vae.VAEStage(batch=2, frames=16)),
    "encoder": (encoder.PLAN, lambda: encoder.EncoderStage(segments=2, steps=3)),
    "clip": (clip.PLAN, lambda: clip.CLIPStage(frames=4)),
    "generator": (generator.PLAN, toy_generator),
    "vocoder": (vocoder.PLAN, lambda: vocoder.VocoderStage(None, batch=1, frames=18)),
    "polish": (vocoder.POLISH_PLAN, toy_polish),
}


@pytest.mark.parametrize("steps", [3, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", STAGES)
def test_a_stage_that_was_killed_and_resumed_equals_one_that_was_not(name, steps, tmp_path):
    plan, build = STAGES[name]
    plan = replace(plan, steps=steps)
    whole = fit(name, build, plan, tmp_path / "whole", seed=1)
    fit(name, build, plan, tmp_path / "killed", seed=1, stop_after=2 * steps // 3)
    resumed = fit(name, build, plan, tmp_path / "killed", seed=1)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_the_recipe_names_every_stage_that_is_tested():
    assert set(STAGES) == set(RECIPE)


def test_another_seed_gives_other_weights(tmp_path):
    plan, build = STAGES["vae"]
    first, second = (
        fit("vae", build, replace(plan, steps=1), tmp_path / str(seed), seed=seed) for seed in range(2)
    )
    assert not torch.equal(first["decoder.conv_in.weight"], second["decoder.conv_in.weight"])


def test_a_finished_stage_takes_no_further_step(tmp_path):
    plan, build = STAGES["vae"]
    done = fit("vae", build, replace(plan, steps=1), tmp_path, seed=0)
    again = fit("vae", build, replace(plan, steps=1), tmp_path, seed=0)
    assert all(torch.equal(done[key], again[key]) for key in done)


def test_learning_rate_rises_stays_and_falls_to_zero():
    plan = Plan(steps=1000, learning_rate=2.0, warmup=100)
    rates = np.array([learning_rate(plan, step) for step in range(1000)])
    assert np.all(np.diff(rates[:100]) > 0) and np.allclose(rates[100:500], 2.0)
    assert np.all(np.diff(rates[501:]) < 0) and rates[-1] < 1e-4
