"""How long work reports itself and how it is cancelled.

A long function takes ``on_progress`` as its last argument and calls it at least once a second.
To cancel, the callback raises (``Cancelled``, ``KeyboardInterrupt`` or a front end's own type);
nothing between it and the front end swallows that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


class Cancelled(Exception):
    """Raised by a progress callback to stop the work; not an error."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One report.

    Attributes:
        stage: what is being done, as a short phrase ("reading video").
        step: steps done so far, 0 to ``total``.
        total: steps in all; 0 when not known.
        metrics: numbers worth showing (loss, bytes per second).
        preview: an array to show, such as a mel (M, F), or a function that makes it when called, for what
            costs time; None for most reports.
    """

    stage: str
    step: int
    total: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    preview: Any = None


ProgressFn = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """Default callback: shows nothing, never cancels."""


def subtask(on_progress: ProgressFn, start: float, end: float, *, total: int = 1000) -> ProgressFn:
    """Callback that maps a child's 0..total onto the share ``start``..``end`` (0 to 1) of one bar.

    Several stages then read as a single bar of ``total`` steps; the stage names pass through.
    """

    def report(progress: Progress) -> None:
        done = progress.step / progress.total if progress.total > 0 else 0.0
        share = start + (end - start) * min(max(done, 0.0), 1.0)
        on_progress(replace(progress, step=round(share * total), total=total))

    return report
