"""Ctrl-C at every stage: exit code 130, one sentence, and no file that was not there before."""

import os
import random
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from published import published_files, toy_config

from selva_audio import configs
from selva_audio.cli import app, console
from selva_audio.cli.interrupt import interruption
from selva_audio.weights import download
from selva_audio.weights.manifest import FILES

DRIVER = Path(__file__).parent / "driver.py"
SENTENCE = "Cancelled; nothing half-written was left."
STAGES = ["reading and encoding video", "sampling", "decoding", "writing video"]


@pytest.fixture
def interruptible():
    """The signal handlers of the command."""
    interruption.watch()
    yield
    interruption.arrived = False


@pytest.fixture
def stop_at(monkeypatch, interruptible):
    """Have this process signalled when a stage is reported: ``stop_at(stage, signal, count)``."""

    def arm(stage, number=signal.SIGINT, count=1):
        seen = []

        def report(progress):
            interruption.check()
            seen.append(progress.stage)
            if sum(name.startswith(stage) for name in seen) == count:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(console, "_plain_reporter", lambda label: report)
        return seen

    return arm


def check_cancelled(outcome):
    assert outcome.code == 130, (outcome.code, outcome.err)
    assert outcome.err.splitlines()[-1] == SENTENCE
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def files(bench):
    """Everything but finished features in the cache and locks."""
    return {
        name: size
        for name, size in bench.listing().items()
        if size >= 0 and not name.startswith("cache/") and not name.endswith(".lock")
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", STAGES)
def test_generate_is_cancelled_at_every_stage(bench, video, toy, stop_at, stage, number):
    seen = stop_at(stage, number)
    before = files(bench)
    outcome = bench.run("generate", video, "-o", bench.out / "x.mp4", "-p", "dog", *toy)
    check_cancelled(outcome)
    assert seen[-1].startswith(stage)
    assert files(bench) == before
    assert not [name for name in bench.listing() if ".part" in name]


def test_a_result_that_was_there_survives_a_cancelled_run(bench, video, toy, stop_at):
    command = ("generate", video, "-o", bench.out / "x.mp4", "-p", "dog", *toy)
    assert bench.run(*command).code == 0
    before, content = bench.listing(), (bench.out / "x.mp4").read_bytes()
    for count in (1, 2):  # the first and the last packet
        interruption.watch()
        stop_at("writing video", count=count)
        check_cancelled(bench.run(*command, "--seed=5"))
        assert bench.listing() == before
        assert (bench.out / "x.mp4").read_bytes() == content


def test_no_recipe_of_an_older_result_stays_beside_a_newer_one(bench, video, toy, monkeypatch, interruptible):
    import selva_audio.tasks.recipe as recipe

    command = ("generate", video, "-o", bench.out / "x.wav", "-p", "dog", *toy)
    assert bench.run(*command).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "write_sidecar", lambda *_: signal.raise_signal(signal.SIGINT))
        check_cancelled(bench.run(*command, "--seed=5"))
    assert [path.name for path in bench.out.iterdir()] == ["x.wav"]
    assert '"skipped"' not in bench.run(*command).out


def test_features_and_replay_are_cancelled(bench, video, toy, stop_at, monkeypatch):
    stop_at("reading", count=5)
    check_cancelled(bench.run("features", video, "-o", bench.out / "f.npz", "-p", "dog", *toy[:-1]))
    assert not any(bench.out.iterdir())
    interruption.watch()
    stop_at("nothing")
    assert bench.run("generate", video, "-o", bench.out / "x.wav", "-p", "dog", *toy).code == 0
    before = bench.listing()
    for stage in ("sampling", "decoding"):
        interruption.watch()
        stop_at(stage)
        check_cancelled(bench.run("replay", bench.out / "x.wav"))
        assert bench.listing() == before


def test_cancelling_one_of_several_jobs_ends_them_all_and_keeps_what_is_done(bench, video, toy, stop_at):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        bench.write(name, video.read_bytes() + name.encode())
    stop_at("sampling", count=2)
    outcome = bench.run("generate", bench.root / "inputs", "-o", bench.out, "-p", "dog", *toy)
    assert outcome.code == 130
    assert sorted(path.name for path in bench.out.iterdir()) == ["a.mp4", "a.mp4.json"]
    interruption.watch()
    stop_at("nothing")
    outcome = bench.run("generate", bench.root / "inputs", "-o", bench.out, "-p", "dog", *toy)
    assert outcome.code == 0
    assert [line.split(":")[0] for line in outcome.err.splitlines()].count("Skipped") == 1


@pytest.fixture
def shelf(hub, monkeypatch):
    monkeypatch.setitem(configs.VARIANTS, "small_16k", toy_config("small_16k"))
    table = {name: replace(entry, md5=None, urls=()) for name, entry in FILES.items()}
    monkeypatch.setattr("selva_audio.weights.manifest.FILES", table)
    for (repo, path), content in published_files(toy_config("small_16k")).items():
        hub.put(repo, path, content)
    monkeypatch.setattr(download, "_TICK", 0.02)
    return hub


