"""What the command line shows: one progress bar and messages on stderr, results on stdout."""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console

from ..progress import Progress as Report
from ..progress import ProgressFn
from .interrupt import interruption

stderr = Console(stderr=True, highlight=False)
_PLAIN_INTERVAL = 10.0


def set_up_logging() -> None:
    """Warnings of the library go to stderr as plain lines."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    logging.captureWarnings(True)


def say(message: str) -> None:
    """One line for people."""
    stderr.print(message, markup=False, soft_wrap=True)


def show(line: str) -> None:
    """One line of a result that was asked for, such as a listing, on stdout."""
    print(line)


def print_json(value: Any) -> None:
    """``value`` as JSON on stdout; paths become text.

    In ASCII, so that it is whole and valid in every locale and for file names that are no text.
    """
    sys.stdout.write(json.dumps(value, indent=2, default=_plain) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[ProgressFn]:
    """A callback that draws one bar; on a stderr that is no terminal, a line now and then instead."""
    with progress_bars() as bar_of, bar_of(label) as report:
        yield report


@contextlib.contextmanager
def progress_bars() -> "Iterator[Callable[[str], AbstractContextManager[ProgressFn]]]":
    """Like ``progress_bar`` for several labels, one below the other where more than one is open."""
    if not stderr.is_terminal:
        yield lambda label: contextlib.nullcontext(_plain_reporter(label))
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeRemainingColumn(), console=stderr, transient=True) as bars:

        @contextlib.contextmanager
        def bar_of(label: str) -> Iterator[ProgressFn]:
            task = bars.add_task(label, total=None)

            def report(progress: Report) -> None:
                interruption.check()
                bars.update(
                    task,
                    description=f"{label}: {progress.stage}",
                    completed=progress.step,
                    total=progress.total or None,
                )

            try:
                yield report
            finally:
                bars.refresh()
                bars.remove_task(task)

        yield bar_of


def _plain_reporter(label: str) -> ProgressFn:
    last = time.monotonic()

    def report(progress: Report) -> None:
        nonlocal last
        interruption.check()
        if time.monotonic() - last >= _PLAIN_INTERVAL:
            last = time.monotonic()
            share = f" {100 * progress.step / progress.total:.0f}%" if progress.total else ""
            say(f"{label}: {progress.stage}{share}")

    return report


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
