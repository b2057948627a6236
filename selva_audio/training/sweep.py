"""The account of a sweep: what became of each experiment, and what is left to do after a restart.

``experiment_summary.json`` is whole at any moment, and is written anew at every change. Its keys are those
that users of the public pack know (``results``, ``adapter_path``, ...) and ours beside them (``status``,
``config_hash``, ...). Nothing is trained here; see ``tasks.sweep``.
"""

import hashlib
import json
import math
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import InputError, MissingFileError
from ..files import file_digest, write_text
from ..options.sweep import PATHS, REPLACED, Experiment
from .checkpoints import last_checkpoint, read_checkpoint, step_files
from .curves import smoothed

SUMMARY, CURVES = "experiment_summary.json", "comparison_curves.png"
Status = Literal["running", "done", "skipped", "failed", "cancelled"]
Step = Literal["begin", "resume", "keep", "replace"]

_VERSION = 1
_PACK_STATUS = {"done": "completed"}
_MOST_POINTS = 200
# Of what a training tells, that which the pack has under "results".
_RESULTS = (
    "final_loss",
    "min_loss",
    "min_loss_step",
    "loss_std_last_quarter",
    "loss_at_steps",
    "loss_history",
    "log_interval",
    "grad_norm_history",
    "spectral_metrics",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one experiment.

    Attributes:
        status: how it ended.
        steps: steps that are done in all.
        losses: of every step so far; NaN where a step was left out.
        result: adapter, or what else the kind of training makes; None if there is none.
        details: what the training tells about itself, in plain values.
        error: the sentence of a failure.
    """

    status: Status
    steps: int = 0
    losses: Sequence[float] = ()
    result: Path | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


class Ledger:
    """The summary of one sweep, on disk and in memory.

    Args:
        root: folder of the sweep.
        head: values of the summary itself, such as its name.
        planned: ids of all experiments, in order.
        result_key: under which a record names its result, as ``adapter_path``.

    Raises:
        InputError: there is a summary that cannot be read.
        OutputError: the summary cannot be written.
    """

    def __init__(
        self, root: Path, head: Mapping[str, Any], planned: Sequence[str], *, result_key: str
    ) -> None:
        self.root = root
        self.run_id = secrets.token_hex(8)
        self._planned = tuple(planned)
        self._result_key = result_key
        earlier = read_summary(root) if (root / SUMMARY).is_file() else {}
        self._records: dict[str, dict[str, Any]] = {
            record["id"]: record for record in earlier.get("experiments", []) if "id" in record
        }
        for record in self._records.values():
            if record.get("status") == "running":  # its process is gone, or this one could not be here
                _set_status(record, "cancelled")
        self._head: dict[str, Any] = {
            "format_version": _VERSION,
            **head,
            "run_id": self.run_id,
            "started_at": earlier.get("started_at") or now(),
            "completed_at": None,
            "n_clips": None,
            "evaluation": earlier.get("evaluation"),
            "encodings": dict(earlier.get("encodings") or {}),
            "encoded_clips": int(earlier.get("encoded_clips") or 0),
        }
        self.write()

    def note(self, **values: Any) -> None:
        """Set values of the summary itself."""
        self._head |= values
        self.write()

    def count_encoding(self, fingerprint: str, *, clips: int, encoded: int) -> None:
        """Tell what data is used.

        Args:
            fingerprint: of the data.
            clips: how many there are.
            encoded: how many of them had to be encoded for it; the others were known.
        """
        counts = self._head["encodings"]
        counts[fingerprint] = counts.get(fingerprint, 0) + (encoded > 0)
        self._head["encoded_clips"] += encoded
        self._head["n_clips"] = clips
        self.write()

    def decide(self, experiment_id: str, digest: str, *, again: bool) -> Step:
        """What is to be done for an experiment.

        Args:
            experiment_id: of the experiment.
            digest: ``config_hash`` of what it would be now.
            again: take up what was skipped.

        Returns:
            "keep" what is there, "resume" it, "begin", or "replace" what another configuration left.
        """
        folder = self.root / experiment_id
        record = self._records.get(experiment_id)
        if record is not None and record.get("config_hash") == digest:
            if record["status"] == "skipped" and not again:
                return "keep"
            result = folder / Path(record.get(self._result_key) or "").name
            return "keep" if record["status"] == "done" and result.is_file() else "resume"
        in_use = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        return "replace" if in_use else "begin"

    def set_aside(self, experiment_id: str) -> Path:
        """Move what another configuration left to where nothing is overwritten; returns the new place."""
        number = 1
        while (place := self.root / REPLACED / f"{experiment_id}_{number:03d}").exists():
            number += 1
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(self.root / experiment_id, place)
        self._records.pop(experiment_id, None)
        return place

    def start(self, experiment: Experiment, digest: str, *, resumed_from: Path | None) -> None:
        """An experiment begins, or goes on."""
        before = self._records.get(experiment.id, {})
        self._records[experiment.id] = {
            "id": experiment.id,
            "description": experiment.description,
            "group": experiment.group,
            "status": "running",
            "config": experiment.options.model_dump(mode="json"),
            "config_hash": digest,
            "started_at": now(),
            "seconds": before.get("seconds", 0.0),
            "resumed_from": str(resumed_from) if resumed_from is not None else None,
            "output_dir": str((self.root / experiment.id).absolute()),
            self._result_key: None,
            "results": {"status": "running"},
        }
        self.write()

    def finish(
        self, experiment_id: str, outcome: Outcome, *, seconds: float, base_sha256: str | None = None
    ) -> None:
        """An experiment ends, in whatever way.

        Args:
            experiment_id: of the experiment.
            outcome: how it ended.
            seconds: of wall time since its start.
            base_sha256: digest of the base weights after it.
        """
        record = self._records[experiment_id]
        record["seconds"] = round(record["seconds"] + seconds, 3)
        record["steps"] = outcome.steps
        record["error"] = outcome.error or None
        record["base_sha256"] = base_sha256
        record["curve"] = curve(outcome.losses)
        record[self._result_key] = str(outcome.result.absolute()) if outcome.result is not None else None
        record |= {key: value for key, value in outcome.details.items() if key not in record}
        results = {key: record.pop(key) for key in _RESULTS if key in record}
        record |= {key: results.get(key) for key in ("final_loss", "min_loss")}
        if outcome.error:
            results["error"] = outcome.error
        if outcome.status == "skipped":
            results["stopped_at_step"] = outcome.steps
        record["results"] = results | {"duration_seconds": record["seconds"]}
        _set_status(record, outcome.status)
        self.write()

    @property
    def summary(self) -> dict[str, Any]:
        """The whole account, as it is on disk."""
        order = [*self._planned, *(name for name in self._records if name not in self._planned)]
        return {
            **self._head,
            "pending": [name for name in self._planned if name not in self._records],
            "experiments": [self._records[name] for name in order if name in self._records],
        }

    def write(self) -> None:
        """Write the summary, whole or not at all."""
        write_text(self.root / SUMMARY, json.dumps(_finite(self.summary), indent=2) + "\n")


def read_summary(root: Path) -> dict[str, Any]:
    """The summary of the sweep in a folder.

    Raises:
        MissingFileError: there is none.
        InputError: it is no summary.
    """
    path = root / SUMMARY
    if not path.is_file():
        raise MissingFileError(
            f"There is no {SUMMARY} in {root}. Give the output_root of a sweep that has begun."
        )
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        records = summary["experiments"]
        if not all(isinstance(record, dict) for record in records):
            raise TypeError("an experiment is no object")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no summary of a sweep ({error}). Move it away; what was trained is then kept in "
            f"{REPLACED}/, and trained again."
        ) from error
    return dict(summary)


def config_hash(kind: str, experiment: Experiment, *, base: str, data: str) -> str:
    """SHA-256 of all that the result of an experiment depends on, with the content of files that it names.

    Args:
        kind: what is trained.
        experiment: its settings.
        base: digest of the weights that it starts from.
        data: fingerprint of the clips.
    """
    account = {
        "kind": kind,
        "options": experiment.options.model_dump(mode="json"),
        "resume": experiment.resume,
        "base": base,
        "data": data,
    }
    named = {name: str(getattr(experiment.options, name, "")) for name in PATHS}
    if any(named.values()):
        account["files"] = {name: _content(Path(path)) for name, path in named.items() if path}
    return hashlib.sha256(json.dumps(account, sort_keys=True).encode()).hexdigest()


def _content(path: Path) -> str:
    """Digest of a file, or of all files of a folder with their names; "" for what is not there."""
    if path.is_file():
        return file_digest(path)
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else []
    account = [[each.relative_to(path).as_posix(), file_digest(each)] for each in files]
    return hashlib.sha256(json.dumps(account).encode()).hexdigest() if account else ""


def curve(losses: Sequence[float]) -> dict[str, list[float]]:
    """Smoothed losses over steps, thinned to what a picture shows."""
    even = smoothed(losses)
    steps = np.unique(np.linspace(1, len(even), min(len(even), _MOST_POINTS)).round().astype(int))
    return {"steps": steps.tolist(), "loss": even[steps - 1].tolist()}


def resumable(folder: Path, steps: int, name: str = "adapter") -> Path | None:
    """The checkpoint that is furthest on and still has something to do; None without any.

    A run that was killed while its last files were written has its last checkpoint, and no result.
    """
    found = last_checkpoint(folder, name)
    if found is None or int(read_checkpoint(found).get("step", 0)) < steps:
        return found
    earlier = [path for path in step_files(folder, name) if int(read_checkpoint(path)["step"]) < steps]
    return earlier[-1] if earlier else None


def now() -> str:
    """This moment as ISO text in UTC."""
    return datetime.now(UTC).isoformat()


def _set_status(record: dict[str, Any], status: Status) -> None:
    record["status"] = status
    results = record.setdefault("results", {})
    record["results"] = {
        "status": _PACK_STATUS.get(status, status),
        **{k: v for k, v in results.items() if k != "status"},
    }


def _finite(value: Any) -> Any:
    """``value`` with None for numbers that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, Path) else value
