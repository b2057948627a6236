"""SelvaLoraScheduler, SelvaSkipExperiment and the route of its button, over the stand-in."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from comfyui.stand_in import Interrupted
from comfyui.test_training_nodes import make_data

from selva_audio.errors import InputError, MissingFileError, SelVAError

BASE = {"steps": 2, "rank": 2, "alpha": 4, "batch_size": 2, "warmup_steps": 0, "save_every": 2,
        "val_fraction": 0.0, "sample_steps": 0, "target": "qkv"}  # fmt: skip


@pytest.fixture(scope="module")
def data(model, images, tmp_path_factory, comfy_once):
    with pytest.MonkeyPatch.context() as patch:
        for name, module in comfy_once.modules.items():
            patch.setitem(sys.modules, name, module)
        from selva_audio.comfyui import nodes

        extractor = {"SelvaFeatureExtractor": nodes.SelvaFeatureExtractor}
        return make_data(extractor, model, images, tmp_path_factory.mktemp("data") / "clips")


@pytest.fixture
def write_plan(comfy, data):
    def write(name="plan.json", place="models", **values):
        usual = {"kind": "lora", "data_dir": str(data), "base": BASE, "on_error": "stop"}
        usual["experiments"] = [{"id": "a"}, {"id": "b", "lr": 0.01}]
        path = comfy.base / place / name
        path.write_text(json.dumps({**usual, **values}))
        return path

    return write


@pytest.fixture
def schedule(nodes, model, write_plan):
    def run(typed="plan.json", **settings):
        return nodes["SelvaLoraScheduler"].execute(model, typed, **settings).args

    return run


def test_every_experiment_is_trained_once_and_told(schedule, write_plan, comfy):
    write_plan()
    comfy.previews.clear()
    path, curves, report = schedule()
    root = comfy.base / "output" / "lora_sweeps" / "plan"
    assert Path(path) == root / "experiment_summary.json"
    assert (root / "a" / "adapter_final.pt").is_file()
    assert report.splitlines()[:2] == ["a: done", "b: done"]
    assert curves.shape[0] == 1
    assert curves.max() > 0
    assert comfy.previews
    before = (root / "b" / "adapter_final.pt").stat().st_mtime_ns
    assert schedule()[2] == report
    assert (root / "b" / "adapter_final.pt").stat().st_mtime_ns == before


def test_another_file_is_another_sweep_and_names_its_own_folder(schedule, write_plan, comfy):
    write_plan("one.json", place="output", experiments=[{"id": "only"}])
    assert Path(schedule("one.json")[0]).parent == comfy.base / "output" / "lora_sweeps" / "one"
    write_plan("two.json", output_root="my/sweep", experiments=[{"id": "only"}])
    assert Path(schedule("two.json")[0]).parent == comfy.base / "output" / "my" / "sweep"


def test_the_skip_node_ends_the_experiment_that_runs_and_again_takes_it_up(
    schedule, write_plan, nodes, at_step
):
    write_plan(
        base={**BASE, "steps": 30, "save_every": 30}, experiments=[{"id": "a"}, {"id": "b", "steps": 2}]
    )
    asked = []

    def skip():
        asked.append(nodes["SelvaSkipExperiment"].execute("lora_sweeps/plan").args[0])

    at_step("a: training: step 2", skip)
    path, _, report = schedule()
    assert report.splitlines()[:2] == ["a: skipped", "b: done"]
    assert Path(asked[0]).parent == Path(path).parent
    assert json.loads(Path(path).read_text())["experiments"][0]["steps"] < 30
    assert schedule()[2].startswith("a: skipped")
    assert schedule(again=True)[2].startswith("a: done")


def test_cancel_ends_the_sweep_and_the_next_run_goes_on(schedule, write_plan, press_cancel, comfy):
    """COMPAT 5.6: the public pack marked the run as failed and began the next."""
    write_plan(base={**BASE, "steps": 4})
    press_cancel("a: training: step 2")
    with pytest.raises(Interrupted):
        schedule()
    root = comfy.base / "output" / "lora_sweeps" / "plan"
    assert not (root / "b").exists()
    assert schedule()[2].splitlines()[:2] == ["a: done", "b: done"]


def test_a_skip_without_a_running_sweep_is_a_sentence(nodes, comfy):
    """COMPAT 5.7: a stale flag ended the next run."""
    with pytest.raises(MissingFileError, match="output_root = nowhere is not there"):
        nodes["SelvaSkipExperiment"].execute("nowhere")
    (comfy.base / "output" / "empty").mkdir()
    with pytest.raises(SelVAError):
        nodes["SelvaSkipExperiment"].execute("empty")
    assert list((comfy.base / "output" / "empty").iterdir()) == []


@pytest.mark.parametrize(
    "typed", ["../plan.json", "a\0b", "x" * 300, "CON", "", "nowhere.json", "/etc/passwd"]
)
def test_a_hostile_path_is_a_sentence(schedule, comfy, typed):
    with pytest.raises(SelVAError):
        schedule(typed)
    assert [path for path in comfy.base.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "values",
    [
        {"output_root": "../../up"},
        {"output_root": "a\0b"},
        {"output_root": "x" * 300},
        {"output_root": "CON"},
        {"data_dir": "../../.."},
        {"experiments": [{"id": "../up"}]},
        {"experiments": [{"id": "a", "lr": float("nan")}]},
        {"experiments": [{"id": "a", "gamma": 1}]},
        {"experiments": []},
    ],
    ids=str,
)
def test_a_hostile_value_in_the_file_is_a_sentence_and_touches_nothing(schedule, write_plan, comfy, values):
    path = write_plan(**values)
    with pytest.raises(SelVAError) as caught:
        schedule()
    assert len(str(caught.value)) < 1200
    assert [each for each in comfy.base.rglob("*") if each.is_file()] == [path]
    assert not (comfy.base.parent / "up").exists()


def ask(comfy, wish):
    from selva_audio.comfyui.routes import SKIP_ROUTE, register_routes

    async def post():
        server = comfy.modules["server"].PromptServer.instance
        server.routes = web.RouteTableDef()
        register_routes()
        application = web.Application()
        application.add_routes(server.routes)
        async with TestClient(TestServer(application)) as client:
            sent = {"data": wish} if isinstance(wish, str) else {"json": wish}
            async with client.post(SKIP_ROUTE, **sent) as answer:
                return answer.status, await answer.json()

    return asyncio.run(post())


def test_the_button_of_the_scheduler_skips_too(schedule, write_plan, comfy, at_step):
    write_plan(
        base={**BASE, "steps": 30, "save_every": 30}, experiments=[{"id": "a"}, {"id": "b", "steps": 2}]
    )
    answers = []
    at_step("a: training: step 2", lambda: answers.append(ask(comfy, {"experiments_file": "plan.json"})))
    _, _, report = schedule()
    status, body = answers[0]
    assert status == 200
    assert Path(body["flag_path"]).name == "skip_request.json"
    assert report.splitlines()[:2] == ["a: skipped", "b: done"]


@pytest.mark.parametrize(
    "wish",
    ["", "{", [], {"experiments_file": 3}, {"experiments_file": "../x"}, {"experiments_file": "plan.json"}],
)
def test_a_request_that_makes_no_sense_is_answered_with_a_sentence(comfy, write_plan, wish):
    write_plan()
    status, body = ask(comfy, wish)
    assert status == 400
    assert len(body["error"]) > 10


def test_a_plan_that_is_not_there_tells_every_place(schedule):
    with pytest.raises(MissingFileError, match=r"models.*output"):
        schedule("nothing.json")
    with pytest.raises(InputError, match="experiments_file is empty"):
        schedule(" ")
