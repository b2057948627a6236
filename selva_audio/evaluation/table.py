"""Numbers of many clips as rows and columns, and as JSON: gaps stay gaps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .intervals import mean_interval
from .sounds import Metrics

Array = NDArray[np.float64]


def columns(rows: Sequence[Metrics]) -> dict[str, Array]:
    """Values of each number over the rows that have it; numbers that no row has are left out."""
    found = {name: values[np.isfinite(values)] for name, values in _columns(rows).items()}
    return {name: values for name, values in found.items() if len(values)}


def means(rows: Sequence[Metrics]) -> Metrics:
    """Mean of each number over the rows that have it; None where none has."""
    found = columns(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(found[name].mean()) if name in found else None for name in names}


def differences(rows: Mapping[str, Metrics], base: Mapping[str, Metrics]) -> dict[str, dict[str, Any]]:
    """Mean change of each number from the base, with bounds, over the clips that both have it for."""
    common = [clip for clip in base if clip in rows]
    after, before = (_columns([each[clip] for clip in common]) for each in (rows, base))
    found = {}
    for name in after:
        change = after[name] - before.get(name, np.nan)
        change = change[np.isfinite(change)]
        if len(change):
            found[name] = as_json(asdict(mean_interval(change)))
    return found


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers rounded; None for what is not finite. Whole numbers, texts and lists stay as they are."""
    plain: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, tuple):
            plain[name] = [rounded(each) for each in value]
        else:
            plain[name] = rounded(value) if isinstance(value, float) else value
    return plain


def rounded(value: float | None) -> float | None:
    """Six digits; None for what is not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _columns(rows: Sequence[Metrics]) -> dict[str, Array]:
    """Values of each number over all rows, NaN for gaps."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {
        name: np.array([math.nan if row.get(name) is None else row[name] for row in rows], dtype=np.float64)
        for name in names
    }
