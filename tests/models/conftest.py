"""The recorded small layers, and modules filled by the rule they were recorded with."""

import sys

import pytest
import torch

from selva_audio.models import fast_path, fast_product


@pytest.fixture
def asked_anew():
    """What is remembered of numba and the CPU is asked for again in the test, and after it."""
    for question in (fast_path.steps_of, fast_product.compiler):
        question.cache_clear()
    yield
    for question in (fast_path.steps_of, fast_product.compiler):
        question.cache_clear()


@pytest.fixture
def without_numba(asked_anew, monkeypatch):
    """A Python that has no numba."""
    for name in [name for name in sys.modules if name.startswith("selva_audio.models.kernels.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)


@pytest.fixture(scope="module")
def units(golden):
    return golden("units")


@pytest.fixture(scope="module")
def load(units, rule_state):
    """Fill a module with rule-made weights whose keys start with ``prefix``."""

    def fill_module(module: torch.nn.Module, prefix: str) -> torch.nn.Module:
        shapes = {f"{prefix}{key}": list(value.shape) for key, value in module.state_dict().items()}
        state = rule_state(shapes, units.meta["seed"])
        module.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()})
        return module.requires_grad_(False)

    return fill_module


@pytest.fixture(scope="module")
def unit_input(units, fill):
    def make(name: str, shape: tuple[int, ...], **kwargs) -> torch.Tensor:
        return torch.from_numpy(fill.make_input(f"unit.{name}", shape, units.meta["seed"], **kwargs))

    return make