@pytest.mark.parametrize(("fault", "count"), [("slow", 8), ("stall", 8), ("503", 1)])
def test_a_download_is_cancelled_and_goes_on_later(bench, shelf, stop_at, fault, count):
    shelf.always = fault
    stop_at("downloading", count=count)
    command = ("models", "download", "small_16k", "--models-dir", bench.root / "models")
    check_cancelled(bench.run(*command))
    kept = [name for name in files(bench) if name.startswith("models/")]
    assert all(name.endswith(".part") for name in kept)
    assert len(kept) == (0 if fault == "503" else 1)
    shelf.always = None
    interruption.watch()
    stop_at("nothing")
    assert bench.run(*command).code == 0
    assert not [name for name in files(bench) if name.endswith(".part")]


def test_hashing_is_cancelled(bench, shelf, stop_at):
    command = ("--models-dir", bench.root / "models")
    stop_at("nothing")
    assert bench.run("models", "download", "small_16k", *command).code == 0
    before = bench.listing()
    stop_at("checking v1-16.pth")
    check_cancelled(bench.run("models", "verify", "small_16k", *command))
    assert bench.listing() == before


def test_an_interrupt_that_a_library_swallows_is_honoured_at_the_next_report(
    bench, video, toy, monkeypatch, interruptible
):
    import selva_audio.synthesis as synthesis

    plan = synthesis.plan_windows

    def swallowing(duration, config):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            return plan(duration, config)
        raise AssertionError("no interrupt came")

    monkeypatch.setattr(synthesis, "plan_windows", swallowing)
    check_cancelled(bench.run("generate", video, "-o", bench.out / "x.wav", "-p", "dog", *toy))
    assert not any(bench.out.iterdir())


def interrupt_the_run(number, frame):
    """The command's own handler, while the command runs; what hits the test itself is dropped."""
    at = frame
    while at is not None and at.f_code is not app.run.__code__:
        at = at.f_back
    if at is not None:
        interruption._interrupt(number, frame)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", range(3))
def test_no_moment_is_a_bad_one(bench, video, toy, interruptible, seed):
    """Interrupts at random moments, some of them twice in a row as impatient users do."""
    rng = random.Random(seed)
    # Interrupted imports are another matter: shown below, in processes of their own.
    assert bench.run("generate", video, "-o", bench.out / "x.mp4", "--original-audio", "mix", *toy).code == 0
    seconds = 1.0
    for round_ in range(40):
        for path in bench.out.iterdir():
            path.unlink()
        target = bench.out / f"{round_}{rng.choice(['.wav', '.mp4', '.mkv', '.flac'])}"
        command = ("generate", video, "-o", target, "-p", f"dog {round_}", "--original-audio", "mix", *toy)
        over = threading.Event()
        delay, again = rng.uniform(0, 1.1 * seconds), rng.choice([None, 0.001, 0.01])

        def shoot(over=over, delay=delay, again=again):
            if not over.wait(delay):
                os.kill(os.getpid(), signal.SIGINT)
                if again is not None and not over.wait(again):
                    os.kill(os.getpid(), signal.SIGINT)

        interruption.watch()
        signal.signal(signal.SIGINT, interrupt_the_run)
        thread = threading.Thread(target=shoot)
        started = time.monotonic()
        thread.start()
        try:
            outcome = bench.run(*command)
        except KeyboardInterrupt:  # in the first or last line, where the console entry takes it
            continue
        finally:
            over.set()
            thread.join()
        names = sorted(path.name for path in bench.out.iterdir())
        assert not [name for name in bench.listing() if ".part" in name]
        if outcome.code == 0 or outcome.out:  # all was done when the interrupt came
            seconds = time.monotonic() - started
            assert names == [target.name, f"{target.name}.json"]
            assert outcome.code in (0, 130)
        else:
            check_cancelled(outcome)
            # Whole or not at all: the result may be complete, with its recipe or before it.
            assert names in ([], [target.name], [target.name, f"{target.name}.json"])


def interrupted(bench, number, marker, *arguments, told="none"):
    """Run the driver in a process and signal it once ``marker`` is on its stderr."""
    process = bench.start(told, *arguments, command=[sys.executable, str(DRIVER)])
    lines = []
    for line in process.stderr:
        lines.append(line)
        if marker in line:
            process.send_signal(number)
            break
    else:
        raise AssertionError(f"{marker} never came: {''.join(lines)}")
    out, err = process.communicate(timeout=60)
    return process.returncode, out, "".join(lines) + err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "stage",
    [
        "importing torch",
        "importing numpy",
        "importing transformers",
        "importing torch._C",
        "importing av",
        *STAGES,
    ],
)
def test_a_process_is_cancelled_at_every_stage(bench, toy, long, stage, number):
    before = files(bench)
    told = stage.removeprefix("importing ") if stage.startswith("importing") else "none"
    code, out, err = interrupted(
        bench, number, stage, "generate", long, "-o", bench.out / "x.mp4", "-p", "dog", *toy, told=told
    )
    assert code == 130, err[-2000:]
    assert err.splitlines()[-1] == SENTENCE
    assert "Traceback" not in err
    assert out == ""
    assert {
        name: size for name, size in files(bench).items() if not name.startswith("tmp/torchinductor")
    } == before
