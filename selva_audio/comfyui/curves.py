"""What a node shows while it trains: the losses so far as a picture, the pace and the time that is left."""

import time
from dataclasses import replace
from functools import partial
from typing import Any

from ..progress import Progress, ProgressFn


class LossCurves:
    """Passes the reports of trainings on, with a picture of all losses so far.

    Args:
        on_progress: what shows them.
        stage: which reports are of a step, with its loss.
    """

    def __init__(self, on_progress: ProgressFn, stage: str = "training") -> None:
        self._on_progress = on_progress
        self._stage = stage
        self._losses: dict[str, list[float]] = {}
        self._began: tuple[float, float] | None = None

    def __call__(self, progress: Progress) -> None:
        """Note the loss of a step; a sweep puts the name of the experiment before the stage."""
        name, _, stage = progress.stage.rpartition(": ")
        if stage == self._stage and "loss" in progress.metrics:
            losses = self._losses.setdefault(name or "loss", [])
            losses.append(progress.metrics["loss"])
            text = f"{progress.stage}: step {len(losses)}, loss {losses[-1]:.4g}{self._pace(progress)}"
            progress = replace(progress, stage=text, preview=partial(_picture, self._losses))
        self._on_progress(progress)

    def _pace(self, progress: Progress) -> str:
        """Steps per minute, and minutes to the end of the bar."""
        now, done = time.monotonic(), progress.step / progress.total
        if self._began is None:
            self._began = now, done
        seconds, share = now - self._began[0], done - self._began[1]
        if seconds <= 0 or share <= 0:
            return ""
        steps = sum(map(len, self._losses.values())) - 1
        left = seconds * (1 - done) / share
        return f", {60 * steps / seconds:.0f} steps a minute, about {left / 60:.0f} minutes left"


def _picture(losses: dict[str, list[float]]) -> Any:
    from ..tasks.pictures import losses_picture

    return losses_picture(losses)
