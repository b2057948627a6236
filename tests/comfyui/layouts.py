"""Workflows as older packs saved them: widget values by position, in every layout of COMPAT 1.4.

``OPEN`` is the script that has the page open workflows, and tells what it made of them.
"""

OPEN = """(async (graphs) => {
  const until = async (ready) => { while (!ready()) await new Promise((go) => setTimeout(go, 100)); };
  await until(() => window.app?.graph && window.LiteGraph?.registered_node_types?.SelvaSampler);
  await new Promise((go) => setTimeout(go, 1000));
  const answers = [];
  for (const graph of graphs) {
    const types = new Set(graph.nodes.map((node) => node.type).filter((type) => !type.includes("Note")));
    const missing = [...types].filter((type) => !window.LiteGraph.registered_node_types[type]);
    await window.app.loadGraphData(graph);
    await new Promise((go) => setTimeout(go, 300));
    const prompt = (await window.app.graphToPrompt()).output;
    const saved = window.app.graph.serialize();
    answers.push({missing, prompt, saved});
  }
  return JSON.stringify(answers);
})(%s)"""

MAIN_SAMPLER = ["a dog", "music", 2.5, 30, 3.5, 77, "randomize", False]
EXPECTED_SAMPLER = {
    "prompt": "a dog",
    "negative_prompt": "music",
    "duration": 2.5,
    "steps": 30,
    "cfg_strength": 3.5,
    "seed": 77,
}
SAMPLERS = {
    "6 values, without control": (MAIN_SAMPLER[:6], {}),
    "7 values": (MAIN_SAMPLER[:7], {}),
    "8 values, main": (MAIN_SAMPLER, {"normalize": False}),
    "8 values, without control": ([*MAIN_SAMPLER[:6], False, -20], {"normalize": False, "target_lufs": -20}),
    "9 values": ([*MAIN_SAMPLER, -20], {"normalize": False, "target_lufs": -20}),
    "10 values": ([*MAIN_SAMPLER, -20, 0.5], {"normalize": False, "target_lufs": -20, "ti_strength": 0.5}),
    "11 values, newest": (
        [*MAIN_SAMPLER[:7], 0.3, False, -20, 0.5],
        {"steering_strength": 0.3, "normalize": False, "target_lufs": -20, "ti_strength": 0.5},
    ),
    "prompts last": ([2.5, 30, 3.5, 77, "randomize", False, "music", "a dog"], {"normalize": False}),
}
EXPECTED_EXTRACTOR = {"prompt": "a dog", "fps": 24.0, "duration": 3.0, "cache_dir": "dogs"}
OLD_EXTRACTOR = ["a dog", 24.0, 3.0, "dogs"]
MASKED = {"mask_strength": 0.4, "mask_clip": False, "mask_sync": False}
EXTRACTORS = {
    "4 values": (OLD_EXTRACTOR, {"name": "", "mask_strength": 1.0}),
    "7 values, main": ([*OLD_EXTRACTOR, 0.4, False, False], {"name": "", **MASKED}),
    "8 values, newest": ([*OLD_EXTRACTOR, "dog", 0.4, False, False], {"name": "dog", **MASKED}),
    "10 values, crop": (
        [*OLD_EXTRACTOR, 0.4, False, False, True, False, 0.1],
        {"name": "", **MASKED, "start": 0.0, "clip_conditioning": "auto"},
    ),
}


