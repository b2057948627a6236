import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from small_clips import make_clips, make_training, run
from small_generator import make_generator

from selva_audio.adapters import adapt, dense, read_adapter, select_targets
from selva_audio.configs import VARIANTS
from selva_audio.errors import InputError
from selva_audio.models.generator import Generator
from selva_audio.options import LoraOptions
from selva_audio.training.keyed import keyed
from selva_audio.training.lora import LoraTraining
from selva_audio.training.validation import paired_difference


def digest(*modules: torch.nn.Module) -> str:
    found = hashlib.sha256()
    for module in modules:
        for key, tensor in sorted(module.state_dict().items()):
            found.update(key.encode() + tensor.detach().float().numpy().tobytes())
    return found.hexdigest()


def step_loss(training: LoraTraining, step: int = 0) -> float:
    return sum(
        float(part.detach()) for part in training.loss(step, partial(keyed, training.options.seed, step))
    )


def trained(updates: int = 2, **settings) -> torch.Tensor:
    """All numbers of the adapter after some updates."""
    training = make_training(warmup_steps=0, **settings)
    optimizer = torch.optim.AdamW(training.parameters(0.05), weight_decay=0.0)
    for step in range(updates):
        optimizer.zero_grad()
        for part in training.loss(step, partial(keyed, training.options.seed, step)):
            part.backward()
        optimizer.step()
        training.constrain()
    state = training.state_dict(updates)["state_dict"]
    return torch.cat([state[key].flatten() for key in sorted(state)])


BASE = {"steps": 4, "batch_size": 4, "init_mode": "standard"}
CHANGES = [
    ({}, {"seed": 1}),
    ({}, {"alpha": 1.0}),
    ({}, {"lora_dropout": 0.3}),
    ({}, {"rank_dropout": 0.5}),
    ({}, {"module_dropout": 0.5}),
    ({}, {"lora_plus_ratio": 16.0}),
    ({}, {"max_norm": 0.01}),
    ({}, {"timestep_mode": "uniform"}),
    ({}, {"logit_normal_mean": 1.0}),
    ({}, {"logit_normal_sigma": 2.0}),
    ({}, {"stratified": False}),
    ({}, {"timestep_shift": 3.0}),
    ({"timestep_mode": "curriculum"}, {"curriculum_switch": 0.1}),
    ({}, {"weighting": "min_snr"}),
    ({"weighting": "min_snr"}, {"min_snr_gamma": 1.0}),
    ({}, {"huber_delta": 0.5}),
    ({}, {"latent_mode": "mode"}),
    ({}, {"loss_mask": "none"}),
    ({}, {"video_dropout": 0.9}),
    ({}, {"text_dropout": 0.9}),
    ({"video_dropout": 0.5, "text_dropout": 0.5}, {"uncond": "none"}),
    ({"video_dropout": 0.9, "text_dropout": 0.9}, {"uncond": "preserve"}),
    ({}, {"prior_preservation": 1.0}),
    ({}, {"latent_mixup_alpha": 0.4}),
    ({}, {"latent_noise_sigma": 0.1}),
    ({}, {"batch_size": 2}),
    ({}, {"grad_accum": 2}),
    ({}, {"use_rslora": True, "alpha": 4.0}),
    ({}, {"use_dora": True}),
    ({}, {"init_mode": "pissa"}),
    ({}, {"rank": 3}),
    ({}, {"target": "linear1"}),
]
# What is not of one step is tested where it is: settings of the loop in test_loop, of the data in test_clips
# and test_train, and what happens at the end of a training.
ELSEWHERE = {
    "steps": "test_files_are_named_as_users_know_them",
    "lr": "test_the_norm_of_a_change_stays_under_its_limit",
    "warmup_steps": "test_the_first_update_is_not_zero_and_schedules_count_updates",
    "lr_schedule": "test_the_first_update_is_not_zero_and_schedules_count_updates",
    "clip_norm": "test_settings_of_the_loop_change_what_comes_out",
    "ema_decay": "test_files_are_named_as_users_know_them",
    "save_every": "test_only_the_last_step_files_are_kept_where_that_is_asked",
    "keep_last": "test_only_the_last_step_files_are_kept_where_that_is_asked",
    "patience": "test_patience_ends_a_run_that_gets_no_better_and_the_best_is_kept",
    "min_delta": "test_settings_of_the_loop_change_what_comes_out",
    "grad_checkpoint": "test_recomputed_activations_give_the_same_gradient_to_the_bit",
    "pad": "test_the_fingerprint_follows_whatever_is_trained_on",
    "clip_conditioning": "test_clip_conditioning_follows_the_variant_and_is_kept_in_the_meta",
    "prior_dir": "test_a_prior_of_other_clips_is_seen_with_its_conditions",
    "val_fraction": "test_surgery_is_tried_beside_random_edits_and_the_file_is_what_the_summary_says",
    "surgery": "test_surgery_and_samples_can_be_left_out",
    "sample_steps": "test_surgery_and_samples_can_be_left_out",
}


