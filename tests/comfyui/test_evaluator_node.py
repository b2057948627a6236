"""SelvaLoraEvaluator over the stand-in."""

import json
from pathlib import Path

import pytest
from comfyui.test_sweep_nodes import data  # noqa: F401 (a fixture)
from small_generator import moved

from selva_audio.adapters import Adapter, write_adapter
from selva_audio.errors import SelVAError


@pytest.fixture
def evaluate(nodes, model, comfy, data):  # noqa: F811
    """``evaluate(**values)``: the outputs of the node for a file with these values."""

    def run(typed="eval.json", **values):
        usual = {"data_dir": str(data), "output_dir": "compared", "steps": 1, "max_clips": 1}
        usual["adapters"] = [{"id": "base"}, {"id": "tuned", "path": "adapters/tuned.pt"}]
        path = comfy.base / "models" / "eval.json"
        path.write_text(json.dumps({**usual, **values}))
        return nodes["SelvaLoraEvaluator"].execute(model, typed).args

    (comfy.base / "adapters").mkdir()
    made = moved(model.generator, seed=1, amount=0.3)
    told = {**made.meta, "variant": "demo_16k", "clip_conditioning": "on"}
    write_adapter(comfy.base / "adapters" / "tuned.pt", Adapter(made.deltas, told))
    return run


def test_adapters_and_base_are_compared_in_numbers_sounds_and_a_picture(evaluate, comfy):
    path, picture, report = evaluate()
    folder = comfy.base / "output" / "compared"
    assert Path(path) == folder / "eval_summary.json"
    assert [each["status"] for each in json.loads(Path(path).read_text())["adapters"]] == ["completed"] * 2
    assert len(list((folder / "tuned").glob("*.wav"))) == 1
    assert len(list((folder / "reference").iterdir())) == 1
    assert [line.split(": ")[0] for line in report.splitlines()[:2]] == ["base", "tuned"]
    assert "mel_l1 " in report
    assert picture.shape[0] == 1
    assert 0 <= picture.min() < picture.max() <= 1


def test_another_file_is_another_comparison_and_numbers_of_several_clips_are_told(
    evaluate, comfy, nodes, model
):
    evaluate()
    usual = (comfy.base / "models" / "eval.json").read_text()
    changed = json.loads(usual) | {"max_clips": 2, "output_dir": "other", "seed": 7}
    (comfy.base / "output" / "other.json").write_text(json.dumps(changed))
    path, _, report = nodes["SelvaLoraEvaluator"].execute(model, "other.json").args
    told = json.loads(Path(path).read_text())
    assert Path(path).parent == comfy.base / "output" / "other" and (told["n_clips"], told["seed"]) == (2, 7)
    whole = told["adapters"][1]["set_metrics"]
    assert whole["clip_diversity"] > 0
    assert f"ltas_distance {whole['ltas_distance']['value']:.3g}, " in report.splitlines()[1]


def test_an_adapter_that_is_nowhere_fails_alone(evaluate):
    report = evaluate(adapters=[{"id": "base"}, {"id": "gone", "path": "adapters/gone.pt"}])[2]
    assert "copies 0" in report.splitlines()[0]
    assert "gone: failed" in report


def test_the_node_looks_again_when_an_adapter_changes(evaluate, nodes, comfy):
    evaluate()
    mark = nodes["SelvaLoraEvaluator"].fingerprint_inputs
    before = mark(eval_file="eval.json", model=None)
    assert mark(eval_file="eval.json", model=None) == before
    (comfy.base / "adapters" / "tuned.pt").touch()
    assert mark(eval_file="eval.json", model=None) != before


@pytest.mark.parametrize(
    "values",
    [
        {"typed": "../eval.json"},
        {"typed": ""},
        {"typed": "a\0b"},
        {"output_dir": "../../up"},
        {"output_dir": "a\0b"},
        {"output_dir": "CON"},
        {"data_dir": "../.."},
        {"data_dir": "nowhere"},
        {"adapters": [{"id": "x", "path": "../../etc/passwd"}]},
        {"adapters": []},
        {"steps": 10**9},
        {"gamma": 1},
    ],
    ids=str,
)
def test_a_hostile_value_is_a_sentence_and_touches_nothing(evaluate, comfy, values):
    with pytest.raises(SelVAError) as caught:
        evaluate(**values)
    assert len(str(caught.value)) < 800
    assert not (comfy.base / "output" / "compared").exists()
    assert not (comfy.base.parent / "up").exists()
