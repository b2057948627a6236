"""A model whose parts may compute inside ``on_device`` alone, as on a machine that stages them."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from torch import nn

from selva_audio.bundle import PARTS, SelVAModel
from selva_audio.runtime import RuntimePolicy


@dataclass(frozen=True, slots=True)
class WatchedPolicy(RuntimePolicy):
    """Knows which parts are on the device.

    Attributes:
        active: parts inside a block now.
        seen: names of all that were.
    """

    active: list[nn.Module] = field(default_factory=list, compare=False)
    seen: list[nn.Module] = field(default_factory=list, compare=False)

    @contextlib.contextmanager
    def on_device(self, *parts: nn.Module) -> Iterator[None]:
        self.active.extend(parts)
        self.seen.extend(parts)
        try:
            yield
        finally:
            for part in parts:
                self.active.remove(part)


@contextlib.contextmanager
def staged(model: SelVAModel) -> Iterator[tuple[SelVAModel, WatchedPolicy]]:
    """The model under such a policy; a part that computes while it is away fails the test."""
    policy = WatchedPolicy(model.policy.device, model.policy.precision)
    watched = SelVAModel(model.config, policy, model._parts, model.adapters, model.inputs)
    handles = []
    for name in PARTS:
        part = getattr(watched, name)

        def check(module: nn.Module, inputs: tuple, part: nn.Module = part, name: str = name) -> None:
            if not any(part is each for each in policy.active):
                pytest.fail(f"{name} computes while it is off the device")

        handles += [module.register_forward_pre_hook(check) for module in part.modules()]
    try:
        yield watched, policy
    finally:
        for handle in handles:
            handle.remove()
