"""Checkpoints: what is trained, with all that a run needs to go on as if it had never stopped.

A checkpoint is a file of the kind that inference loads, with further keys beside its own: ``step``,
``optimizer`` and ``training``. One without ``training`` is of another program: its weights can be taken.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, MissingFileError, shown
from ..options.training import FitOptions
from ..weights.io import read_object, write_object

FORMAT = 1
# What may be changed between two parts of a run without making it another one.
_FREE = frozenset(("save_every", "keep_last", "patience", "min_delta", "grad_checkpoint", "sample_steps"))


def write_checkpoint(
    path: Path,
    content: Mapping[str, Any],
    step: int,
    optimizer: Mapping[str, Any],
    training: Mapping[str, Any],
) -> Path:
    """Write a checkpoint whole or not at all; returns its path.

    Args:
        path: ends in .pt.
        content: the file as inference wants it.
        step: updates done.
        optimizer: its state.
        training: everything else that a run needs; plain values and tensors.

    Raises:
        OutputError: the disk refuses it; what had the name before is as it was.
    """
    account = {"format": FORMAT, "torch": str(torch.__version__), **training}
    write_object(path, {**content, "step": step, "optimizer": dict(optimizer), "training": account})
    return path


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, ours or another program's.

    Raises:
        MissingFileError: no such file.
        CheckpointError: no checkpoint, damaged, or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"There is no checkpoint {path} to resume from. Give an adapter_stepNNNNN.pt file of a run."
        )
    content = read_object(path)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise CheckpointError(
            f"{path} is no checkpoint. Give one of the adapter_stepNNNNN.pt files of a run."
        )
    training = content.get("training", {"format": FORMAT})
    if not isinstance(training, Mapping) or training.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a checkpoint of another version of this program. Resume with that version."
        )
    return content


def last_checkpoint(folder: str | Path, name: str = "adapter") -> Path | None:
    """The checkpoint of a run that is furthest on, the cancelled ones too; None without any."""
    found: list[tuple[int, Path]] = []
    pattern = re.compile(rf"{re.escape(name)}_(?:cancelled_)?step(\d+)\.pt")
    for path in Path(folder).glob(f"{name}_*.pt"):
        match = pattern.fullmatch(path.name)
        if match:
            found.append((int(match[1]), path))
        elif path.name == f"{name}_last.pt":
            found.append((int(read_checkpoint(path).get("step", 0)), path))
    return max(found)[1] if found else None


def step_files(folder: Path, name: str) -> list[Path]:
    """The files of the regular checkpoints, in order of their steps."""
    pattern = re.compile(rf"{re.escape(name)}_step(\d+)\.pt")
    matches = [(pattern.fullmatch(path.name), path) for path in folder.glob(f"{name}_step*.pt")]
    return [path for _, path in sorted((int(match[1]), path) for match, path in matches if match)]


def check_identity(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare what must be the same for a run to go on.

    Raises:
        CheckpointError: something else is trained; all differences are named.
    """
    changed = [
        f"{key} was {shown(before.get(key))} and is {shown(now[key])} now"
        for key in now
        if before.get(key) != now[key]
    ]
    if changed:
        raise CheckpointError(
            f"{path} cannot be resumed: {'; '.join(changed)}. Use the settings of that run, or start anew."
        )


def changed_options(before: Mapping[str, Any], now: FitOptions) -> list[str]:
    """Settings that make the rest of a run other than it would have been: "lr 0.001 (was 0.0001)"."""
    values = now.model_dump(mode="json")
    # A schedule that falls to the end of the run is another one where the end is another.
    free = _FREE | ({"steps"} if now.lr_schedule == "constant" else set())
    return [
        f"{key} {values[key]} (was {before[key]})"
        for key in values
        if key not in free and key in before and before[key] != values[key]
    ]


def free_path(path: Path) -> Path:
    """``path``, or with ``_001``, ``_002``, ... before its ending where a file has that name already."""
    number, found = 0, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}_{number:03d}{path.suffix}")
    return found