OLD_TRAINER = ["dogs", "out", 300, 8, 0.0002, 4.0, "attn.qkv linear1", 10, 2, 60, "", 7, "randomize"]
NEW_TRAINER = [*OLD_TRAINER[:7], 6, *OLD_TRAINER[7:]]
EXPECTED_TRAINER = {
    "data_dir": "dogs",
    "output_dir": "out",
    "steps": 300,
    "rank": 8,
    "lr": 0.0002,
    "alpha": 4.0,
    "target": "attn.qkv linear1",
    "warmup_steps": 10,
    "grad_accum": 2,
    "save_every": 60,
    "resume_path": "",
    "seed": 7,
}
_TIMESTEPS = {
    "timestep_mode": "curriculum",
    "logit_normal_sigma": 0.5,
    "curriculum_switch": 0.7,
    "lora_dropout": 0.05,
    "lora_plus_ratio": 4.0,
}
_PLAIN = {"init_mode": "standard", "use_rslora": False}
TRAINERS = {
    "13 values, before batch_size": (OLD_TRAINER, {"batch_size": 4, **_PLAIN}),
    "14 values": (NEW_TRAINER, {"batch_size": 6, "timestep_mode": "uniform", **_PLAIN}),
    "13 values, without control": (NEW_TRAINER[:13], {"batch_size": 6, **_PLAIN}),
    "19 values, before lr_schedule": (
        [*NEW_TRAINER, *_TIMESTEPS.values()],
        {"batch_size": 6, **_TIMESTEPS, **_PLAIN, "lr_schedule": "constant"},
    ),
    "20 values, lr_schedule after lora_plus_ratio": (
        [*NEW_TRAINER, *_TIMESTEPS.values(), "cosine"],
        {"batch_size": 6, **_TIMESTEPS, **_PLAIN, "lr_schedule": "cosine"},
    ),
    "22 values, before mixup and noise": (
        [*NEW_TRAINER, *_TIMESTEPS.values(), "standard", True, "cosine"],
        {
            "batch_size": 6,
            **_TIMESTEPS,
            "init_mode": "standard",
            "use_rslora": True,
            "lr_schedule": "cosine",
            "latent_mixup_alpha": 0.0,
            "latent_noise_sigma": 0.0,
        },
    ),
    "24 values, newest": (
        [*NEW_TRAINER, *_TIMESTEPS.values(), "pissa", True, "cosine", 0.4, 0.02],
        {
            "batch_size": 6,
            **_TIMESTEPS,
            "init_mode": "pissa",
            "use_rslora": True,
            "lr_schedule": "cosine",
            "latent_mixup_alpha": 0.4,
            "latent_noise_sigma": 0.02,
        },
    ),
}