@pytest.mark.parametrize(("before", "after"), CHANGES, ids=str)
def test_every_setting_changes_the_training(before, after):
    clips = make_clips()
    clips.valid[:, 7:] = False
    settings = {"clips": clips, **BASE, **before}
    first, second = trained(**settings), trained(**{**settings, **after})
    assert bool(first.isfinite().all()) and bool(second.isfinite().all())
    assert first.shape != second.shape or not torch.allclose(first, second, rtol=1e-4, atol=1e-7)


def test_no_setting_is_left_out_above():
    changed = {name for _, after in CHANGES for name in after}
    assert changed | ELSEWHERE.keys() == LoraOptions.model_fields.keys() and not changed & ELSEWHERE.keys()
    folder = Path(__file__).parents[1]
    text = "".join(
        path.read_text() for name in ("training", "tasks") for path in (folder / name).glob("test_*.py")
    )
    assert all(f"def {test}(" in text for test in ELSEWHERE.values())


def test_clips_and_base_are_as_they_were_after_fifty_steps():
    clips, generator = make_clips(), make_generator()
    before = [
        each.clone() for each in (clips.mean, clips.std, clips.clip, clips.sync, clips.text, clips.valid)
    ]
    base = digest(generator)
    training = make_training(generator, clips, uncond="train", video_dropout=0.5, text_dropout=0.5)
    for step in range(50):
        step_loss(training, step)
    after = (clips.mean, clips.std, clips.clip, clips.sync, clips.text, clips.valid)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert digest(generator) == base


def test_the_adapter_and_nothing_else_is_trained(generator):
    training = make_training(generator, target="qkv conv")
    wanted = [each for group in training.parameters(1.0) for each in group["params"]]
    assert {id(each) for each in wanted} == {
        id(each) for each in training.generator.parameters() if each.requires_grad
    }
    assert not any(each.requires_grad for each in training.base.parameters())
    assert sum(each.numel() for each in wanted) == training.report.num_parameters(2)
    groups = make_training(generator, lora_plus_ratio=16.0).parameters(1e-3)
    assert [group["lr"] for group in groups] == [1e-3, 16e-3]


def test_training_teaches_the_clips_and_validation_shows_it(tmp_path):
    clips = make_clips(8)
    same = replace(clips, mean=clips.mean[:1].expand_as(clips.mean))  # one sound, whatever is seen
    training = make_training(
        clips=same, target="qkv conv", rank=4, steps=40, save_every=40, lr=3e-2, batch_size=4
    )
    result = run(tmp_path, training)
    losses = [each["val_loss"] for each in result.history]
    assert losses[-1] < 0.8 * losses[0] and result.best["step"] > 0
    mean, low, high = paired_difference(training.last, training.first)
    assert mean == pytest.approx(losses[-1] - losses[0]) and high < 0 and low <= mean <= high
    untrained = run(tmp_path / "none", make_training(clips=same, steps=1, lr=1e-12))
    assert untrained.history[-1]["val_loss"] == pytest.approx(losses[0], abs=1e-6)


def test_the_exported_adapter_does_what_the_trained_one_did(tmp_path, generator):
    for init_mode in ("standard", "pissa"):
        training = make_training(generator, steps=3, init_mode=init_mode)
        path = run(tmp_path / init_mode, training).path
        clips = make_clips(2)
        inputs = (torch.randn(2, 10, 4), clips.clip, clips.sync, clips.text, torch.tensor([0.2, 0.8]))
        with torch.no_grad():
            wanted = training.generator.eval()(*inputs)
            assert torch.allclose(adapt(generator, read_adapter(path))(*inputs), wanted, atol=1e-5)
            assert torch.equal(adapt(generator, read_adapter(path), 0.0)(*inputs), generator(*inputs))


