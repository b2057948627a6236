"""Several runs, one after another or overlapped: a video is read and another written while the model works.

Model work stays in the caller's thread, and so do all callbacks. A second thread plans the next run and reads
its frames ahead; a third writes the one before. What is made is the same to the byte.
"""

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from ..bundle import SelVAModel
from ..errors import SelVAError
from ..features import ReadAhead, open_frames
from ..progress import Cancelled, Progress, ProgressFn, ignore_progress
from ..records import RunResult
from ..runtime import num_threads
from .generate import Look, look_up
from .run import PlannedRun, make_sound, write_sound

Job = TypeVar("Job")
Outcome: TypeAlias = RunResult | SelVAError | OSError
Plan: TypeAlias = Callable[[Job], PlannedRun]
Display: TypeAlias = Callable[[Job], contextlib.AbstractContextManager[ProgressFn]]
OnEnd: TypeAlias = Callable[[Job, Outcome], None]
Finish: TypeAlias = Callable[[ProgressFn], Outcome]

_TICK = 0.2


def run_in_turn(
    model: SelVAModel, jobs: Sequence[Job], plan: Plan[Job], progress_for: Display[Job], on_end: OnEnd[Job]
) -> None:
    """Run jobs one after another.

    Args:
        model: the bundle.
        jobs: what ``plan`` knows.
        plan: checks a job; see ``plan_run``.
        progress_for: opens the progress display of a job.
        on_end: hears what became of each job, in order; a failure is no reason to stop.

    Raises:
        BaseException: whatever the callbacks raise, which ends all.
    """
    for job in jobs:
        outcome: Outcome
        try:
            with progress_for(job) as on_progress:
                run = plan(job)
                if run.is_done:
                    outcome = run.skipped()
                else:
                    sound = make_sound(model, run, on_progress=on_progress)
                    outcome = write_sound(run, sound, on_progress=on_progress)
        except (SelVAError, OSError) as error:
            outcome = error
        on_end(job, outcome)


def run_overlapped(
    model: SelVAModel, jobs: Sequence[Job], plan: Plan[Job], progress_for: Display[Job], on_end: OnEnd[Job]
) -> None:
    """As ``run_in_turn``, while the next video is read ahead and the last sound is written.

    ``plan`` is called from a thread. Two displays may be open at once: that of the job which is being written
    and that of the next. When all is cancelled, a sound that was finished before is still written, unless it
    was its own progress report that cancelled, or a second interruption comes.
    """
    with contextlib.suppress(SelVAError, OSError):
        # The weights are named here, as that may take long and report; each job tells why they cannot be.
        model.identities()
    with _Overlap(model, plan, on_end) as overlap:
        coming = [overlap.look(job) for job in jobs[:1]]
        for job, following in zip(jobs, [*jobs[1:], None], strict=True):
            seen = coming.pop()
            overlap.wait_for(seen)
            if following is not None:
                coming.append(overlap.look(following))
            overlap.run(job, seen, progress_for)


def has_free_core(device: str) -> bool:
    """Whether a core is left beside the model's work, without which overlapping brings nothing."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return cores > (num_threads() if device == "cpu" else 1)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A job as the reading thread leaves it; the frames are still being read."""

    run: PlannedRun
    look: Look | None = None
    stream: ReadAhead | None = None


