"""Sweeps: several trainings on data that is encoded once, with one account of all of them.

A sweep that was stopped or killed, or whose plan has changed, goes on where it was: what is done with the
same settings is kept, what is half done is resumed. Plans are read by ``options.sweep``, the account is kept
by ``training.sweep``, and a cluster runs the same jobs by ``sweep_ray``.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from ..bundle import SelVAModel
from ..errors import CheckpointError, InputError, OutputError, os_error_sentence
from ..options import ComparisonOptions
from ..options.sweep import EVALUATION, Experiment, SweepPlan, experiments, plan_schema, read_plan
from ..plots import save_figure
from ..progress import Progress, ProgressFn, ignore_progress, subtask
from ..runtime import describe_system
from ..training.sweep import CURVES, SUMMARY, Ledger, Outcome, config_hash, now, read_summary, resumable
from ..training.sweep_figure import comparison_figure
from ..training.sweep_skip import Moment, write_request
from .sweep_job import TRAININGS, Job, JobResult, run_job, weights_digest
from .train import PREPARED

__all__ = [
    "Experiment",
    "SweepPlan",
    "SweepResult",
    "experiments",
    "plan_schema",
    "read_plan",
    "run_sweep",
    "skip_experiment",
    "sweep_status",
]

Engine = Literal["local", "ray"]
_LOCK = ".sweep.lock"
_LOCK_SECONDS = 1.0  # more than a look at the lock takes, which `sweep_status` has
_ENCODING_SHARE, _EVALUATION_SHARE = 0.1, 0.3


@dataclass(frozen=True, slots=True)
class SweepResult:
    """Account of a sweep that ended.

    Attributes:
        root: folder of everything.
        summary_path: ``experiment_summary.json``.
        curves: picture of all losses; None if there are none.
        summary: content of the summary.
        notes: sentences the user should see.
    """

    root: Path
    summary_path: Path
    curves: Path | None
    summary: Mapping[str, Any]
    notes: tuple[str, ...]

    def ids(self, status: str) -> list[str]:
        """Experiments that ended so: "done", "skipped" or "failed"."""
        return [record["id"] for record in self.summary["experiments"] if record["status"] == status]


def run_sweep(
    model: SelVAModel,
    plan: SweepPlan | str | Path,
    *,
    engine: Engine = "local",
    load: Callable[[], SelVAModel] | None = None,
    again: bool = False,
    on_progress: ProgressFn = ignore_progress,
) -> SweepResult:
    """Train every experiment of a plan that is not done yet.

    Args:
        model: the base, which is not changed.
        plan: of ``read_plan``, or a file for it.
        engine: "local" trains one after another; "ray" trains on a Ray cluster whose machines see the same
            folders, as many at a time as it has room for, with the same results.
        load: gives ``model`` on a machine of the cluster; for "ray" only.
        again: take up what was skipped in an earlier run.
        on_progress: progress and cancel. Cancelling ends the sweep, and the next run goes on.

    Raises:
        InputError: a plan that makes no sense, or a sweep that another process runs.
        MissingFileError: no plan, no data, or no Ray.
        CheckpointError: the weights of the base have changed.
    """
    if engine == "ray" and load is None:
        raise InputError(
            "With the engine ray, give load: a function that loads the model on another machine."
        )
    plan = plan if isinstance(plan, SweepPlan) else read_plan(plan)
    root = plan.root.absolute()
    with _alone(root):
        begun = Moment.now(root)
        ledger = _open(model, plan, root, engine)
        base = weights_digest(model)
        ledger.note(base_sha256=base)
        clips, data = _encode(model, plan, ledger, subtask(on_progress, 0, _ENCODING_SHARE))
        jobs, notes = _jobs(plan, ledger, base, data, begun, again=again)
        book = _Book(ledger, base, plan.on_error)
        trained = 1 - _EVALUATION_SHARE if plan.eval is not None else 1
        report = subtask(on_progress, _ENCODING_SHARE, trained)
        if engine == "ray" and load is not None and jobs:
            from .sweep_ray import run_on_cluster

            run_on_cluster(
                jobs,
                clips,
                load=load,
                policy=model.policy,
                base=base,
                on_start=book.start,
                on_end=book.end,
                on_progress=report,
            )
        else:
            _run_here(model, jobs, clips, book, report)
        if plan.eval is not None and not book.stopped:
            _evaluate(model, plan, ledger, subtask(on_progress, trained, 1))
        ledger.note(completed_at=None if book.stopped else now())
        on_progress(Progress("done", 1, 1))
        curves = root / CURVES
        drawn = curves if curves.is_file() else None
        return SweepResult(root, root / SUMMARY, drawn, ledger.summary, notes)


def skip_experiment(root: str | Path, experiment_id: str | None = None) -> Path:
    """Ask the sweep that runs in ``root`` to leave an experiment and go on with the next.

    Args:
        root: ``output_root`` of the sweep.
        experiment_id: one that runs now; None means the one that runs, on a cluster any one of them.

    Returns:
        The file with the request.

    Raises:
        MissingFileError: no sweep has begun there.
        InputError: it does not run now, or the experiment does not.
    """
    root = Path(root)
    summary = read_summary(root)
    if not _is_running(root):
        raise InputError(
            f"No sweep runs in {root}, so there is nothing to skip. Begin it with `selva sweep run`."
        )
    current = [record["id"] for record in summary["experiments"] if record["status"] == "running"]
    if experiment_id is None and len(current) == 1:
        experiment_id = current[0]  # so that the next is not skipped, should this one end just now
    elif experiment_id is not None and experiment_id not in current:
        found = f"{', '.join(current)} does" if current else "none does yet"
        raise InputError(
            f"The experiment {experiment_id!r} does not run now; {found}. Wait, or leave the id out."
        )
    return write_request(root, summary["run_id"], experiment_id)


def sweep_status(root: str | Path) -> dict[str, Any]:
    """The summary of a sweep, and under ``running`` whether a process is at it now.

    Raises:
        MissingFileError: no sweep has begun there.
    """
    root = Path(root)
    running = _is_running(root)
    summary = read_summary(root)
    for record in summary["experiments"]:
        if record.get("status") == "running" and not running:
            record["status"] = "cancelled"  # the process was killed
    return {"running": running, **summary}


def _open(model: SelVAModel, plan: SweepPlan, root: Path, engine: Engine) -> Ledger:
    head = {
        "sweep_name": plan.name,
        "description": plan.description,
        "sweep_file": plan.source or None,
        "kind": plan.kind,
        "defaults": "pack" if plan.is_of_pack else "selva",
        "engine": engine,
        "variant": model.config.name,
        "system": describe_system(),
        "data_dir": str(Path(plan.data_dir).absolute()),
    }
    planned = [each.id for each in experiments(plan)]
    return Ledger(root, head, planned, result_key=TRAININGS[plan.kind].result)


def _encode(
    model: SelVAModel, plan: SweepPlan, ledger: Ledger, on_progress: ProgressFn
) -> tuple[dict[str, Any], dict[str, str]]:
    """Clips by fingerprint, each encoded once, and the fingerprint of each experiment's."""
    training, planned = TRAININGS[plan.kind], experiments(plan)
    settings = {
        each.id: tuple(getattr(each.options, name) for name in training.clip_settings) for each in planned
    }
    distinct = list(dict.fromkeys(settings.values()))
    found: dict[str, Any] = {}
    of_settings: dict[tuple[Any, ...], str] = {}
    for place, values in enumerate(distinct):
        clips = training.load(
            model,
            Path(plan.data_dir),
            **dict(zip(training.clip_settings, values, strict=True)),
            prepared=ledger.root / PREPARED,
            on_progress=subtask(on_progress, place / len(distinct), (place + 1) / len(distinct)),
        )
        ledger.count_encoding(clips.fingerprint, clips=len(clips), encoded=clips.encoded)
        found[clips.fingerprint] = clips
        of_settings[values] = clips.fingerprint
    return found, {name: of_settings[values] for name, values in settings.items()}


