import contextlib
from pathlib import Path

import numpy as np
import pytest

from selva_audio.errors import InputError, MissingFileError
from selva_audio.options import FeatureOptions, GenerateOptions, LoadOptions, OutputOptions
from selva_audio.progress import Cancelled, Progress
from selva_audio.tasks.batch import Job, JobResult, plan_jobs, preview_jobs, run_jobs

DOG, QUICK = FeatureOptions(prompt="dog"), GenerateOptions(steps=1)
DEMO = LoadOptions(variant="demo_16k", device="cpu", precision="fp32")


@pytest.fixture
def videos(tmp_path: Path, clip: Path) -> Path:
    """A folder with two videos, a broken one, and other things."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("b.mp4", "a.mp4"):
        (folder / name).write_bytes(clip.read_bytes())
    (folder / "broken.mov").write_bytes(b"no video")
    (folder / "notes.txt").write_text("")
    (folder / "more.mp4").mkdir()
    return folder


@pytest.fixture(params=[False, True], ids=["one by one", "overlapped"])
def either_way(request, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runs twice: whether a core is free must change nothing."""
    monkeypatch.setattr("selva_audio.tasks.batch.has_free_core", lambda device: request.param)


def run(model, jobs: list[Job], **values) -> list[JobResult]:
    arguments = {"feature_options": DOG, "options": QUICK, "output_options": OutputOptions()} | values
    return run_jobs(model, jobs, progress_for=lambda job: contextlib.nullcontext(lambda _: None), **arguments)


def names(jobs: list[Job]) -> list[str]:
    return [job.output.name for job in jobs]


def test_a_folder_is_its_videos_in_order_of_name(videos: Path, tmp_path: Path) -> None:
    jobs = plan_jobs([videos], tmp_path / "out")
    assert [job.video.name for job in jobs if job.video] == ["a.mp4", "b.mp4", "broken.mov"]
    assert [job.output for job in jobs] == [
        tmp_path / "out" / name for name in ("a.mp4", "b.mp4", "broken.mov")
    ]


@pytest.mark.parametrize(
    ("name", "ending", "expected"),
    [
        ("a.mp4", "video", "a.mp4"),
        ("a.WEBM", "video", "a.webm"),
        ("a.avi", "video", "a.mp4"),
        ("a.png", "video", "a.wav"),
        ("a.mp4", "flac", "a.flac"),
        ("a.b.mov", "wav", "a.b.wav"),
    ],
)
def test_a_folder_gets_files_named_after_the_videos(tmp_path, name: str, ending: str, expected: str) -> None:
    (tmp_path / name).touch()
    assert names(plan_jobs([tmp_path / name], tmp_path / "out", ending)) == [expected]


def test_an_existing_folder_with_a_dot_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "out.v2").mkdir()
    assert names(plan_jobs([tmp_path / "a.mp4"], tmp_path / "out.v2", "wav")) == ["a.wav"]


def test_equal_names_get_numbers(tmp_path: Path) -> None:
    paths = [tmp_path / folder / name for folder, name in (("1", "a.mp4"), ("2", "a.mp4"), ("2", "A.mov"))]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert names(plan_jobs(paths, tmp_path / "out", "wav")) == ["a.wav", "a_2.wav", "A_3.wav"]


def test_no_video_is_one_job_into_a_file(tmp_path: Path) -> None:
    assert plan_jobs([], tmp_path / "rain.wav") == [Job(None, tmp_path / "rain.wav")]
    with pytest.raises(InputError, match=r"must be a \.wav or \.flac file"):
        plan_jobs([], tmp_path)


@pytest.mark.parametrize(
    ("inputs", "output", "ending", "error", "sentence"),
    [
        (["a.mp4", "b.mp4"], "out.wav", "video", InputError, "2 videos cannot all be written to"),
        (["a.mp4"], "out", "mp3", InputError, "Unknown format 'mp3'"),
        (["nowhere.mp4"], "out", "video", MissingFileError, "no file or folder"),
        (["empty"], "out", "video", MissingFileError, "holds no video"),
        (["a.mp4"], ".", "video", InputError, "is an input itself"),
    ],
)
def test_what_cannot_be_planned_is_a_sentence(tmp_path, inputs, output, ending, error, sentence) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(error, match=sentence):
        plan_jobs([tmp_path / name for name in inputs], tmp_path / output, ending)


