"""What a training came to: what every summary tells, and the result where it is no adapter."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..options import FitOptions
from ..training.curves import LOG, RAW, SMOOTHED, smoothed
from ..training.loop import FitResult
from ..training.validation import ValidationLosses, paired_difference

SUMMARY = "summary.json"
LOG_INTERVAL = 50  # steps, as in the summaries of the public pack


@dataclass(frozen=True, slots=True)
class Trained:
    """Files and numbers of a training.

    Attributes:
        path: of what is to be loaded; where it was stopped, the checkpoint.
        safetensors_path: the same as safetensors; None where it was stopped.
        status: "done", or the word of ``should_stop``.
        steps: updates done.
        losses: of each step; NaN where its numbers were not finite.
        history: each validation, with its ``step`` and ``val_loss``.
        summary: all of it in plain values.
        curves: picture of the smoothed losses.
        summary_path: the summary as JSON.
        report: what was trained, one line each.
        notes: sentences that the user should see.
    """

    path: Path
    safetensors_path: Path | None
    status: str
    steps: int
    losses: tuple[float, ...]
    history: tuple[Mapping[str, float], ...]
    summary: dict[str, Any]
    curves: Path
    summary_path: Path
    report: tuple[str, ...]
    notes: tuple[str, ...]

    # As the records of sweeps name it.
    embeddings_path = property(lambda self: self.path, doc="``path``, of learned tokens.")
    checkpoint_path = property(lambda self: self.path, doc="``path``, of a vocoder.")

    @classmethod
    def of(
        cls,
        result: FitResult,
        summary: dict[str, Any],
        summary_path: Path,
        report: tuple[str, ...],
        notes: tuple[str, ...],
    ) -> "Trained":
        """From what ``fit`` gave."""
        twin = result.path.with_suffix(".safetensors")
        return cls(
            path=result.path,
            safetensors_path=twin if result.status == "done" and twin.is_file() else None,
            status=result.status,
            steps=result.steps,
            losses=result.losses,
            history=result.history,
            summary=summary,
            curves=result.path.parent / SMOOTHED,
            summary_path=summary_path,
            report=report,
            notes=notes,
        )


def plain_summary(result: FitResult, options: FitOptions) -> dict[str, Any]:
    """What every summary tells, as the public pack names it."""
    losses = np.asarray(result.losses)
    finite = losses[np.isfinite(losses)]
    even = smoothed(result.losses)
    lowest = int(np.nanargmin(even)) if len(finite) else None
    known = {str(step): rounded(even[step - 1]) for step in range(LOG_INTERVAL, len(even) + 1, LOG_INTERVAL)}
    return {
        "status": result.status,
        "steps": result.steps,
        "stopped_early": result.stopped_early,
        "config": options.model_dump(mode="json"),
        "final_loss": rounded(even[-1]) if len(finite) else None,
        "min_loss": None if lowest is None else rounded(even[lowest]),
        "min_loss_step": None if lowest is None else lowest + 1,
        "loss_std_last_quarter": rounded(np.std(finite[-max(len(finite) // 4, 1) :]))
        if len(finite)
        else None,
        "loss_at_steps": known,
        "loss_history": list(known.values()),
        "log_interval": LOG_INTERVAL,
        "left_out": result.left_out,
        "duration_seconds": round(result.seconds, 2),
        "files": {"log": LOG, "loss_raw": RAW, "loss_smoothed": SMOOTHED},
    }


def paired_summary(before: ValidationLosses, after: ValidationLosses, result: FitResult) -> dict[str, Any]:
    """What a summary tells of fixed-noise losses before and after: their difference clip by clip."""
    mean, low, high = paired_difference(after, before)
    return {
        "clips": list(before.names),
        "before": before.mean,
        "after": after.mean,
        "difference": mean,
        "difference_90": [low, high],
        "best": dict(result.best),
        "history": [dict(each) for each in result.history],
    }


def rounded(value: float) -> float | None:
    """A number for a summary; None where it is not finite."""
    return round(float(value), 6) if math.isfinite(value) else None