def _jobs(
    plan: SweepPlan, ledger: Ledger, base: str, data: Mapping[str, str], begun: Moment, *, again: bool
) -> tuple[list[Job], tuple[str, ...]]:
    """What is left to do, and sentences about what was moved away for it."""
    jobs: list[Job] = []
    notes = []
    for each in experiments(plan):
        digest = config_hash(plan.kind, each, base=base, data=data[each.id])
        step = ledger.decide(each.id, digest, again=again)
        if step == "keep":
            continue
        if step == "replace":
            notes.append(f"What {each.id} had from other settings was moved to {ledger.set_aside(each.id)}.")
        resume = Path(each.resume) if each.resume else None
        if step == "resume":
            folder, name = ledger.root / each.id, TRAININGS[plan.kind].name
            resume = resumable(folder, each.options.steps, name) or resume
        job = Job(
            kind=plan.kind,
            experiment=each,
            digest=digest,
            data_dir=Path(plan.data_dir).absolute(),
            data=data[each.id],
            root=ledger.root,
            resume=resume,
            run_id=ledger.run_id,
            # Encoding belongs to the first experiment: who asks to skip meanwhile means that one.
            since=None if jobs else begun,
        )
        jobs.append(job)
    return jobs, tuple(notes)


def _run_here(
    model: SelVAModel,
    jobs: Sequence[Job],
    clips: Mapping[str, Any],
    book: "_Book",
    on_progress: ProgressFn,
) -> None:
    for place, job in enumerate(jobs):
        share = subtask(on_progress, place / len(jobs), (place + 1) / len(jobs))
        job = replace(job, since=job.since or Moment.now(job.root))
        book.start(job)
        began = time.monotonic()
        try:
            result = run_job(model, job, clips[job.data], on_progress=_named(job.experiment.id, share))
        except BaseException:
            book.end(job, JobResult(Outcome("cancelled"), time.monotonic() - began, None))
            raise
        if not book.end(job, result):
            return


