"""The ``selva`` command: parses, calls a task, presents. stdout is data, stderr is for people."""

import os
import sys

from .interrupt import interruption

CANCELLED = 130
CANCELLED_MESSAGE = "Cancelled; nothing half-written was left."


def main() -> None:
    """Console entry; never shows a traceback for what a user can cause."""
    interruption.watch()
    try:
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
