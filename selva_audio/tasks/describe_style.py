"""What came out of the style tools, and what their files hold, in lines for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..adapters.textual_inversion import read_inversion
from ..adapters.vocoder import read_vocoder
from ..flow.steering_file import read_steering
from .ditto import DittoResult
from .trained import Trained

# Under it clips do not agree, and a direction holds little more than chance.
_CONSISTENT = 0.3


def describe_trained(result: Trained, path: Path) -> list[str]:
    """What a training came to: ``500 steps, loss 0.61, validation 0.70 -> 0.63: tokens.pt``, and of what."""
    loss, checked = result.summary["final_loss"], result.summary["validation"]
    told = [f"{result.steps} steps", f"loss {loss:.4g}" if loss is not None else ""]
    if checked is not None:
        told.append(f"validation {checked['before']:.4g} -> {checked['after']:.4g}")
    return [f"{', '.join(filter(None, told))}: {path.name}", *result.report, *result.notes]


def describe_inversion(path: str | Path) -> list[str]:
    """Learned tokens of a file: how many, where they stand, what they were trained on.

    Raises:
        MissingFileError, CheckpointError: as ``read_inversion``.
    """
    found = read_inversion(path)
    place = f"template {found.template!r}" if found.space == "token" else found.inject_mode
    told = [
        f"{found.num_tokens} tokens of width {found.embeddings.shape[1]} in the {found.space} space, {place}"
    ]
    told += [f"from {found.init_text!r}"] if found.init_text else []
    told += [f"trained on {found.variant}, {found.steps} steps"] if found.variant else []
    return [f"{Path(path).name}: {', '.join(told)}", *found.notes]


def describe_vocoder(path: str | Path) -> list[str]:
    """A tuned vocoder of a file: what was tuned, of which variant.

    Raises:
        MissingFileError, CheckpointError: as ``read_vocoder``.
    """
    found = read_vocoder(path)
    count = sum(tensor.numel() for tensor in found.state.values())
    told = [
        f"{found.mode}, {count:,} numbers" if found.base_sha256 else f"a whole vocoder, {count:,} numbers"
    ]
    told += [f"filters of {found.kernel_size} taps"] if found.kernel_size else []
    told += [f"tuned for {found.meta['variant']}"] if found.meta.get("variant") else []
    told += [f"{found.meta['steps']} steps"] if found.meta.get("steps") else []
    return [f"{Path(path).name}: {', '.join(told)}", *found.notes]


def describe_steering(path: str | Path) -> list[str]:
    """Steering vectors of a file: blocks, bins of time, what they are contrasted with.

    Raises:
        MissingFileError, CheckpointError: as ``read_steering``.
    """
    found = read_steering(path)
    times, positions, width = next(iter(found.vectors.values())).shape
    told = [f"{len(found.vectors)} blocks of width {width}"]
    told.append(
        f"{times} stretches of the way from noise to sound" if times > 1 else "one vector for all times"
    )
    told += [f"{positions} positions"] if positions > 1 else []
    told += [f"against {found.meta['contrast']}"] if found.meta.get("contrast") else []
    told += [f"found in {found.variant}"] if found.variant else []
    if found.is_of_pack:
        told.append("of the public pack: added as they are, to the prompt's branch alone")
    return [f"{Path(path).name}: {', '.join(told)}"]


def describe_directions(result: Mapping[str, Any]) -> list[str]:
    """What ``extract_steering`` found: a line for each block, and a warning where clips do not agree."""
    lines = []
    for block, row in result["report"].items():
        shown = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in row.items() if value is not None]
        lines.append(f"{block}: {', '.join(shown)}")
    known = [row["consistency"] for row in result["report"].values() if row["consistency"] is not None]
    if known and max(known) < _CONSISTENT:
        lines.append(
            f"The clips do not agree: the consistency is {max(known):.2f} at best. Use clips that have more "
            "in common, or more of them."
        )
    head = f"{result['clips']} clips against {result['contrast']}: {Path(result['output']).name}"
    return [head, *lines, *result["notes"]]


def describe_search(result: DittoResult) -> list[str]:
    """What DITTO came to: ``style loss 0.41 -> 0.22, of iteration 45 of 50, 12 references``, and notes."""
    found = result.found
    told = [
        f"style loss {found.before:.4g} -> {found.after:.4g}",
        f"of iteration {found.step} of {found.history[-1].step}",
        f"{len(result.references)} reference{'s' if len(result.references) != 1 else ''}",
        f"{result.evaluations} calls of the generator",
        f"noise of length {found.norm:.3g}",
    ]
    return [", ".join(told), *result.notes]
