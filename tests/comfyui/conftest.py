"""ComfyUI's stand-in for the tests of the node pack, and values as they come over its wires."""

import copy
import sys

import pytest
import torch
from comfyui.stand_in import Comfy, Interrupted


@pytest.fixture(scope="session")
def comfy_once(tmp_path_factory):
    return Comfy(tmp_path_factory.mktemp("comfy"))


@pytest.fixture
def comfy(comfy_once, tmp_path, monkeypatch):
    """A fresh ComfyUI, its modules importable during the test only; nodes show every stage, however short."""
    for name, module in comfy_once.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    comfy_once.reset(tmp_path / "comfy")
    monkeypatch.setattr("selva_audio.comfyui.host._SAY_EVERY", 0.0)
    return comfy_once


@pytest.fixture
def at_step(comfy, monkeypatch):
    """``at_step(text, act)``: calls ``act`` once after a node has shown ``text``."""

    def watch(text, act):
        calls = []

        def check():
            if not calls and any(text in shown for shown in comfy.texts):
                calls.append(text)
                act()

        management = comfy.modules["comfy.model_management"]
        monkeypatch.setattr(management, "throw_exception_if_processing_interrupted", check)

    return watch


@pytest.fixture
def press_cancel(at_step):
    """``press_cancel(text)``: presses Cancel once a node has shown ``text``; the next run goes through."""

    def cancel():
        raise Interrupted

    return lambda text: at_step(text, cancel)


@pytest.fixture
def nodes(comfy):
    """Node classes by id."""
    from selva_audio.comfyui.nodes import NODES

    return {node.define_schema().node_id: node for node in NODES}


@pytest.fixture(scope="session")
def images():
    """``images(count, height, width, channels)``: a moving bar as an IMAGE batch."""

    def make(count=24, height=36, width=48, channels=3):
        batch = torch.zeros(count, height, width, channels)
        for index in range(count):
            batch[index, :, : 1 + index * width // count] = 0.7
        return batch

    return make


@pytest.fixture(scope="session")
def model(comfy_once):
    """The demo model as the loader gives it, but louder, shared by all tests: nothing may change it.

    It knows no moving bars, and so is next to silent where the tests ask for a level.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, module in comfy_once.modules.items():
            patch.setitem(sys.modules, name, module)
        from selva_audio.comfyui.nodes import SelvaModelLoader

        loaded = SelvaModelLoader.execute("demo_16k", "fp32", "auto").args[0]
    vocoder = copy.deepcopy(loaded.vocoder)
    for parameter in vocoder.conv_post.parameters():
        parameter.mul_(100)
    return loaded.replace(vocoder=vocoder)


@pytest.fixture(scope="session")
def features(model, images, comfy_once):
    """Features of one second, shared by all tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in comfy_once.modules.items():
            patch.setitem(sys.modules, name, module)
        from selva_audio.comfyui.nodes import SelvaFeatureExtractor

        return SelvaFeatureExtractor.execute(model, images(24), "rubber ball", fps=24.0).args[0]


@pytest.fixture(scope="session")
def kept():
    """Results that several tests compare with, by name: ``kept(name, make)`` makes each once."""
    results = {}

    def keep(name, make):
        if name not in results:
            results[name] = make()
        return results[name]

    return keep
