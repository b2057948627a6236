"""LoRA adapters of the generator: in a model, in files, and in arithmetic."""

from .algebra import concatenate, merge, plain, resize, uniform
from .formats import read_adapter, write_adapter
from .inject import (
    adapt,
    adapter_meta,
    collect,
    draw_dropout,
    inject,
    parameter_groups,
    strengths,
    trainable_parameters,
)
from .record import Adapter, Delta, dense
from .residual import resolved
from .targets import PRESETS, TargetReport, select_targets

__all__ = [
    "PRESETS",
    "Adapter",
    "Delta",
    "TargetReport",
    "adapt",
    "adapter_meta",
    "collect",
    "concatenate",
    "dense",
    "draw_dropout",
    "inject",
    "merge",
    "parameter_groups",
    "plain",
    "read_adapter",
    "resize",
    "resolved",
    "select_targets",
    "strengths",
    "trainable_parameters",
    "uniform",
    "write_adapter",
]
