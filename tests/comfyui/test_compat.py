"""Names, order, defaults and ranges that saved workflows depend on (COMPAT 1.1, 1.2)."""

import pytest

# name TYPE = default [min..max/step]; sockets have no default; the first choice of a COMBO is its default.
COMPAT = {
    "SelvaModelLoader": [
        ("variant", "COMBO", "small_16k"),
        ("precision", "COMBO", "bf16"),
        ("offload_strategy", "COMBO", "auto"),
    ],
    "SelvaFeatureExtractor": [
        ("model", "SELVA_MODEL"),
        ("video", "IMAGE,VIDEO"),
        ("prompt", "STRING", ""),
        ("video_info", "VHS_VIDEOINFO"),
        ("fps", "FLOAT", 30.0, 1.0, 120.0, 0.001),
        ("duration", "FLOAT", 0.0, 0.0, 30.0, 0.1),
        ("cache_dir", "STRING", ""),
        ("name", "STRING", ""),
        ("mask", "MASK"),
        ("mask_strength", "FLOAT", 1.0, 0.0, 1.0, 0.05),
        ("mask_clip", "BOOLEAN", True),
        ("mask_sync", "BOOLEAN", True),
    ],
    "SelvaSampler": [
        ("model", "SELVA_MODEL"),
        ("features", "SELVA_FEATURES"),
        ("prompt", "STRING", ""),
        ("negative_prompt", "STRING", ""),
        ("duration", "FLOAT", 0.0, 0.0, 30.0, 0.1),
        ("steps", "INT", 25, 1, 200, None),
        ("cfg_strength", "FLOAT", 4.5, 1.0, 20.0, 0.1),
        ("seed", "INT", 0, 0, 2**32 - 1, None),
        ("steering_vectors", "STEERING_VECTORS"),
        ("steering_strength", "FLOAT", 0.1, 0.0, 2.0, 0.05),
        ("normalize", "BOOLEAN", True),
        ("target_lufs", "FLOAT", -27.0, -40.0, -6.0, 1.0),
        ("textual_inversion", "TEXTUAL_INVERSION"),
        ("ti_strength", "FLOAT", 1.0, 0.0, 1.0, 0.05),
    ],
    "SelvaLoraLoader": [
        ("model", "SELVA_MODEL"),
        ("adapter_path", "STRING", ""),
        ("strength", "FLOAT", 1.0, -2.0, 2.0, 0.05),  # the public pack's began at 0
    ],
    "SelvaLoraTrainer": [
        ("model", "SELVA_MODEL"),
        ("data_dir", "STRING", ""),
        ("output_dir", "STRING", "lora_output"),
        ("steps", "INT", 2000, 100, 100_000, None),
        ("rank", "INT", 16, 1, 128, None),
        ("lr", "FLOAT", 1e-4, 1e-6, 1e-2, 1e-6),
        ("alpha", "FLOAT", 0.0, 0.0, 512.0, 0.5),
        ("target", "STRING", "attn.qkv"),
        ("batch_size", "INT", 4, 1, 32, None),
        ("warmup_steps", "INT", 100, 0, 5000, None),
        ("grad_accum", "INT", 1, 1, 32, None),
        ("save_every", "INT", 500, 50, 10_000, None),
        ("resume_path", "STRING", ""),
        ("seed", "INT", 42, 0, 2**32 - 1, None),
        ("timestep_mode", "COMBO", "uniform"),
        ("logit_normal_sigma", "FLOAT", 1.0, 0.1, 3.0, 0.1),
        ("curriculum_switch", "FLOAT", 0.6, 0.1, 0.9, 0.05),
        ("lora_dropout", "FLOAT", 0.0, 0.0, 0.3, 0.01),
        ("lora_plus_ratio", "FLOAT", 1.0, 1.0, 32.0, 1.0),
        ("init_mode", "COMBO", "pissa"),
        ("use_rslora", "BOOLEAN", True),
        ("lr_schedule", "COMBO", "constant"),
        ("latent_mixup_alpha", "FLOAT", 0.0, 0.0, 1.0, 0.05),
        ("latent_noise_sigma", "FLOAT", 0.0, 0.0, 0.1, 0.005),
    ],
    "SelvaLoraScheduler": [("model", "SELVA_MODEL"), ("experiments_file", "STRING", "experiments.json")],
    "SelvaSkipExperiment": [("output_root", "STRING", "")],
    "SelvaLoraEvaluator": [("model", "SELVA_MODEL"), ("eval_file", "STRING", "eval_batch.json")],
    "SelvaTextualInversionTrainer": [
        ("model", "SELVA_MODEL"),
        ("data_dir", "STRING", ""),
        ("output_path", "STRING", "textual_inversion.pt"),
        ("n_tokens", "INT", 4, 1, 16, None),
        ("steps", "INT", 3000, 100, 50_000, None),
        ("lr", "FLOAT", 2e-4, 1e-5, 1e-1, 1e-5),
        ("batch_size", "INT", 4, 1, 64, None),
        ("seed", "INT", 42, 0, 2**32 - 1, None),
        ("save_every", "INT", 1000, 100, 10_000, None),
        ("inject_mode", "COMBO", "suffix"),
        ("init_text", "STRING", ""),
        ("warmup_steps", "INT", 100, 0, 1000, None),
    ],
    "SelvaTextualInversionLoader": [("path", "STRING", "textual_inversion.pt")],
    "SelvaTiScheduler": [("model", "SELVA_MODEL"), ("experiments_file", "STRING", "ti_experiments.json")],
    "SelvaActivationSteeringExtractor": [
        ("model", "SELVA_MODEL"),
        ("data_dir", "STRING", ""),
        ("output_path", "STRING", "steering_vectors.pt"),
        ("n_samples", "INT", 16, 1, 256, None),
        ("seed", "INT", 42, 0, 2**32 - 1, None),
    ],
    "SelvaActivationSteeringLoader": [("path", "STRING", "steering_vectors.pt")],
    "SelvaBigvganTrainer": [
        ("model", "SELVA_MODEL"),
        ("data_dir", "STRING", ""),
        ("output_path", "STRING", "bigvgan_bj.pt"),
        ("train_mode", "COMBO", "snake_alpha_only"),
        ("steps", "INT", 2000, 100, 50_000, None),
        ("lr", "FLOAT", 1e-4, 1e-6, 1e-2, 1e-5),
        ("batch_size", "INT", 4, 1, 32, None),
        ("segment_seconds", "FLOAT", 2.0, 0.25, 30.0, 0.25),
        ("lambda_l2sp", "FLOAT", 1e-3, 0.0, 0.1, 1e-4),
        ("use_gafilter", "BOOLEAN", True),
        ("gafilter_kernel_size", "INT", 9, 3, 31, 2),
        ("lambda_phase", "FLOAT", 1.0, 0.0, 5.0, 0.1),
        ("save_every", "INT", 500, 50, 10_000, None),
        ("seed", "INT", 42, 0, 2**32 - 1, None),
        ("discriminator_path", "STRING", ""),
        ("lora_adapter", "STRING", ""),
    ],
    "SelvaBigvganLoader": [("model", "SELVA_MODEL"), ("path", "STRING", "bigvgan_bj.pt")],
    "SelvaBigvganScheduler": [
        ("model", "SELVA_MODEL"),
        ("experiments_file", "STRING", "bigvgan_experiments.json"),
    ],
    "SelvaDittoOptimizer": [
        ("model", "SELVA_MODEL"),
        ("features", "SELVA_FEATURES"),
        ("prompt", "STRING", ""),
        ("negative_prompt", "STRING", ""),
        ("reference_dir", "STRING", ""),
        ("n_opt_steps", "INT", 50, 5, 500, None),
        ("opt_lr", "FLOAT", 0.02, 0.001, 2.0, 0.001),
        ("n_ode_steps", "INT", 10, 5, 50, None),
        ("n_grad_steps", "INT", 5, 1, 50, None),
        ("style_weight", "FLOAT", 0.1, 0.0, 10.0, 0.05),
        ("gram_weight", "FLOAT", 0.0, 0.0, 1.0, 0.01),
        ("anchor_weight", "FLOAT", 1.0, 0.0, 10.0, 0.1),
        ("steps", "INT", 25, 1, 200, None),
        ("cfg_strength", "FLOAT", 4.5, 1.0, 20.0, 0.1),
        ("seed", "INT", 0, 0, 2**32 - 1, None),
        ("normalize", "BOOLEAN", True),
        ("target_lufs", "FLOAT", -27.0, -40.0, -6.0, 1.0),
    ],
    "SelvaVaeRoundtrip": [("model", "SELVA_MODEL"), ("audio", "AUDIO")],
    "SelvaHfSmoother": [
        ("audio", "AUDIO"),
        ("cutoff_hz", "FLOAT", 12000.0, 2000.0, 20000.0, 500.0),
        ("blend", "FLOAT", 0.7, 0.0, 1.0, 0.05),
    ],
    "SelvaSpectralMatcher": [
        ("audio", "AUDIO"),
        ("mode", "COMBO", "44k"),
        ("strength", "FLOAT", 0.8, 0.0, 1.0, 0.05),
        ("max_gain_db", "FLOAT", 12.0, 1.0, 30.0, 1.0),
    ],
    "SelvaHarmonicExciter": [
        ("audio", "AUDIO"),
        ("cutoff_hz", "FLOAT", 3000.0, 500.0, 16000.0, 100.0),
        ("drive", "FLOAT", 2.0, 1.0, 10.0, 0.5),
        ("mix", "FLOAT", 0.15, 0.0, 1.0, 0.05),
    ],
    "SelvaOutputNormalizer": [
        ("audio", "AUDIO"),
        ("target_lufs", "FLOAT", -14.0, -40.0, -6.0, 0.5),
        ("true_peak_dbtp", "FLOAT", -1.0, -6.0, 0.0, 0.5),
    ],
}
OUTPUTS = {
    "SelvaModelLoader": [("model", "SELVA_MODEL")],
    "SelvaFeatureExtractor": [("features", "SELVA_FEATURES"), ("fps", "FLOAT"), ("prompt", "STRING")],
    "SelvaSampler": [("audio", "AUDIO")],
    "SelvaLoraLoader": [("model", "SELVA_MODEL")],
    "SelvaLoraTrainer": [
        ("model", "SELVA_MODEL"),
        ("adapter_path", "STRING"),
        ("loss_curve", "IMAGE"),
        ("summary_path", "STRING"),
    ],
    "SelvaLoraScheduler": [("summary_path", "STRING"), ("comparison_curves", "IMAGE")],
    "SelvaSkipExperiment": [("flag_path", "STRING")],
    "SelvaLoraEvaluator": [("summary_path", "STRING"), ("comparison_image", "IMAGE")],
    "SelvaTextualInversionTrainer": [("embeddings_path", "STRING"), ("loss_curve", "IMAGE")],
    "SelvaTextualInversionLoader": [("textual_inversion", "TEXTUAL_INVERSION")],
    "SelvaTiScheduler": [("summary_path", "STRING"), ("comparison_curves", "IMAGE")],
    "SelvaActivationSteeringExtractor": [("steering_path", "STRING")],
    "SelvaActivationSteeringLoader": [("steering_vectors", "STEERING_VECTORS")],
    "SelvaBigvganTrainer": [("checkpoint_path", "STRING")],
    "SelvaBigvganLoader": [("model", "SELVA_MODEL")],
    "SelvaBigvganScheduler": [("summary_path", "STRING"), ("comparison_curves", "IMAGE")],
    "SelvaDittoOptimizer": [("audio", "AUDIO")],
    "SelvaVaeRoundtrip": [("audio_reconstructed", "AUDIO")],
    **{
        name: [("audio", "AUDIO")]
        for name in (
            "SelvaHfSmoother",
            "SelvaSpectralMatcher",
            "SelvaHarmonicExciter",
            "SelvaOutputNormalizer",
        )
    },
}
REQUIRED = {
    "SelvaFeatureExtractor": 3,
    "SelvaSampler": 8,
    "SelvaLoraTrainer": 6,
    "SelvaTextualInversionTrainer": 9,
    "SelvaBigvganTrainer": 14,
    "SelvaDittoOptimizer": 15,
}