def test_dropped_conditions_are_the_learned_empty_ones():
    training = make_training(video_dropout=1.0, text_dropout=1.0, batch_size=4)
    batch = training._draw(0, partial(keyed, 0, 0))
    clip, sync, text = training._conditions(batch)
    base = training.base
    assert torch.equal(clip, base.empty_clip(4, 3)) and torch.equal(sync, base.empty_sync(4, 8))
    assert torch.equal(text, base.empty_text(4))
    kept = make_training(video_dropout=0.0, text_dropout=0.0, batch_size=4)
    batch = kept._draw(0, partial(keyed, 0, 0))
    assert torch.equal(kept._conditions(batch)[1], kept.clips.sync[batch.indices])


def test_conditions_are_dropped_as_often_as_asked():
    training = make_training(video_dropout=0.3, text_dropout=0.1, batch_size=64)
    batches = [training._draw(step, partial(keyed, 0, step)) for step in range(40)]
    video = torch.cat([each.has_video for each in batches]).float().mean()
    text = torch.cat([each.has_text for each in batches]).float().mean()
    both = torch.cat([~(each.has_video | each.has_text) for each in batches]).float().mean()
    assert float(video) == pytest.approx(0.7, abs=0.03) and float(text) == pytest.approx(0.9, abs=0.03)
    assert float(both) == pytest.approx(0.03, abs=0.015)  # independent of each other


@pytest.mark.parametrize("settings", [{"uncond": "preserve"}, {"prior_preservation": 1.0}], ids=str)
def test_what_the_base_does_without_conditions_is_kept(settings):
    settings = {"video_dropout": 1.0, "text_dropout": 1.0, **settings}
    training = make_training(**settings)
    parts = [float(part.detach()) for part in training.loss(0, partial(keyed, 0, 0))]
    assert parts[-1] == 0  # untrained, the adapter is the base
    with torch.no_grad():
        for group in training.parameters(1.0):
            for parameter in group["params"]:
                parameter.add_(0.1)
    assert [float(part.detach()) for part in training.loss(0, partial(keyed, 0, 0))][-1] > 1e-4


def test_a_prior_of_other_clips_is_seen_with_its_conditions(generator):
    other = make_clips(5, held=0, seed=9)
    settings = {"prior_preservation": 2.0, "batch_size": 2, "rank": 2, "target": "qkv"}
    common = {"variant": "small_16k", "base": "x", "clip_conditioning": True}
    training = LoraTraining(generator, make_clips(), LoraOptions(**settings), prior=other, **common)
    with torch.no_grad():
        for group in training.parameters(1.0):
            for parameter in group["params"]:
                parameter.add_(0.1)
    seen: list[torch.Tensor] = []
    forward = training._base_velocity
    training._base_velocity = lambda x, conditions, t: (
        seen.append(conditions[1]),
        forward(x, conditions, t),
    )[1]
    parts = [float(part.detach()) for part in training.loss(0, partial(keyed, 0, 0))]
    assert len(parts) == 2 and parts[1] > 0
    assert all(any(torch.equal(row, each) for each in other.sync) for row in seen[0])


def test_a_curriculum_switches_once_and_by_the_step_alone():
    training = make_training(timestep_mode="curriculum", steps=10, curriculum_switch=0.6)
    assert [training.law(step).mode for step in range(10)] == ["logit_normal"] * 6 + ["uniform"] * 4
    assert training.law(2).mode == "logit_normal"


def test_tokens_after_the_end_of_a_short_sound_do_not_count():
    clips = make_clips()
    clips.valid[:, 5:] = False
    loud = replace(clips, mean=torch.where(clips.valid[..., None], clips.mean, clips.mean + 50))
    common = {"loss_mask": "valid", "video_dropout": 0.0, "text_dropout": 0.0}
    batch = make_training(clips=loud, **common)._draw(0, partial(keyed, 0, 0))
    assert bool((~batch.valid[:, 5:]).all()) and bool(batch.valid[:, :5].all())
    everything = make_training(clips=clips, loss_mask="none")._draw(0, partial(keyed, 0, 0))
    assert bool(everything.valid.all())


