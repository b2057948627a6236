"""The ``selva`` command: parses, calls a task, presents. stdout is data, stderr is for people."""

import io
import os
import sys

from .interrupt import interruption
from .overview import REQUESTS, overview

CANCELLED = 130
CANCELLED_MESSAGE = "Cancelled; nothing half-written was left."


def main() -> None:
    """Console entry; never shows a traceback for what a user can cause."""
    interruption.watch()
    report = sys.unraisablehook
    # An interrupt that lands in a generator being closed is on its way already; see Interruption.check.
    sys.unraisablehook = lambda ignored: None if interruption.arrived else report(ignored)
    _prepare_streams()
    try:
        if sys.argv[1:] in REQUESTS:
            print(overview())
            code = 0
        else:
            from .app import run

            code = run(sys.argv[1:])
    except BaseException:
        if not interruption.arrived:
            raise
        sys.stderr.write(f"{CANCELLED_MESSAGE}\n")
        code = CANCELLED
    interruption.ignore()
    if interruption.arrived and code != 0:
        # Unloading the libraries would take longer than a user who cancels should wait.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(CANCELLED)
    sys.exit(code)


def _prepare_streams() -> None:
    """Make sure that something takes what is written, whatever the shell closed and the locale lacks."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open to the end)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
