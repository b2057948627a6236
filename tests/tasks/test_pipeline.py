import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from selva_audio.bundle import PARTS, SelVAModel
from selva_audio.options import FeatureOptions, GenerateOptions, OutputOptions
from selva_audio.progress import Cancelled, Progress
from selva_audio.tasks import pipeline
from selva_audio.tasks.batch import Job, JobResult, plan_jobs, run_jobs
from selva_audio.tasks.pipeline import has_free_core

DOG, QUICK = FeatureOptions(prompt="dog"), GenerateOptions(steps=1)
PATIENCE = 60.0


@pytest.fixture
def videos(tmp_path: Path, make_clip) -> Path:
    """A folder with three videos of different lengths, the third one broken, and a fourth."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, count in (("a.mp4", 25), ("b.mp4", 40), ("d.mp4", 20)):
        make_clip(folder / name, np.arange(count) / 25, tone=440.0)
    (folder / "c.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture
def overlapped(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Has ``run_jobs`` overlap its jobs, or not, whatever the machine."""

    def choose(is_overlapped: bool) -> None:
        monkeypatch.setattr("selva_audio.tasks.batch.has_free_core", lambda device: is_overlapped)

    choose(True)
    return choose


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the videos that are read ahead."""
    names: list[str] = []
    open_frames = pipeline.open_frames

    def watched(model: SelVAModel, source: Path, options: FeatureOptions):
        names.append(source.name)
        return open_frames(model, source, options)

    monkeypatch.setattr(pipeline, "open_frames", watched)
    return names


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("selva-")]


def run(
    model: SelVAModel, jobs: list[Job], cache: Path, report: Callable[[Job, Progress], None], **values
) -> list[JobResult]:
    arguments = {
        "feature_options": DOG.model_copy(update={"cache_dir": cache}),
        "options": QUICK,
        "output_options": OutputOptions(),
    } | values

    def progress_for(job: Job):
        return contextlib.nullcontext(lambda progress: report(job, progress))

    return run_jobs(model, jobs, progress_for=progress_for, **arguments)


def ignore(job: Job, progress: Progress) -> None:
    """Shows nothing."""


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, "the other thread never did it"
        time.sleep(0.01)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}


@pytest.mark.parametrize(("ending", "takes"), [("wav", 2), ("video", 1)])
def test_overlapped_jobs_give_the_same_files_results_and_reports(
    demo_model, videos: Path, tmp_path: Path, overlapped, ending: str, takes: int
) -> None:
    told: dict[bool, list] = {}
    for is_overlapped in (False, True):
        overlapped(is_overlapped)
        folder = tmp_path / str(is_overlapped)
        jobs = plan_jobs([videos], folder, ending, takes=takes)
        reports: dict[str, list] = {job.output.stem: [] for job in jobs}

        def report(job: Job, progress: Progress, reports=reports) -> None:
            reports[job.output.stem].append((progress.stage, progress.step, progress.total))

        results = run(
            demo_model,
            jobs,
            tmp_path / f"cache {is_overlapped}",
            report,
            options=GenerateOptions(steps=2, takes=takes),
            on_result=told.setdefault(is_overlapped, []).append,
        )
        assert told[is_overlapped] == results
        told[is_overlapped] += [reports]
    one_by_one, both = told[False], told[True]
    assert (
        files(tmp_path / "True") == files(tmp_path / "False") and len(files(tmp_path / "True")) == 6 * takes
    )
    assert [result.status for result in both[:4]] == ["done", "done", "failed", "done"]
    for plain, result in zip(one_by_one[:4], both[:4], strict=True):
        assert [path.name for path in result.outputs] == [path.name for path in plain.outputs]
        assert (result.video, result.status, result.error) == (plain.video, plain.status, plain.error)
        assert (result.notes, result.duration) == (plain.notes, plain.duration)
        assert list(result.seconds) == list(plain.seconds)
    assert both[4] == one_by_one[4]


def test_the_next_video_is_read_and_the_last_one_written_while_the_model_works(
    demo_model, videos: Path, tmp_path: Path, overlapped, opened: list[str]
) -> None:
    jobs = [Job(videos / name, tmp_path / "out" / name) for name in ("a.mp4", "b.mp4", "d.mp4")]
    seen = []

    def report(job: Job, progress: Progress) -> None:
        if progress.stage != "sampling":
            return
        number = jobs.index(job)
        until(lambda: len(opened) == min(number + 2, 3))
        until(lambda: number == 0 or jobs[number - 1].output.exists())
        seen.append((list(opened), job.output.exists()))

    run(demo_model, jobs, tmp_path / "cache", report)
    assert seen == [
        (["a.mp4", "b.mp4"], False),
        (["a.mp4", "b.mp4", "d.mp4"], False),
        (["a.mp4", "b.mp4", "d.mp4"], False),
    ]


def test_model_work_and_callbacks_stay_in_the_callers_thread(
    demo_model, videos: Path, tmp_path: Path, overlapped
) -> None:
    threads: set[int] = set()
    note = lambda *_: threads.add(threading.get_ident())
    handles = [
        module.register_forward_pre_hook(note)
        for name in PARTS
        for module in getattr(demo_model, name).modules()
    ]
    try:
        run(demo_model, plan_jobs([videos], tmp_path / "out"), tmp_path / "cache", note, on_result=note)
    finally:
        for handle in handles:
            handle.remove()
    assert threads == {threading.get_ident()}


def test_a_second_run_skips_in_order_and_known_features_need_no_reading(
    demo_model, videos: Path, tmp_path: Path, overlapped, opened: list[str]
) -> None:
    jobs = plan_jobs([videos], tmp_path / "out", "wav")
    run(demo_model, jobs, tmp_path / "cache", ignore)
    before = files(tmp_path / "out")
    opened.clear()
    jobs[1].output.unlink()
    results = run(demo_model, jobs, tmp_path / "cache", ignore)
    assert [result.status for result in results] == ["skipped", "done", "failed", "skipped"]
    assert files(tmp_path / "out") == before
    assert opened == ["c.mp4"]


def test_cancelling_keeps_what_was_made_and_leaves_nothing_else(
    demo_model, videos: Path, tmp_path: Path, overlapped
) -> None:
    heard: list[JobResult] = []

    def cancel_at_b(job: Job, progress: Progress) -> None:
        if job.output.stem == "b" and progress.stage == "sampling":
            raise Cancelled

    jobs = plan_jobs([videos], tmp_path / "out")
    with pytest.raises(Cancelled):
        run(demo_model, jobs, tmp_path / "cache", cancel_at_b, on_result=heard.append)
    assert sorted(files(tmp_path / "out")) == ["a.mp4", "a.mp4.json"]
    assert json.loads((tmp_path / "out" / "a.mp4.json").read_text())["duration"] == 1.0
    assert [result.status for result in heard] == ["done"]


@pytest.mark.parametrize("stage", ["reading and encoding video", "sampling", "decoding", "writing video"])
@pytest.mark.parametrize("name", ["a", "b", "d"])
def test_cancelling_anywhere_leaves_whole_files_alone(
    demo_model, videos: Path, tmp_path: Path, overlapped, stage: str, name: str
) -> None:
    def cancel(job: Job, progress: Progress) -> None:
        if job.output.stem == name and progress.stage == stage:
            raise KeyboardInterrupt

    jobs = plan_jobs([videos], tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        run(demo_model, jobs, tmp_path / "cache", cancel)
    left = set(files(tmp_path / "out")) if (tmp_path / "out").exists() else set()
    before = {"a": set(), "b": {"a"}, "d": {"a", "b"}}[name]
    # Whoever cancels on the last report of writing may come too late.
    late = {f"{name}.mp4", f"{name}.mp4.json"} if stage == "writing video" else set()
    assert {f"{each}.mp4{end}" for each in before for end in ("", ".json")} <= left
    assert left <= {f"{each}.mp4{end}" for each in before for end in ("", ".json")} | late


def test_a_second_interruption_ends_the_writing_too(
    demo_model, videos: Path, tmp_path: Path, overlapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping, ended = threading.Event(), []
    wait_for = pipeline._Overlap.wait_for

    def told_wait(overlap, work) -> None:
        if overlap._is_over:
            stopping.set()
        wait_for(overlap, work)

    def write_forever(run, sound, *, on_progress) -> None:
        # Two interruptions that come before the first has ended the model's work are one.
        stopping.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGINT)
        try:
            until(lambda: on_progress(Progress("writing video", 0, 1)))
        except Cancelled:
            ended.append("cancelled")
            raise

    def interrupt_at_b(job: Job, progress: Progress) -> None:
        if job.output.stem == "b" and progress.stage == "sampling":
            raise KeyboardInterrupt

    # What a shell runs in the background ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(pipeline, "write_sound", write_forever)
    monkeypatch.setattr(pipeline._Overlap, "wait_for", told_wait)
    with pytest.raises(KeyboardInterrupt):
        run(demo_model, plan_jobs([videos], tmp_path / "out"), tmp_path / "cache", interrupt_at_b)
    assert ended == ["cancelled"]
    assert not (tmp_path / "out").exists()


def test_what_a_callback_or_a_plan_raises_ends_all(
    demo_model, videos: Path, tmp_path: Path, overlapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(result: JobResult) -> None:
        raise BrokenPipeError

    jobs = plan_jobs([videos], tmp_path / "out", "wav")
    with pytest.raises(BrokenPipeError):
        run(demo_model, jobs, tmp_path / "cache", ignore, on_result=break_off)
    monkeypatch.setattr("selva_audio.tasks.batch.plan_run", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(demo_model, jobs, tmp_path / "cache", ignore)


def test_a_folder_that_cannot_be_written_fails_each_job_with_its_sentence(
    demo_model, videos: Path, tmp_path: Path, overlapped
) -> None:
    def take_the_place(job: Job, progress: Progress) -> None:
        if progress.stage == "sampling":
            (tmp_path / "out").touch()

    results = run(
        demo_model, plan_jobs([videos], tmp_path / "out", "wav"), tmp_path / "cache", take_the_place
    )
    assert [result.status for result in results] == ["failed"] * 4
    assert "Cannot create the folder" in results[0].error
    assert "is a file. Choose an output below a folder" in results[3].error


@pytest.mark.parametrize(
    ("device", "cores", "expected"),
    [("cpu", 1, False), ("cpu", 2, True), ("cuda:0", 1, False), ("cuda:0", 2, True), ("mps", 2, True)],
)
def test_overlapping_needs_a_core_that_the_model_leaves_free(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, expected: bool
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert has_free_core(device) is expected
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert has_free_core(device) is expected


def test_as_many_threads_as_cores_leave_none_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(pipeline, "num_threads", lambda: 4)
    assert not has_free_core("cpu")
    assert has_free_core("cuda")
