"""The real page opens our workflows, and those that older packs saved, with each value on its widget."""

import json
from pathlib import Path

import pytest
from browser import evaluate
from comfyui.layouts import LAYOUTS, OPEN

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))


@pytest.fixture(scope="module")
def opened(chromium, tmp_path_factory):
    """What the page made of every workflow: the examples by name, the old ones by layout."""
    from comfyui import page

    graphs = {path.stem: json.loads(path.read_text()) for path in WORKFLOWS}
    graphs |= {name: graph for name, (graph, _, _) in LAYOUTS.items()}
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
    loaders = [each for each in running if each["type"] == "SelvaModelLoader"]
    assert all(inputs(answer, each["type"])["variant"] == "demo_16k" for each in loaders)
    linked = [link for node in running for link in node["inputs"] if link["link"] is not None]
    sent = [v for node in answer["prompt"].values() for v in node["inputs"].values() if isinstance(v, list)]
    assert len(sent) == len(linked)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("name", LAYOUTS)
def test_each_old_layout_keeps_its_values(opened, name):
    _, kind, expected = LAYOUTS[name]
    found = inputs(opened[name], kind)
    assert {key: found[key] for key in expected} == expected
    assert opened[name]["missing"] == []


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
