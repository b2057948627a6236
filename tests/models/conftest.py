"""The recorded small layers, and modules filled by the rule they were recorded with."""

import pytest
import torch


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