TOKENS = ["dogs", "out/dog.pt", 6, 900, 0.002, 8, 7, "randomize", 200]
EXPECTED_TOKENS = {
    "data_dir": "dogs",
    "output_path": "out/dog.pt",
    "n_tokens": 6,
    "steps": 900,
    "lr": 0.002,
    "batch_size": 8,
    "seed": 7,
    "save_every": 200,
    "init_text": "suffix",  # a word like any other
    "warmup_steps": 50,
    "space": "feature",
    "resume_path": "",
}
INVERSIONS = {
    "11 values, before inject_mode": ([*TOKENS, "suffix", 50], {"inject_mode": "suffix"}),
    "12 values, newest": ([*TOKENS, "prefix", "suffix", 50], {"inject_mode": "prefix"}),
    "11 values, without control": (
        [*TOKENS[:7], 200, "prefix", "suffix", 50],
        {"inject_mode": "prefix"},
    ),
}
_VOCODER = ["bells", "out/bells.pt", "all_params", 900, 0.0005, 2, 1.5]
_VOCODER_END = [600, 7, "increment"]
EXPECTED_VOCODER = {
    "data_dir": "bells",
    "output_path": "out/bells.pt",
    "steps": 900,
    "lr": 0.0005,
    "batch_size": 2,
    "segment_seconds": 1.5,
    "save_every": 600,
    "seed": 7,
    "resume_path": "",
    "loss": "auto",
}
_CHOSEN = {"train_mode": "all_params", "lambda_l2sp": 0.02, "discriminator_path": "d.pt"}
_UNFILTERED = {"use_gafilter": False, "gafilter_kernel_size": 9}
VOCODERS = {
    "9 values": (
        [*_VOCODER[:2], *_VOCODER[3:], *_VOCODER_END],
        {"train_mode": "snake_alpha_only", "lambda_l2sp": 0, "lambda_phase": 0, **_UNFILTERED},
    ),
    "12 values": (
        [*_VOCODER, 0.02, *_VOCODER_END, "d.pt"],
        {**_CHOSEN, "lambda_phase": 0, **_UNFILTERED, "lora_adapter": ""},
    ),
    "13 values": (
        [*_VOCODER, 0.02, 2.5, *_VOCODER_END, "d.pt"],
        {**_CHOSEN, "lambda_phase": 2.5, **_UNFILTERED, "lora_adapter": ""},
    ),
    "15 values": (
        [*_VOCODER, 0.02, True, 5, 2.5, *_VOCODER_END, "d.pt"],
        {**_CHOSEN, "use_gafilter": True, "gafilter_kernel_size": 5, "lambda_phase": 2.5, "lora_adapter": ""},
    ),
    "16 values, newest": (
        [*_VOCODER, 0.02, False, 5, 2.5, *_VOCODER_END, "d.pt", "a.pt"],
        {
            **_CHOSEN,
            "use_gafilter": False,
            "gafilter_kernel_size": 5,
            "lambda_phase": 2.5,
            "lora_adapter": "a.pt",
        },
    ),
}
_SEARCH = ["a bell", "music", "bells", 80, 0.05, 12, 4, 0.6]
_SEARCH_END = [30, 3.5, 7, "decrement", False, -20]
EXPECTED_SEARCH = {
    "prompt": "a bell",
    "negative_prompt": "music",
    "reference_dir": "bells",
    "n_opt_steps": 80,
    "opt_lr": 0.05,
    "n_ode_steps": 12,
    "n_grad_steps": 4,
    "style_weight": 0.6,
    "steps": 30,
    "cfg_strength": 3.5,
    "seed": 7,
    "normalize": False,
    "target_lufs": -20,
    "gradient": "checkpoint",
}
SEARCHES = {
    "14 values": ([*_SEARCH, *_SEARCH_END], {"gram_weight": 0, "anchor_weight": 0}),
    "15 values": ([*_SEARCH, 0.3, *_SEARCH_END], {"gram_weight": 0.3, "anchor_weight": 0}),
    "16 values, newest": ([*_SEARCH, 0.3, 2, *_SEARCH_END], {"gram_weight": 0.3, "anchor_weight": 2}),
    "13 values, without control": (
        [*_SEARCH, *_SEARCH_END[:3], *_SEARCH_END[4:]],
        {"gram_weight": 0, "anchor_weight": 0},
    ),
}
INSPECTORS = {
    "3 values": ([False, 20, False], {"max_silence_fraction": 0.5}),
    "4 values, newest": ([False, 20, False, 0.8], {"max_silence_fraction": 0.8}),
}


