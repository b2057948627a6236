"""Inputs that change nothing in a run: said, never passed over in silence."""

import math
from typing import Any

from ..errors import InputError
from ..options import FeatureOptions, GenerateOptions, OutputOptions


def ignored_by(features: FeatureOptions, options: GenerateOptions, *, has_mask: bool = False) -> list[str]:
    """Sentences about settings of extraction and sampling that had no effect."""
    from ..tasks.ignored import ignored_settings

    return ignored_settings(features, options, OutputOptions(), has_mask=has_mask, writes_video=False)


def not_applied(socket: str, value: Any, widget: str, strength: float, default: float) -> list[str]:
    """A sentence about the strength of something that is not connected.

    Raises:
        InputError: something is connected that this version cannot apply, or a strength that is no number.
    """
    if not math.isfinite(strength):
        raise InputError(f"{widget} is {strength}, which is no finite number. The usual one is {default:g}.")
    if value is not None:
        raise InputError(f"This version cannot apply {socket}. Disconnect that input of SelVA Sampler.")
    if strength == default:
        return []
    return [f"Without effect, because nothing is connected to {socket}: {widget}."]
