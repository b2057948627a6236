"""Weights: file table, find and fetch, safe reading, key rules, and modules from state dicts.

``load_component`` is imported at its first use, so that listing files does not load torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .components import check_state_dict, load_component

__all__ = ["check_state_dict", "load_component"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import components

    return getattr(components, name)