def _evaluate(model: SelVAModel, plan: SweepPlan, ledger: Ledger, on_progress: ProgressFn) -> None:
    """Compare the base with all that is done, unless that very comparison is there."""
    from .evaluate_adapters import evaluate_adapters

    done = [record for record in ledger.summary["experiments"] if record["status"] == "done"]
    if plan.eval is None or not done:
        return
    results = {record["id"]: record[TRAININGS[plan.kind].result] for record in done}
    settings = plan.eval.model_dump(mode="json")
    account = [settings, [[record["id"], record["config_hash"]] for record in done]]
    before = ledger.summary["evaluation"]
    if before and before.get("account") == account and Path(before["summary_path"]).is_file():
        return
    comparison = evaluate_adapters(
        model,
        ComparisonOptions.parse(
            **settings | {"data_dir": plan.eval.data_dir or plan.data_dir},
            name=plan.name,
            output_dir=str(ledger.root / EVALUATION),
            adapters=[{"id": "base"}, *({"id": name, "path": path} for name, path in results.items())],
        ),
        on_progress=on_progress,
    )
    figure = comparison.figure_path
    files = {"summary_path": str(comparison.summary_path), "figure_path": str(figure) if figure else None}
    ledger.note(evaluation=files | {"account": account})


def _named(name: str, on_progress: ProgressFn) -> ProgressFn:
    return lambda progress: on_progress(replace(progress, stage=f"{name}: {progress.stage}"))


class _Book:
    """Writes down that experiments begin and end.

    Attributes:
        stopped: a failure ended the sweep.
    """

    def __init__(self, ledger: Ledger, base: str, on_error: str) -> None:
        self._ledger = ledger
        self._base = base
        self._on_error = on_error
        self.stopped = False

    def start(self, job: Job) -> None:
        self._ledger.start(job.experiment, job.digest, resumed_from=job.resume)

    def end(self, job: Job, result: JobResult) -> bool:
        """Whether the sweep goes on."""
        self._ledger.finish(
            job.experiment.id, result.outcome, seconds=result.seconds, base_sha256=result.base_sha256
        )
        figure = comparison_figure(self._ledger.summary)
        if figure is not None:
            save_figure(figure, self._ledger.root / CURVES)
        if result.base_sha256 not in (None, self._base):
            raise CheckpointError(
                f"After {job.experiment.id} the weights of the base are not what they were, so that nothing "
                "trained after it would be right. The sweep ends here; load the model anew, and report this."
            )
        self.stopped |= result.outcome.status == "failed" and self._on_error == "stop"
        return not self.stopped


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the lock of a sweep.

    Raises:
        InputError: another process has it.
        OutputError: the folder cannot be made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(os_error_sentence(error)) from error
    lock = FileLock(root / _LOCK)
    try:
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout as error:
        raise InputError(
            f"Another process runs the sweep in {root}. Wait for its end, or give the plan another "
            "output_root."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _is_running(root: Path) -> bool:
    if not (root / _LOCK).is_file():
        return False
    lock = FileLock(root / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
