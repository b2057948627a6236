"""Asking a running sweep to leave the present experiment: one file that is written, seen once, and set aside.

The commands, the node, its button and a script on another machine of the cluster all write the same file.
The empty flag of the public pack, which its users make with ``touch``, is honoured too.
"""

import json
import logging
import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ..files import write_text

logger = logging.getLogger(__name__)

REQUEST, PACK_FLAG = "skip_request.json", "skip_current.flag"
HANDLED = REQUEST + ".handled"
# File systems keep times as coarsely as this.
_SLACK_SECONDS = 2.0

_State = tuple[int, int]


def write_request(root: Path, run_id: str, experiment_id: str | None) -> Path:
    """Ask for one experiment to be left; None means whichever runs. Returns the file."""
    request = {"run_id": run_id, "experiment_id": experiment_id, "time": time.time()}
    write_text(root / REQUEST, json.dumps(request) + "\n")
    return root / REQUEST


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time of a sweep: what is asked for later counts, what was there already does not.

    Attributes:
        time: seconds since 1970.
        flag: state of the pack's flag.
    """

    time: float
    flag: _State | None

    @classmethod
    def now(cls, root: Path) -> "Moment":
        """This moment, in the sweep at ``root``."""
        return cls(time.time(), _state(root / PACK_FLAG))


@dataclass(slots=True)
class SkipWatch:
    """Looks whether the experiment that runs shall be left; called at every step.

    Attributes:
        root: folder of the sweep.
        run_id: of the process that runs it; requests to earlier ones are stale.
        experiment_id: of the experiment that runs.
        since: when it began.
    """

    root: Path
    run_id: str
    experiment_id: str
    since: Moment
    _seen: _State | None = field(default=None, init=False)

    def __call__(self) -> str | None:
        """``"skipped"`` once after a request for this experiment, else None."""
        return "skipped" if self._requested() or self._flagged() else None

    def _requested(self) -> bool:
        path = self.root / REQUEST
        state = _state(path)
        if state is None or state == self._seen:
            return False
        self._seen = state
        request = _read(path)
        meant = (
            request.get("run_id") == self.run_id
            and request.get("experiment_id") in (None, self.experiment_id)
            and _seconds(request.get("time")) > self.since.time
        )
        return meant and _take(path, self.root / HANDLED)

    def _flagged(self) -> bool:
        path = self.root / PACK_FLAG
        state = _state(path)
        if state is None or state == self.since.flag:
            return False
        if state[0] / 1e9 < self.since.time - _SLACK_SECONDS:
            return False
        return _take(path, None)


def _take(path: Path, aside: Path | None) -> bool:
    """Whether this process is the one that got the request, which no other gets any more."""
    try:
        if aside is None:
            path.unlink()
        else:
            os.replace(path, aside)
    except FileNotFoundError:
        return False
    return True


def _state(path: Path) -> _State | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_ino


def _read(path: Path) -> dict[str, Any]:
    try:
        request = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        logger.warning("%s is not a request to skip (%s); it is left alone.", path, error)
        return {}
    return request if isinstance(request, dict) else {}


def _seconds(value: Any) -> float:
    """Seconds since 1970 of a number or an ISO text; of anything else the beginning of time."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return 0.0
    return float(value) if isinstance(value, int | float) else 0.0
