"""The real page opens our workflows, and those that older packs saved, with each value on its widget."""

import json
from pathlib import Path

import pytest
from browser import evaluate

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))

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


@pytest.fixture(scope="module")
def opened(chromium, tmp_path_factory):
    """What the page made of every workflow: the examples by name, the old ones by layout."""
    from comfyui import page

    graphs = {path.stem: json.loads(path.read_text()) for path in WORKFLOWS}
    for name, (values, _) in SAMPLERS.items():
        graphs[f"sampler, {name}"] = old_workflow(values, EXTRACTORS["7 values, main"][0])
    for name, (values, _) in EXTRACTORS.items():
        graphs[f"extractor, {name}"] = old_workflow(MAIN_SAMPLER, values)
    with page.serve() as url:
        profile = tmp_path_factory.mktemp("profile")
        script = OPEN % json.dumps(list(graphs.values()))
        answers = json.loads(evaluate(chromium, url, script, profile, timeout=280))
        again = json.dumps([answers[list(graphs).index("selva_basic")]["saved"]])
        answers += json.loads(evaluate(chromium, url, OPEN % again, profile.with_name("again"), timeout=280))
    return dict(zip([*graphs, "selva_basic, saved again"], answers, strict=True))


def inputs(answer, kind):
    (found,) = (node["inputs"] for node in answer["prompt"].values() if node["class_type"] == kind)
    return found


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("name", [path.stem for path in WORKFLOWS])
def test_the_page_opens_each_example_with_no_missing_node(opened, name):
    graph = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text())
    answer = opened[name]
    assert answer["missing"] == []
    running = [node for node in graph["nodes"] if "Note" not in node["type"]]
    assert len(answer["prompt"]) == len(running)
    assert inputs(answer, "SelvaModelLoader")["variant"] == "demo_16k"
    linked = [link for node in running for link in node["inputs"] if link["link"] is not None]
    sent = [v for node in answer["prompt"].values() for v in node["inputs"].values() if isinstance(v, list)]
    assert len(sent) == len(linked)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("name", SAMPLERS)
def test_each_old_layout_of_the_sampler_keeps_its_values(opened, name):
    found = inputs(opened[f"sampler, {name}"], "SelvaSampler")
    expected = EXPECTED_SAMPLER | SAMPLERS[name][1]
    assert {key: found[key] for key in expected} == expected
    assert opened[f"sampler, {name}"]["missing"] == []
    assert found["takes"] == 1
    assert found["solver"] == "euler"


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("name", EXTRACTORS)
def test_each_old_layout_of_the_extractor_keeps_its_values(opened, name):
    found = inputs(opened[f"extractor, {name}"], "SelvaFeatureExtractor")
    expected = EXPECTED_EXTRACTOR | EXTRACTORS[name][1]
    assert {key: found[key] for key in expected} == expected


@pytest.mark.slow
@pytest.mark.browser
def test_the_wiring_of_the_public_packs_workflow_stays(opened):
    prompt = opened["sampler, 8 values, main"]["prompt"]
    kinds = {number: node["class_type"] for number, node in prompt.items()}
    wires = {
        (kinds[value[0]], value[1], kinds[number], name)
        for number, node in prompt.items()
        for name, value in node["inputs"].items()
        if isinstance(value, list)
    }
    assert wires == {
        ("SelvaModelLoader", 0, "SelvaFeatureExtractor", "model"),
        ("VHS_LoadVideo", 0, "SelvaFeatureExtractor", "video"),
        ("VHS_LoadVideo", 3, "SelvaFeatureExtractor", "video_info"),
        ("SelvaModelLoader", 0, "SelvaSampler", "model"),
        ("SelvaFeatureExtractor", 0, "SelvaSampler", "features"),
        ("VHS_LoadVideo", 0, "VHS_VideoCombine", "images"),
        ("SelvaSampler", 0, "VHS_VideoCombine", "audio"),
        ("SelvaFeatureExtractor", 1, "VHS_VideoCombine", "frame_rate"),
    }


@pytest.mark.slow
@pytest.mark.browser
def test_a_workflow_of_ours_opens_as_it_was_saved(opened):
    assert opened["selva_basic, saved again"]["prompt"] == opened["selva_basic"]["prompt"]