def test_the_output_of_one_video_never_is_another_input(tmp_path: Path) -> None:
    paths = [tmp_path / "1" / "a.mp4", tmp_path / "2" / "a.mp4", tmp_path / "out_02.mp4"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with pytest.raises(InputError, match="is an input itself"):
        plan_jobs(paths[:2], tmp_path / "2")
    assert plan_jobs(paths[2:], tmp_path / "out.mp4")
    with pytest.raises(InputError, match="is an input itself"):
        plan_jobs(paths[2:], tmp_path / "out.mp4", takes=2)


@pytest.mark.usefixtures("either_way")
def test_one_bad_file_does_not_stop_the_rest(demo_model, videos: Path, tmp_path: Path) -> None:
    jobs = plan_jobs(
        [videos / "a.mp4", videos / "broken.mov", videos / "gone.mp4", videos / "b.mp4"], tmp_path / "out"
    )
    heard: list[JobResult] = []
    results = run(demo_model, jobs, on_result=heard.append)
    assert heard == results
    assert [result.status for result in results] == ["done", "failed", "failed", "done"]
    assert "broken.mov" in results[1].error and "gone.mp4" in results[2].error
    assert results[0].duration == 1.0 and set(results[0].seconds) == {"features", "generate", "write"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.mp4",
        "a.mp4.json",
        "b.mp4",
        "b.mp4.json",
    ]


@pytest.mark.usefixtures("either_way")
def test_a_second_run_does_what_is_left(demo_model, videos: Path, tmp_path: Path) -> None:
    jobs = plan_jobs([videos / "a.mp4", videos / "b.mp4"], tmp_path / "out", "wav")
    assert [result.status for result in run(demo_model, jobs)] == ["done", "done"]
    jobs[1].output.unlink()
    before = jobs[0].output.stat().st_mtime_ns
    assert [result.status for result in run(demo_model, jobs)] == ["skipped", "done"]
    assert jobs[0].output.stat().st_mtime_ns == before
    changed = run(demo_model, jobs, options=GenerateOptions(steps=1, seed=1))
    assert [result.status for result in changed] == ["done", "done"]


@pytest.mark.usefixtures("either_way")
def test_cancelling_ends_all(demo_model, videos: Path, tmp_path: Path) -> None:
    jobs = plan_jobs([videos / "a.mp4", videos / "b.mp4"], tmp_path / "out", "wav")
    opened: list[Job] = []

    def progress_for(job: Job):
        def cancel(progress: Progress) -> None:
            raise Cancelled

        opened.append(job)
        return contextlib.nullcontext(cancel)

    with pytest.raises(Cancelled):
        run_jobs(demo_model, jobs, DOG, QUICK, OutputOptions(), progress_for=progress_for)
    assert opened == jobs[:1]
    assert not (tmp_path / "out").exists()


def test_a_preview_tells_length_windows_and_weights_and_writes_nothing(videos, make_clip, tmp_path) -> None:
    long = make_clip(tmp_path / "long.mp4", np.arange(100) / 5)
    jobs = plan_jobs([videos / "a.mp4", long], tmp_path / "out", "wav")
    before = sorted(tmp_path.rglob("*"))
    options = GenerateOptions(takes=2, steps=3)
    short, windowed = preview_jobs(jobs, DEMO, DOG, options)
    assert (short.status, short.duration) == ("planned", pytest.approx(1.0, abs=0.05))
    assert "2 take(s), 1 window(s) of up to 8 s, 3 steps" in short.notes[0]
    assert "4 window(s)" in windowed.notes[0] or "3 window(s)" in windowed.notes[0]
    assert [path.name for path in short.outputs] == ["a_01.wav", "a_02.wav"]
    (missing,) = preview_jobs(jobs[:1], LoadOptions(variant="small_16k", models_dir=tmp_path), DOG, options)
    assert "weights missing: generator_small_16k_sup_5.pth" in missing.notes[0]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("changed", "duration"), [({"start": 0.4}, 0.6), ({"duration": 0.7}, 0.7), ({"fps": 50.0}, 0.5)]
)
def test_a_preview_follows_the_options(videos, tmp_path, changed: dict, duration: float) -> None:
    jobs = plan_jobs([videos / "a.mp4"], tmp_path / "out", "wav")
    (result,) = preview_jobs(jobs, DEMO, FeatureOptions(**changed), QUICK)
    assert result.duration == pytest.approx(duration, abs=0.05)


def test_a_preview_fails_where_the_run_would(videos: Path, tmp_path: Path) -> None:
    def error(job: Job, **features) -> str:
        (result,) = preview_jobs([job], DEMO, FeatureOptions(**features), QUICK)
        assert result.status == "failed"
        return result.error

    good = videos / "a.mp4"
    assert "broken.mov" in error(Job(videos / "broken.mov", tmp_path / "x.wav"))
    assert "past the end" in error(Job(good, tmp_path / "x.wav"), start=5.0)
    assert "has the ending" in error(Job(good, tmp_path / "x.mp3"))
    assert "use an MMAudio variant" in error(Job(None, tmp_path / "x.wav"))