class _Overlap(Generic[Job]):
    """The two threads beside the caller's, and what they tell it.

    Everything runs in the order of the jobs: the reading thread plans one, reads its frames, and goes on to
    the next; the writing thread has one sound at a time. What they have to say waits for the caller's thread.
    """

    def __init__(self, model: SelVAModel, plan: Plan[Job], on_end: OnEnd[Job]) -> None:
        self._model = model
        self._plan = plan
        self._on_end = on_end
        self._reader = ThreadPoolExecutor(1, "selva-read")
        self._writer = ThreadPoolExecutor(1, "selva-write")
        self._writing: Future[None] | None = None
        self._news: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._displays: deque[contextlib.ExitStack] = deque()
        self._streams: set[ReadAhead] = set()
        self._lock = threading.Lock()
        self._is_over = False
        self._is_unwanted = False

    def __enter__(self) -> "_Overlap[Job]":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._settle()
        finally:
            self._stop()

    def look(self, job: Job) -> "Future[_Seen]":
        """Have a job planned, and its frames read ahead."""
        return self._reader.submit(self._look, job)

    def wait_for(self, work: "Future[Any]") -> None:
        """Return when a thread has done its work; listen until then."""
        work.add_done_callback(lambda _: self._news.put(_nothing))
        while not work.done():
            try:
                news = self._news.get(timeout=_TICK)
            except queue.Empty:
                continue
            news()

    def run(self, job: Job, seen: "Future[_Seen]", progress_for: Display[Job]) -> None:
        """Make the sound of a job here, and have it written."""
        display = contextlib.ExitStack()
        self._displays.append(display)
        shown: ProgressFn = ignore_progress
        finish: Finish
        try:
            shown = display.enter_context(progress_for(job))
            finish = self._make(seen.result(), shown)
        except (SelVAError, OSError) as error:
            finish = _outcome(error)
        self._settle()
        self._writing = self._writer.submit(self._write, job, finish, shown)

    def _look(self, job: Job) -> _Seen:
        if self._is_over:
            raise Cancelled
        run = self._plan(job)
        if not run.needs_frames:
            return _Seen(run)
        assert run.source is not None
        look = look_up(self._model, run.source, run.features, run.mask)
        if look.cache.has(look.key):
            return _Seen(run, look)
        stream = ReadAhead(partial(open_frames, self._model, look.source, run.features))
        with self._lock:
            if not self._is_over:
                self._streams.add(stream)
                self._reader.submit(stream.fill)
        return _Seen(run, look, stream)

    def _make(self, seen: _Seen, shown: ProgressFn) -> "Finish":
        def on_progress(progress: Progress) -> None:
            self._listen()
            shown(progress)

        run, stream = seen.run, seen.stream
        if run.is_done:
            return _outcome(run.skipped())
        try:
            sound = make_sound(self._model, run, look=seen.look, stream=stream, on_progress=on_progress)
        finally:
            if stream is not None:
                stream.close()
                with self._lock:
                    self._streams.discard(stream)
        return lambda on_progress: write_sound(run, sound, on_progress=on_progress)

    def _write(self, job: Job, finish: "Finish", shown: ProgressFn) -> None:
        def on_progress(progress: Progress) -> None:
            if self._is_unwanted:
                raise Cancelled
            self._news.put(partial(self._show, shown, progress))

        outcome: Outcome
        try:
            outcome = finish(on_progress)
        except (SelVAError, OSError) as error:
            outcome = error
        self._news.put(partial(self._end, job, outcome))

    def _settle(self) -> None:
        """Return when nothing is being written and all is told; raise what the writing raised."""
        if self._writing is not None:
            self.wait_for(self._writing)
            self._writing.result()
        self._listen()

    def _listen(self) -> None:
        while not self._news.empty():
            self._news.get()()

    def _show(self, shown: ProgressFn, progress: Progress) -> None:
        if self._is_over:
            return
        try:
            shown(progress)
        except BaseException:
            self._is_unwanted = True
            raise

    def _end(self, job: Job, outcome: Outcome) -> None:
        self._displays.popleft().close()
        self._on_end(job, outcome)

    def _stop(self) -> None:
        """End both threads. A sound that was handed over is still written, unless that is interrupted too."""
        try:
            self._let_threads_end()
            self._listen()
        except BaseException:
            self._is_unwanted = True
            self._let_threads_end()
            raise
        finally:
            self._reader.shutdown()
            self._writer.shutdown()
            for display in self._displays:
                display.close()

    def _let_threads_end(self) -> None:
        with self._lock:
            self._is_over = True
            for stream in self._streams:
                stream.close()
        # Nothing is joined before it has ended: an interrupted join takes a thread for ended that is not.
        for thread in (self._reader, self._writer):
            self.wait_for(thread.submit(_nothing))


def _outcome(outcome: Outcome) -> "Finish":
    """What to do where nothing is to be written."""
    return lambda on_progress: outcome


def _nothing() -> None:
    """Wakes whoever waits for news."""
