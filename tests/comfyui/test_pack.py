"""The pack as ComfyUI loads it, and as its Manager installs it."""

import ast
import asyncio
import inspect
import json
import re
import runpy
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

LOAD = """
import asyncio, importlib.util, json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from comfyui.stand_in import Comfy
sys.modules.update(Comfy(Path({base!r})).modules)
for name in {blocked!r}:
    sys.modules[name] = None
name = "/base/custom_nodes/selva-audio_x_1"
root = {root!r}
spec = importlib.util.spec_from_file_location(name, root + "/__init__.py", submodule_search_locations=[root])
pack = importlib.util.module_from_spec(spec)
sys.modules[name] = pack
before, paths = set(sys.modules), list(sys.path)
spec.loader.exec_module(pack)
nodes = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
assert sys.path == paths, "COMPAT 5.24: sys.path was edited"
new = sorted(each.removeprefix(name) for each in set(sys.modules) - before)
print(json.dumps([[node.define_schema().node_id for node in nodes], new, pack.WEB_DIRECTORY, dir(pack)]))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The pack loaded under a path-shaped name, without the packages that ComfyUI lacks."""
    blocked = [line.split(">=")[0] for line in requirements()] + [
        "cyclopts",
        "rich",
        "selva_audio",
        "transformers",
    ]
    script = LOAD.format(
        tests=str(ROOT / "tests"), base=str(tmp_path_factory.mktemp("base")), blocked=blocked, root=str(ROOT)
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def requirements():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_node_is_listed_even_where_no_requirement_is_installed(loaded, nodes):
    """COMPAT 5.22: nodes must not vanish because a package is missing."""
    assert sorted(loaded[0]) == sorted(nodes)


def test_loading_imports_no_model_code(loaded):
    heavy = [
        name
        for name in loaded[1]
        if re.search(r"^\.selva_audio\.(models|weights|bundle|features|media|tasks|synthesis)", name)
    ]
    assert heavy == []


def test_the_entry_has_what_comfyui_looks_for_and_nothing_that_hides_it(loaded):
    assert "comfy_entrypoint" in loaded[3]
    assert "NODE_CLASS_MAPPINGS" not in loaded[3]
    assert (ROOT / loaded[2]).is_dir()


def test_the_root_module_does_nothing_outside_comfyui():
    assert "comfy_entrypoint" not in runpy.run_path(str(ROOT / "__init__.py"))


def test_an_old_comfyui_is_told_in_a_sentence(monkeypatch):
    from selva_audio.comfyui import comfy_entrypoint

    monkeypatch.setitem(sys.modules, "comfy_api.latest", None)
    with pytest.raises(ImportError, match=r"0\.3\.64"):
        asyncio.run(comfy_entrypoint())


def test_requirements_are_core_dependencies_of_ours():
    core = {re.match(r"[\w-]+", line)[0]: line for line in PROJECT["project"]["dependencies"]}
    assert [line for line in requirements() if line != core.get(line.split(">=")[0])] == []


def test_requirements_name_nothing_that_comfyui_brings():
    comfyuis = (
        "torch numpy einops transformers tokenizers safetensors scipy av pydantic aiohttp pillow tqdm psutil"
    )
    assert not {line.split(">=")[0] for line in requirements()} & set(comfyuis.split())


def test_the_registry_knows_publisher_name_and_the_floor():
    comfy = PROJECT["tool"]["comfy"]
    assert comfy["requires-comfyui"] == ">=0.3.64"
    assert comfy["DisplayName"] == "SelVA"
    assert comfy["PublisherId"]


def test_help_and_script_are_part_of_the_wheel():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["selva_audio"]
    package = ROOT / "selva_audio"
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    web = {path for path in (package / "comfyui" / "web").rglob("*") if path.is_file()}
    assert len(web) > 5
    assert web <= shipped


def test_a_node_is_at_most_25_lines_over_a_task(nodes):
    for name, node in nodes.items():
        (function,) = ast.parse(textwrap.dedent(inspect.getsource(node.execute))).body
        body = function.body[1:]
        assert body[-1].end_lineno - body[0].lineno + 1 <= 25, name


def test_each_example_has_a_picture_and_says_where_its_nodes_come_from():
    workflows = sorted((ROOT / "example_workflows").glob("*.json"))
    assert len(workflows) >= 4
    for path in workflows:
        assert path.with_suffix(".jpg").stat().st_size < 500_000
        for node in json.loads(path.read_text())["nodes"]:
            if node["type"].startswith("Selva"):
                assert node["properties"]["cnr_id"] == PROJECT["project"]["name"]
                assert node["properties"]["ver"] == PROJECT["project"]["version"]
        assert '"/' not in path.read_text(), "an absolute path"
