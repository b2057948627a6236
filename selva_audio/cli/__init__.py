"""The ``selva`` command: parses, calls a task, presents. stdout is data, stderr is for people."""

import sys


def main() -> None:
    """Console entry; never shows a traceback for what a user can cause."""
    from .app import run

    sys.exit(run(sys.argv[1:]))
