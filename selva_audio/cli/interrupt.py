"""Ctrl-C and SIGTERM: what runs is cancelled at once, also where a library swallows the exception."""

import signal
import time
from types import FrameType

_CLEANING_SECONDS = 2.0


class Interruption:
    """Whether the user asked to stop.

    The request is kept, because a ``KeyboardInterrupt`` does not always arrive: an extension module that
    is interrupted while it is imported raises something else, or nothing. It is looked at again with
    each progress report and at the end.

    Attributes:
        arrived: a signal came.
    """

    def __init__(self) -> None:
        self.arrived = False
        self._last = 0.0

    def watch(self) -> None:
        """Take over SIGINT and SIGTERM from now on; forget earlier ones."""
        self.arrived = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)

    def ignore(self) -> None:
        """Let no signal disturb the way out."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    def check(self) -> None:
        """Raise ``KeyboardInterrupt`` if the user asked to stop."""
        if self.arrived:
            raise KeyboardInterrupt

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        # A second Ctrl-C right after the first must not break the cleaning up that the first one began.
        if self.arrived and time.monotonic() - self._last < _CLEANING_SECONDS:
            return
        self.arrived, self._last = True, time.monotonic()
        raise KeyboardInterrupt


interruption = Interruption()
