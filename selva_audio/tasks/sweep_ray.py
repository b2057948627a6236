"""The jobs of a sweep on a Ray cluster: each where there is room, with the results that they have here.

The account stays with the process that runs the sweep. Workers write the files of their experiments into the
same folders, which all machines must see, and look there for requests to skip. Ray is an extra, and is
imported when it is asked for.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..bundle import SelVAModel
from ..errors import CheckpointError, InputError, MissingFileError
from ..progress import Cancelled, Progress, ProgressFn
from ..runtime import RuntimePolicy, num_threads, set_num_threads
from ..training.sweep import Outcome
from ..training.sweep_skip import Moment
from .sweep_job import Job, JobResult, run_job, weights_digest

_POLL_SECONDS = 0.3
_GRACE_SECONDS = 60.0


def run_on_cluster(
    jobs: Sequence[Job],
    clips: Mapping[str, Any],
    *,
    load: Callable[[], SelVAModel],
    policy: RuntimePolicy,
    base: str,
    on_start: Callable[[Job], None],
    on_end: Callable[[Job, JobResult], bool],
    on_progress: ProgressFn,
) -> None:
    """Run jobs on the cluster that ``RAY_ADDRESS`` names, else on one of this machine.

    Args:
        jobs: in the order in which they begin.
        clips: what they are trained on, by fingerprint.
        load: gives the model, on the machine where it is called.
        policy: of the model here; tells whether a job takes a CPU or a GPU.
        base: digest that the model must have there.
        on_start: hears of each job when it begins.
        on_end: hears of each when it ends, and tells whether others may begin.
        on_progress: progress and cancel.

    Raises:
        MissingFileError: Ray is not installed.
        InputError: no machine has room for a job, or one cannot load the model.
        CheckpointError: a machine has other weights.
    """
    ray = _ray()
    with _cluster(ray):
        resource = "GPU" if policy.device.startswith("cuda") else "CPU"
        room = int(ray.cluster_resources().get(resource, 0))
        if not room:
            raise InputError(
                f"The Ray cluster has no {resource} for a training. Add a machine with one, choose another "
                "--device, or leave out --engine ray."
            )
        shared = {key: ray.put(each) for key, each in clips.items()}
        needs = {"num_cpus": 1, "num_gpus": 1} if resource == "GPU" else {"num_cpus": 1}
        worker = ray.remote(**needs, max_concurrency=2)(_Worker)
        workers = [worker.remote(load, num_threads()) for _ in range(min(room, len(jobs)))]
        try:
            _check_weights(ray, workers, base, on_progress)
            _hand_out(ray, workers, jobs, shared, on_start, on_end, on_progress)
        finally:
            for each in workers:
                ray.kill(each)


class _Worker:
    """One process of the cluster with the model in it; runs one job at a time.

    Args:
        load: gives the model.
        threads: per operation, as many as here: sums depend on it.
    """

    def __init__(self, load: Callable[[], SelVAModel], threads: int) -> None:
        set_num_threads(threads)
        self._model = load()
        self._progress = Progress("starting", 0, 0)
        self._stopped = False

    def digest(self) -> str:
        return weights_digest(self._model)

    def run(self, job: Job, clips: Any) -> JobResult:
        self._progress = Progress("starting", 0, 0)
        return run_job(self._model, job, clips, on_progress=self._report)

    def look(self) -> Progress:
        return self._progress

    def stop(self) -> None:
        self._stopped = True

    def _report(self, progress: Progress) -> None:
        if self._stopped:
            raise Cancelled
        self._progress = replace(progress, preview=None, metrics=dict(progress.metrics))


def _hand_out(
    ray: Any,
    workers: Sequence[Any],
    jobs: Sequence[Job],
    clips: Mapping[str, Any],
    on_start: Callable[[Job], None],
    on_end: Callable[[Job, JobResult], bool],
    on_progress: ProgressFn,
) -> None:
    waiting, free = list(jobs), list(workers)
    running: dict[Any, tuple[Job, Any, float]] = {}
    ended = 0
    try:
        while waiting or running:
            while waiting and free:
                worker, job = free.pop(0), waiting.pop(0)
                job = replace(job, since=job.since or Moment.now(job.root))
                on_start(job)
                running[worker.run.remote(job, clips[job.data])] = (job, worker, time.monotonic())
            done, _ = ray.wait(list(running), timeout=_POLL_SECONDS)
            for each in done:
                job, worker, began = running.pop(each)
                result = _result(ray, each, time.monotonic() - began)
                if not on_end(job, result):
                    waiting.clear()
                free.append(worker)
                ended += 1
            _report(ray, running, ended, len(jobs), on_progress)
    except BaseException:
        _stop(ray, running, on_end)
        raise


def _result(ray: Any, reference: Any, seconds: float) -> JobResult:
    """What a job left; a worker that died is a failure of its job."""
    try:
        result: JobResult = ray.get(reference)
    except ray.exceptions.RayActorError as error:
        return JobResult(
            Outcome("failed", error=f"The worker of the cluster is gone: {error}"), seconds, None
        )
    return result


def _report(ray: Any, running: Any, ended: int, total: int, on_progress: ProgressFn) -> None:
    """One report for all that runs; a worker that does not answer now is left out."""
    looks = [(job, worker.look.remote()) for job, worker, _ in running.values()]
    answered, _ = (
        ray.wait([look for _, look in looks], num_returns=len(looks), timeout=1) if looks else ([], [])
    )
    share, stages = float(ended), list[str]()
    metrics: dict[str, float] = {}
    for job, look in looks:
        if look not in answered:
            continue
        with contextlib.suppress(ray.exceptions.RayError):
            seen: Progress = ray.get(look)
            share += seen.step / seen.total if seen.total else 0.0
            stages.append(f"{job.experiment.id}: {seen.stage}")
            metrics.update(seen.metrics)
    on_progress(Progress("; ".join(stages), round(1000 * share / total), 1000, metrics))


def _stop(ray: Any, running: Any, on_end: Callable[[Job, JobResult], bool]) -> None:
    """Have every job save its state and end, and write down that it did."""
    for _, worker, _ in running.values():
        worker.stop.remote()
    ray.wait(list(running), num_returns=len(running), timeout=_GRACE_SECONDS) if running else None
    for job, _, began in running.values():
        on_end(job, JobResult(Outcome("cancelled"), time.monotonic() - began, None))


def _check_weights(ray: Any, workers: Sequence[Any], base: str, on_progress: ProgressFn) -> None:
    """Wait until each worker has the model, and compare."""
    digests = [each.digest.remote() for each in workers]
    waiting = digests
    while waiting:
        on_progress(Progress("starting workers", 0, 1000))
        waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_POLL_SECONDS)[1]
    try:
        found = set(ray.get(digests))
    except ray.exceptions.RayError as error:
        raise InputError(
            f"A machine of the Ray cluster could not load the model: {str(error).strip().splitlines()[-1]}. "
            "Install selva-audio and the weights there too."
        ) from error
    if found != {base}:
        raise CheckpointError(
            "A machine of the Ray cluster has other weights than this one, so results would differ. Run "
            "`selva models verify` on each."
        )


@contextlib.contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Connected to a cluster; one that was begun here ends here."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        place = os.environ.get("RAY_ADDRESS", "of this machine")
        raise InputError(
            f"The Ray cluster {place} cannot be used: {str(error).strip()}. Start it with "
            "`ray start --head`, and give its address in RAY_ADDRESS."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingFileError(
            "--engine ray needs Ray, which is not installed. Run `pip install selva-audio[scale]`, or leave "
            "the flag out to train on this machine."
        ) from error
    return ray