def lone_node(kind, values):
    """A workflow of one node of which only the widgets matter."""
    node = {"id": 1, "type": kind, "pos": [0, 0], "size": [300, 400], "flags": {}, "order": 0, "mode": 0}
    node |= {"inputs": [], "outputs": [], "properties": {}, "widgets_values": values}
    return {"last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [], "groups": [], "version": 0.4}


def old_workflow(sampler, extractor):
    """The wiring of the public pack's shipped workflow, with the widgets' values by position."""
    sockets = {
        "SelvaFeatureExtractor": [
            ("model", "SELVA_MODEL", 1),
            ("video", "IMAGE", 2),
            ("video_info", "VHS_VIDEOINFO", 3),
        ],
        "SelvaSampler": [("model", "SELVA_MODEL", 4), ("features", "SELVA_FEATURES", 5)],
        "VHS_VideoCombine": [("images", "IMAGE", 6), ("audio", "AUDIO", 7), ("frame_rate", "FLOAT", 8)],
        "SelvaModelLoader": [],
        "VHS_LoadVideo": [],
    }
    outputs = {
        "SelvaModelLoader": [("model", "SELVA_MODEL", [1, 4])],
        "VHS_LoadVideo": [
            ("IMAGE", "IMAGE", [2, 6]),
            ("frame_count", "INT", None),
            ("audio", "AUDIO", None),
            ("video_info", "VHS_VIDEOINFO", [3]),
        ],
        "SelvaFeatureExtractor": [
            ("features", "SELVA_FEATURES", [5]),
            ("fps", "FLOAT", [8]),
            ("prompt", "STRING", None),
        ],
        "SelvaSampler": [("audio", "AUDIO", [7])],
        "VHS_VideoCombine": [],
    }
    values = {
        "SelvaModelLoader": ["large_44k", "bf16", "auto"],
        "SelvaFeatureExtractor": extractor,
        "SelvaSampler": sampler,
        "VHS_LoadVideo": ["clip.mp4"],
        "VHS_VideoCombine": [8, "x"],
    }
    ids = {
        "SelvaModelLoader": 1,
        "VHS_LoadVideo": 2,
        "SelvaFeatureExtractor": 3,
        "SelvaSampler": 4,
        "VHS_VideoCombine": 5,
    }
    nodes = [
        {
            "id": ids[kind],
            "type": kind,
            "pos": [300 * ids[kind], 0],
            "size": [280, 300],
            "flags": {},
            "order": ids[kind],
            "mode": 0,
            "inputs": [
                {"name": name, "type": wire, "link": link}
                | ({"widget": {"name": name}} if wire == "FLOAT" else {})
                for name, wire, link in sockets[kind]
            ],
            "outputs": [{"name": name, "type": wire, "links": links} for name, wire, links in outputs[kind]],
            "properties": {},
            "widgets_values": values[kind],
        }
        for kind in ids
    ]
    links = [
        [1, 1, 0, 3, 0, "SELVA_MODEL"],
        [2, 2, 0, 3, 1, "IMAGE"],
        [3, 2, 3, 3, 2, "VHS_VIDEOINFO"],
        [4, 1, 0, 4, 0, "SELVA_MODEL"],
        [5, 3, 0, 4, 1, "SELVA_FEATURES"],
        [6, 2, 0, 5, 0, "IMAGE"],
        [7, 4, 0, 5, 1, "AUDIO"],
        [8, 3, 1, 5, 2, "FLOAT"],
    ]
    return {
        "last_node_id": 5,
        "last_link_id": 8,
        "nodes": nodes,
        "links": links,
        "groups": [],
        "version": 0.4,
    }


# Name of a layout -> the workflow, the node it is about, and what its inputs must be.
LAYOUTS = {
    **{
        f"sampler, {name}": (
            old_workflow(values, EXTRACTORS["7 values, main"][0]),
            "SelvaSampler",
            {**EXPECTED_SAMPLER, **more, "takes": 1, "solver": "euler"},
        )
        for name, (values, more) in SAMPLERS.items()
    },
    **{
        f"extractor, {name}": (
            old_workflow(MAIN_SAMPLER, values),
            "SelvaFeatureExtractor",
            {**EXPECTED_EXTRACTOR, **more},
        )
        for name, (values, more) in EXTRACTORS.items()
    },
    **{
        f"trainer, {name}": (
            lone_node("SelvaLoraTrainer", values),
            "SelvaLoraTrainer",
            {**EXPECTED_TRAINER, **more},
        )
        for name, (values, more) in TRAINERS.items()
    },
    **{
        f"textual inversion, {name}": (
            lone_node("SelvaTextualInversionTrainer", values),
            "SelvaTextualInversionTrainer",
            {**EXPECTED_TOKENS, **more},
        )
        for name, (values, more) in INVERSIONS.items()
    },
    **{
        f"vocoder, {name}": (
            lone_node("SelvaBigvganTrainer", values),
            "SelvaBigvganTrainer",
            {**EXPECTED_VOCODER, **more},
        )
        for name, (values, more) in VOCODERS.items()
    },
    **{
        f"ditto, {name}": (
            lone_node("SelvaDittoOptimizer", values),
            "SelvaDittoOptimizer",
            {**EXPECTED_SEARCH, **more},
        )
        for name, (values, more) in SEARCHES.items()
    },
    **{
        f"inspector, {name}": (
            lone_node("SelvaDatasetInspector", values),
            "SelvaDatasetInspector",
            {"skip_rejected": False, "min_snr_db": 20, "check_codec_artifacts": False, **more},
        )
        for name, (values, more) in INSPECTORS.items()
    },
}