@pytest.mark.parametrize("name", COMPAT)
def test_inputs_are_as_saved_workflows_have_them_and_new_ones_come_last(nodes, name):
    inputs = nodes[name].define_schema().inputs
    for place, (expected, found) in enumerate(zip(COMPAT[name], inputs, strict=False)):
        settings = found.settings
        assert (found.id, found.io_type) == expected[:2]
        if len(expected) > 2:
            assert settings["default"] == expected[2]
            assert type(settings["default"]) is type(expected[2])
        if len(expected) > 3:
            assert (settings["min"], settings["max"], settings.get("step")) == expected[3:]
        assert found.optional == (place >= REQUIRED.get(name, len(COMPAT[name])))
    assert all(found.optional for found in inputs[len(COMPAT[name]) :])


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_are_as_saved_workflows_are_wired(nodes, name):
    outputs = nodes[name].define_schema().outputs
    assert [(each.display_name, each.io_type) for each in outputs][: len(OUTPUTS[name])] == OUTPUTS[name]


def test_the_choices_of_saved_workflows_are_there(nodes):
    inputs = {each.id: each.settings for each in nodes["SelvaModelLoader"].define_schema().inputs}
    assert inputs["variant"]["options"][:4] == ["small_16k", "small_44k", "medium_44k", "large_44k"]
    assert inputs["precision"]["options"] == ["bf16", "fp16", "fp32"]
    assert inputs["offload_strategy"]["options"] == ["auto", "keep_in_vram", "offload_to_cpu"]


