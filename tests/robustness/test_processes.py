"""The command among other processes: several at once, killed ones, odd names, locales, closed pipes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media.clips import write_clip

DRIVER = Path(__file__).parent / "driver.py"
NAMES = [
    "caf\udce9.mp4",  # bytes that are no UTF-8
    "two words.mp4",
    'it\'s "quoted".mp4',
    "café 🐶 שלום.mp4",
    "new\nline.mp4",
    "-dash.mp4",
    "[red]x.mp4",
    "100%d.mp4",
    "back\\slash.mp4",
    "concat:a|b.mp4",
    "http:x.mp4",
    "$(touch x);&.mp4",
]


@pytest.mark.parametrize(
    "name", [*NAMES[:3], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[3:])]
)
def test_any_file_name_is_only_a_name(bench, video, toy, name):
    source = bench.write(name, video.read_bytes())
    target = bench.out / name
    outcome = bench.run("generate", f"./{name}", "-o", target, "-p", "dog", *toy)
    assert outcome.code == 0, outcome.err
    assert [Path(path) for path in json.loads(outcome.out)["results"][0]["outputs"]] == [target]
    assert sorted(path.name for path in bench.out.iterdir()) == [name, f"{name}.json"]
    assert [path.name for path in source.parent.iterdir()] == [name]
    again = bench.run("replay", target, "-o", bench.out / f"again {name}")
    assert again.code == 0, again.err
    assert (bench.out / f"again {name}").read_bytes() == target.read_bytes()


def test_links_are_followed_and_replaced_never_written_through(bench, video, toy):
    real = bench.write("real.mp4", video.read_bytes())
    (bench.root / "inputs" / "link.mp4").symlink_to(real)
    precious = bench.write("precious.wav", b"mine")
    (bench.out / "x.wav").symlink_to(precious)
    outcome = bench.run(
        "generate", bench.root / "inputs" / "link.mp4", "-o", bench.out / "x.wav", "-p", "dog", *toy
    )
    assert outcome.code == 0, outcome.err
    assert precious.read_bytes() == b"mine"
    assert not (bench.out / "x.wav").is_symlink()
    assert real.read_bytes() == video.read_bytes()


def test_a_cut_video_whose_beginning_is_whole_gives_that_much_sound_and_a_note(bench, toy):
    whole = write_clip(bench.root / "inputs" / "whole.mkv", np.arange(100) / 25)
    cut = bench.write("cut.mkv", whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    outcome = bench.run("generate", cut, "-o", bench.out / "x.wav", "-p", "dog", *toy)
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)["results"][0]
    assert 1.0 < result["duration"] < 4.0


def test_hidden_files_of_a_folder_are_no_videos(bench, video, toy):
    bench.write("a.mp4", video.read_bytes())
    bench.write("._a.mp4", b"resource fork")
    bench.write(".b.0a1b2c3d.part.mp4", video.read_bytes()[:1000])
    outcome = bench.run("generate", bench.root / "inputs", "-o", bench.out, "--dry-run", *toy)
    assert outcome.code == 0, outcome.err
    assert len(json.loads(outcome.out)["results"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
@pytest.mark.parametrize("name", ["caf\udce9.mp4", "café.mp4", "plain.mp4"])
def test_a_poor_locale_is_no_obstacle(bench, video, toy, locale, name):
    bench.write(name, video.read_bytes())
    strict = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii:strict", **locale}
    outcome = bench.spawn("generate", name, "-o", bench.out / name, "-p", "dog", *toy, env=strict)
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["failed"] == 0
    assert sorted(path.name for path in bench.out.iterdir()) == [name, f"{name}.json"]
    outcome = bench.spawn("generate", f"none {name}", "-o", bench.out / "x.wav", *toy, env=strict)
    assert outcome.check_refused("There is no file")


@pytest.mark.slow
def test_runs_at_the_same_time_share_cache_and_target(bench, video, toy):
    targets = [bench.out / "same.mp4", bench.out / "same.mp4", bench.out / "own.mp4"]
    runs = [bench.start("generate", video, "-o", target, "-p", "dog", *toy) for target in targets]
    for run in runs:
        _, err = run.communicate(timeout=300)
        assert run.returncode == 0, err
    assert (bench.out / "same.mp4").read_bytes() == (bench.out / "own.mp4").read_bytes()
    assert len(list(bench.cache.rglob("*.npz"))) == 1
    assert sorted(path.name for path in bench.out.iterdir()) == [
        "own.mp4",
        "own.mp4.json",
        "same.mp4",
        "same.mp4.json",
    ]
    assert not [name for name in bench.listing() if ".part" in name]


@pytest.mark.slow
def test_data_set_numbers_are_given_once(bench, video, toy):
    runs = [
        bench.start("features", video, "-o", bench.out, "--name", "dog", "-p", "dog", *toy[:-1])
        for _ in range(3)
    ]
    for run in runs:
        _, err = run.communicate(timeout=300)
        assert run.returncode == 0, err
    made = sorted(path.name for path in bench.out.glob("*.npz"))
    assert made == ["dog_001.npz", "dog_002.npz", "dog_003.npz"]


@pytest.mark.slow
def test_a_killed_run_leaves_only_parts_that_no_run_trips_over(bench, long, toy):
    arguments = ("generate", long, "-o", bench.out / "x.mp4", "-p", "dog", *toy)
    script = bench.root / "inputs" / "kill.py"
    script.write_text(
        "import os, signal, sys\n"
        "from selva_audio.media import mux\n"
        "copied = mux._copied\n"
        "def dying(*given):\n"
        "    for number, packet in enumerate(copied(*given)):\n"
        "        yield packet\n"
        "        if number == 200:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "mux._copied = dying\n"
        "from selva_audio.cli import main\n"
        "main()\n"
    )
    outcome = bench.spawn(*arguments, command=[sys.executable, str(script)])
    assert outcome.code == -signal.SIGKILL
    left = [path.name for path in bench.out.iterdir()]
    assert len(left) == 1
    assert left[0].startswith(".x.")
    assert ".part" in left[0]
    outcome = bench.spawn(*arguments)
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in bench.out.iterdir()) == [*left, "x.mp4", "x.mp4.json"]
    outcome = bench.spawn("generate", bench.out, "-o", bench.root / "again", "-p", "dog", "--dry-run", *toy)
    assert len(json.loads(outcome.out)["results"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["models", "list"], ["models", "list", "--json"], ["doctor"]])
def test_a_reader_that_leaves_is_no_reason_for_a_traceback(bench, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-c", "from selva_audio.cli import main; main()", *arguments],
        env=bench.env,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert process.stderr == ""
    assert process.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("closed", [1, 2])
def test_closed_streams_are_no_obstacle(bench, video, toy, closed):
    outcome = bench.spawn(
        *("generate", video, "-o", bench.out / "x.wav", "-p", "dog", *toy),
        command=[
            "sh",
            "-c",
            f'exec "$0" -c "from selva_audio.cli import main; main()" "$@" {closed}>&-',
            sys.executable,
        ],
    )
    assert outcome.code == 0, outcome.err
    assert (bench.out / "x.wav").is_file()