@pytest.mark.parametrize(
    ("settings", "least", "most"),
    [({"use_rslora": True}, 0.5, 2.0), ({"use_rslora": True, "alpha_per_rank": 2.0}, 8.0, 1e3)],
    ids=["alpha constant", "alpha = 2 r"],
)
def test_a_first_gradient_step_is_as_large_at_every_rank_only_with_rslora_and_constant_alpha(
    generator, settings, least, most
):
    """FINETUNING 3: rsLoRA is stable across ranks while alpha stays the same."""
    settings = dict(settings)
    per_rank, clips = settings.pop("alpha_per_rank", 0.0), make_clips(4)
    inputs = (torch.ones(4, 10, 4), clips.clip, clips.sync, clips.text, torch.full((4,), 0.5))
    sizes = {}
    for rank in (8, 64):
        training = make_training(generator, rank=rank, alpha=per_rank * rank, target="qkv conv", **settings)
        for part in training.loss(0, partial(keyed, 0, 0)):
            part.backward()
        with torch.no_grad():
            for group in training.parameters(1.0):
                for parameter in group["params"]:
                    parameter.sub_(1e-5 * parameter.grad)
            sizes[rank] = float((training.generator.eval()(*inputs) - generator(*inputs)).norm())
    assert least < sizes[64] / sizes[8] < most, sizes


def test_the_norm_of_a_change_stays_under_its_limit(tmp_path):
    result = run(tmp_path, steps=4, max_norm=0.05, lr=0.1, target="qkv conv")
    norms = [float(dense(delta).norm()) for delta in read_adapter(result.path).deltas.values()]
    assert max(norms) == pytest.approx(0.05, rel=1e-3) and min(norms) > 0


def test_latents_of_another_scale_are_refused(generator):
    clips = make_clips()
    for wrong in (replace(clips, mean=clips.mean * 20), replace(clips, mean=clips.mean + 3)):
        with pytest.raises(InputError, match="does not belong to this generator"):
            make_training(generator, wrong)


def test_without_clips_for_training_there_is_none(generator):
    with pytest.raises(InputError, match="All clips are kept for validation"):
        make_training(generator, make_clips(2, held=2))


def test_a_large_scale_is_told():
    assert "over 4" in make_training(alpha=32.0).notes[0]
    assert make_training().notes == ()


def test_a_generator_loaded_in_inference_mode_can_be_trained():
    with torch.inference_mode():
        generator = make_generator()
    training = make_training(generator, grad_checkpoint=True)
    for part in training.loss(0, partial(keyed, 0, 0)):
        part.backward()
    assert all(each.grad is not None for group in training.parameters(1.0) for each in group["params"])


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(InputError, match="max_norm needs init_mode standard"):
        LoraOptions.parse(max_norm=1.0, init_mode="pissa")
    with pytest.raises(InputError, match="prior_preservation is 0"):
        LoraOptions.parse(prior_dir="x")


# FINETUNING 0: layers and parameters of a rank-16 adapter, in millions.
COUNTS = {
    "small_16k": {"qkv": (20, 0.573), "linear1": (18, 0.473), "mlp": (54, 2.54)},
    "small_44k": {"qkv": (20, 0.573), "linear1": (18, 0.473), "mlp": (54, 2.54)},
    "medium_44k": {"qkv": (20, 1.147), "linear1": (18, 0.946), "mlp": (54, 5.08)},
    "large_44k": {"qkv": (35, 2.007), "linear1": (33, 1.720), "mlp": (99, 9.24)},
}


@pytest.mark.parametrize("variant", COUNTS)
def test_the_parameters_of_every_real_variant_are_counted_right(variant):
    config = VARIANTS[variant].generator
    with torch.device("meta"):
        generator = Generator(config)
    d, hidden, r = config.hidden_dim, generator.fused_blocks[0].ffn.w1.weight.shape[0], 16
    joint, fused = config.num_joint_blocks, config.num_fused_blocks
    linear, conv = joint - 1, 2 * joint - 1 + fused  # streams with an output half: text; latent, clip, fused
    exact = {
        "qkv": (3 * joint + fused) * r * (d + 3 * d),
        "linear1": r * (linear * 2 * d + conv * (3 * d + d)),
        "mlp": r * (linear * 3 * (d + hidden) + conv * (2 * (3 * d + hidden) + 3 * hidden + d)),
    }
    for name, (layers, millions) in COUNTS[variant].items():
        report = select_targets(generator, name)
        assert len(report.targets) == layers
        assert report.num_parameters(16) == exact[name]
        assert report.num_parameters(16) / 1e6 == pytest.approx(millions, abs=0.006 * max(1, millions))
    assert {each.kind for each in select_targets(generator, "linear1").targets} == {"linear", "conv"}