def test_seeds_are_followed_by_their_control(nodes):
    trainer = {each.id: each.settings for each in nodes["SelvaLoraTrainer"].define_schema().inputs}
    assert trainer["seed"]["control_after_generate"] is True
    assert trainer["timestep_mode"]["options"] == ["uniform", "logit_normal", "curriculum"]
    assert trainer["init_mode"]["options"] == ["standard", "pissa"]
    assert trainer["lr_schedule"]["options"][:2] == ["constant", "cosine"]
    tokens = {each.id: each.settings for each in nodes["SelvaTextualInversionTrainer"].define_schema().inputs}
    assert tokens["inject_mode"]["options"] == ["suffix", "prefix"]
    vocoder = {each.id: each.settings for each in nodes["SelvaBigvganTrainer"].define_schema().inputs}
    assert vocoder["train_mode"]["options"][:2] == ["snake_alpha_only", "all_params"]
    for name in (
        "TextualInversionTrainer",
        "ActivationSteeringExtractor",
        "BigvganTrainer",
        "DittoOptimizer",
    ):
        found = {each.id: each.settings for each in nodes[f"Selva{name}"].define_schema().inputs}
        assert found["seed"]["control_after_generate"] is True
    seeds = {each.id: each.settings for each in nodes["SelvaSampler"].define_schema().inputs}
    assert seeds["seed"]["control_after_generate"] is True
    assert seeds["prompt"]["multiline"] is True
    assert seeds["negative_prompt"]["multiline"] is False


@pytest.mark.parametrize(
    "name",
    [
        "SelvaFeatureExtractor",
        "SelvaSampler",
        "SelvaLoraTrainer",
        "SelvaLoraScheduler",
        "SelvaSkipExperiment",
        "SelvaLoraEvaluator",
        "SelvaTextualInversionTrainer",
        "SelvaTiScheduler",
        "SelvaActivationSteeringExtractor",
        "SelvaBigvganTrainer",
        "SelvaBigvganScheduler",
        "SelvaDittoOptimizer",
    ],
)
def test_what_makes_a_result_of_its_own_can_be_queued_alone(nodes, name):
    """COMPAT 5.23: the public pack's trainer could not."""
    assert nodes[name].define_schema().is_output_node
