"""Inputs that change nothing in a run: said, never passed over in silence."""

from ..options import FeatureOptions, GenerateOptions, Options, OutputOptions
from .schema import filled


def ignored_by(features: FeatureOptions, options: GenerateOptions, *, has_mask: bool = False) -> list[str]:
    """Sentences about settings of extraction and sampling that had no effect."""
    from ..tasks.ignored import ignored_settings

    return ignored_settings(features, options, OutputOptions(), has_mask=has_mask, writes_video=False)


def without_effect(reason: str, options: Options, node: str, *names: str) -> list[str]:
    """A sentence about those of the named settings that were changed from the node's defaults in vain."""
    usual = filled(node, {})
    fields = type(options).model_fields
    changed = [name for name in names if getattr(options, name) != usual.get(name, fields[name].default)]
    return [f"Without effect, because {reason}: {', '.join(changed)}."] if changed else []
