"""Where node inputs differ from the option models: what saved workflows use (defaults, ranges) wins here.

Steps of numbers, tooltips where a node has more or less to say, and choices in their order.
"""

from typing import Any

from ..configs import VARIANTS

_MAX_SEED = 2**32 - 1
_Overrides = dict[str, dict[str, Any]]

_SAMPLING: _Overrides = {
    "duration": {"max": 30.0, "step": 0.1},
    "steps": {"max": 200},
    "cfg_strength": {"min": 1.0, "max": 20.0, "step": 0.1},
    "seed": {"max": _MAX_SEED, "control_after_generate": True},
    "takes": {"max": 16, "tooltip": "How many different sounds to make; they come as one AUDIO batch."},
    "target_lufs": {"min": -40.0, "max": -6.0, "step": 1.0},
    "true_peak_ceiling": {"step": 0.5},
}
_LOOKING: _Overrides = {
    "duration": {"max": 30.0, "step": 0.1},
    "start": {"max": 600.0, "step": 0.1},
    "mask_strength": {"step": 0.05},
    "fps": {
        "default": 30.0,
        "min": 1.0,
        "max": 120.0,
        "step": 0.001,
        "tooltip": "Frames per second of an IMAGE batch; a VIDEO and video_info bring their own.",
    },
    "cache_dir": {
        "tooltip": "Folder for feature files; relative: below the output folder; empty: selva/cache there."
    },
}
_MIXING: _Overrides = {
    "original_gain_db": {"step": 0.5},
    "duck_db": {"step": 0.5},
}
# As the public pack's trainer has them; what we measured to be better is the option model's own.
_TRAINING: _Overrides = {
    "steps": {"default": 2000, "min": 100, "max": 100_000},
    "rank": {"default": 16, "max": 128},
    "lr": {
        "default": 1e-4,
        "min": 1e-6,
        "max": 1e-2,
        "step": 1e-6,
        "tooltip": "Highest learning rate. 1e-4 is careful; small models take more.",
    },
    "alpha": {
        "default": 0.0,
        "max": 512.0,
        "step": 0.5,
        "tooltip": "Scale of the change, over the rank, or with use_rslora over its root; 0: twice the rank.",
    },
    "target": {"default": "attn.qkv"},
    "batch_size": {"default": 4, "max": 32},
    "warmup_steps": {"default": 100, "max": 5000},
    "grad_accum": {"default": 1, "max": 32},
    "save_every": {"default": 500, "min": 50, "max": 10_000},
    "seed": {"default": 42, "max": _MAX_SEED, "control_after_generate": True},
    "timestep_mode": {"default": "uniform"},
    "logit_normal_sigma": {"default": 1.0, "step": 0.1},
    "curriculum_switch": {"default": 0.6, "min": 0.1, "max": 0.9, "step": 0.05},
    "lora_dropout": {"default": 0.0, "max": 0.3, "step": 0.01},
    "lora_plus_ratio": {"default": 1.0, "min": 1.0, "max": 32.0, "step": 1.0},
    "init_mode": {"default": "pissa"},
    "use_rslora": {"default": True},
    "lr_schedule": {"default": "constant"},
    "latent_mixup_alpha": {"default": 0.0, "step": 0.05},
    "latent_noise_sigma": {"default": 0.0, "max": 0.1, "step": 0.005},
    "ema_decay": {"max": 0.9999, "step": 0.0001},
    "video_dropout": {"step": 0.05},
    "text_dropout": {"step": 0.05},
    "val_fraction": {"step": 0.05},
    "patience": {"max": 100},
    "sample_steps": {"max": 200},
}
# As the public pack's nodes have them, likewise.
_LEARNING: _Overrides = {
    "seed": _TRAINING["seed"],
    "val_fraction": _TRAINING["val_fraction"],
    "patience": _TRAINING["patience"],
}
_INVERSION: _Overrides = {
    **_LEARNING,
    "steps": {"default": 3000, "min": 100, "max": 50_000},
    "lr": {
        "default": 2e-4,
        "min": 1e-5,
        "max": 0.1,
        "step": 1e-5,
        "tooltip": "Highest learning rate. 2e-4 is that of older workflows; 2e-2 in space feature, or "
        "5e-3 in space token, learns far more in fewer steps.",
    },
    "batch_size": {"max": 64},
    "save_every": {"default": 1000, "min": 100, "max": 10_000},
    "warmup_steps": {"default": 100, "max": 1000},
    "space": {
        "default": "feature",
        "tooltip": "Learn rows of what CLIP gives (feature), as older workflows do, or words that CLIP reads "
        "(token).",
    },
    "lr_schedule": {"default": "constant"},
    "timestep_mode": {"default": "uniform"},
    "sample_steps": {"max": 200},
}
_VOCODER: _Overrides = {
    **_LEARNING,
    "train_mode": {"options": ["snake_alpha_only", "all_params", "snake_alpha_beta"]},
    "steps": {"min": 100, "max": 50_000},
    "lr": {
        "default": 1e-4,
        "min": 1e-6,
        "max": 1e-2,
        "step": 1e-5,
        "tooltip": "Highest learning rate. 1e-4 is for the activations, 1e-5 for all_params.",
    },
    "batch_size": {"max": 32},
    "segment_seconds": {"default": 2.0, "step": 0.25},
    "lambda_l2sp": {"max": 0.1, "step": 1e-4},
    "use_gafilter": {"default": True},
    "gafilter_kernel_size": {"step": 2},
    "lambda_phase": {"default": 1.0, "max": 5.0, "step": 0.1},
    "lambda_stft": {"max": 10.0, "step": 0.1},
    "save_every": {"min": 50, "max": 10_000},
    "warmup_steps": {"max": 5000},
}
_NOISE_SEARCH: _Overrides = {
    **_SAMPLING,
    "prompt": {"multiline": True, "tooltip": "Says which sound is made; empty takes the extractor's."},
    "n_opt_steps": {"min": 5, "max": 500},
    "opt_lr": {"default": 0.02, "min": 0.001, "step": 0.001},
    "n_ode_steps": {"min": 5},
    "style_weight": {"default": 0.1, "max": 10.0, "step": 0.05},
    "gram_weight": {"default": 0.0, "max": 1.0, "step": 0.01},
    "timing_weight": {"default": 1.0, "max": 100.0, "step": 0.1},
    "anchor_weight": {"default": 1.0, "max": 10.0, "step": 0.1},
    "shell_weight": {"max": 10.0, "step": 0.1},
    "check_every": {"max": 100},
    "patience": {"max": 100},
}
_SMOOTHING: _Overrides = {
    "cutoff_hz": {"step": 500.0},
    "blend": {"step": 0.05},
    "transition_hz": {"step": 100.0},
}
_MATCHING: _Overrides = {"strength": {"step": 0.05}, "max_gain_db": {"step": 1.0}}
_LEVELS: _Overrides = {
    "target_lufs": {"min": -40.0, "max": -6.0, "step": 0.5},
    "true_peak_dbtp": {"min": -6.0, "step": 0.5},
}
# Node -> input -> what differs from the option model of that name.
OVERRIDES: dict[str, _Overrides] = {
    "SelvaModelLoader": {
        # "demo_16k" last: it is for trying out, and never taken silently.
        "variant": {"options": [*(name for name in VARIANTS if name != "demo_16k"), "demo_16k"]},
    },
    "SelvaFeatureExtractor": {
        **_LOOKING,
        "prompt": {
            "multiline": True,
            "tooltip": "Names the source to hear. It shapes which motion the model listens to; the sampler's "
            "prompt shapes which sound is made. They should agree: connect the prompt output there.",
        },
    },
    "SelvaSampler": {
        **_SAMPLING,
        "prompt": {
            "multiline": True,
            "tooltip": "Says which sound is made; empty takes the extractor's. The extractor's prompt shapes "
            "which motion is heard. They should agree.",
        },
    },
    "SelvaFoley": {
        **_LOOKING,
        **_SAMPLING,
        **_MIXING,
        "prompt": {
            "multiline": True,
            "tooltip": "Names the source to hear, such as 'a dog barking'. It shapes which motion is heard "
            "and which sound is made.",
        },
    },
    "SelvaLoraTrainer": _TRAINING,
    "SelvaTextualInversionTrainer": _INVERSION,
    "SelvaActivationSteeringExtractor": {"seed": _TRAINING["seed"]},
    "SelvaBigvganTrainer": _VOCODER,
    "SelvaDittoOptimizer": _NOISE_SEARCH,
    "SelvaHfSmoother": _SMOOTHING,
    "SelvaSpectralMatcher": _MATCHING,
    "SelvaHarmonicExciter": {
        "cutoff_hz": {"step": 100.0},
        "drive": {"step": 0.5},
        "mix": {"step": 0.05},
    },
    "SelvaOutputNormalizer": _LEVELS,
    "SelvaDatasetLUFSNormalizer": _LEVELS
    | {
        "target_lufs": {
            **_LEVELS["target_lufs"],
            "default": -23.0,
            "tooltip": "Target loudness in LUFS.",
        }
    },
    "SelvaDatasetCompressor": {
        "threshold_db": {"step": 1.0},
        "ratio": {"step": 0.5},
        "attack_ms": {"step": 1.0},
        "release_ms": {"step": 10.0},
        "mix": {"step": 0.05},
    },
    "SelvaDatasetSpectralMatcher": _MATCHING,
    "SelvaDatasetHfSmoother": _SMOOTHING,
    "SelvaDatasetAugmenter": {
        "gain_range_db": {"step": 0.5},
        "seed": {"max": _MAX_SEED, "control_after_generate": True},
        "pitch_range_semitones": {"step": 0.25},
        "time_stretch_range": {"step": 0.05},
    },
    "SelvaDatasetInspector": {
        "min_snr_db": {"step": 1.0},
        "max_silence_fraction": {"step": 0.05},
    },
    "SelvaMux": {
        **_MIXING,
        "fps": _LOOKING["fps"],
    },
}
