import importlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cyclopts import App

from selva_audio import __version__
from selva_audio.cli.app import app
from selva_audio.cli.overview import COMMANDS, overview

SELVA = [sys.executable, "-c", "from selva_audio.cli import main; main()"]


def test_help_shows_every_command(selva) -> None:
    result = selva("--help")
    assert result.code == 0
    assert all(command in result.out for command in COMMANDS)


def test_the_summary_of_a_command_is_its_own() -> None:
    for name, summary in COMMANDS.items():
        command = getattr(importlib.import_module(f"selva_audio.cli.{name}"), name)
        assert (command.help if isinstance(command, App) else command.__doc__) == summary


def test_the_first_page_names_every_command_as_the_command_line_library_does(selva) -> None:
    shown = selva("--help").out
    assert all(name in overview() and summary in overview() for name, summary in COMMANDS.items())
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize("command", [*COMMANDS, "models download"])
def test_every_command_has_help(selva, command: str) -> None:
    result = selva(*command.split(), "--help")
    assert result.code == 0
    is_group = " " not in command and app[command].default_command is None
    assert "--json" in result.out or is_group


def test_the_version_is_told(selva) -> None:
    assert selva("--version").out.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["generat"], "generat"),
        (["generate"], "--output"),
        (["generate", "a.mp4", "-o", "b.wav", "--nonsense", "1"], "--nonsense"),
        (["generate", "a.mp4", "-o", "b.wav", "--steps", "many"], "steps"),
        (["generate", "a.mp4", "-o", "b.wav", "--steps", "0"], "greater than or equal to 1"),
        (["generate", "a.mp4", "-o", "b.wav", "--solver", "rk4"], "rk4"),
        (["features", "a.mp4"], "--output"),
        (["replay"], "FILE"),
        (["models", "download", "smal_16k"], "Did you mean 'small_16k'"),
    ],
    ids=str,
)
def test_bad_usage_is_one_error_and_exit_two(selva, arguments: list[str], sentence: str) -> None:
    result = selva(*arguments)
    assert (result.code, result.out) == (2, "")
    assert sum(line.startswith("Error: ") for line in result.err.splitlines()) == 1
    assert sentence in result.err
    assert "Traceback" not in result.err


def seconds_of(*code: str) -> float:
    """Least CPU seconds of three runs of a command, children and start of Python included."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", *code], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


HELP = "import sys; sys.argv = ['selva', '--help']; from selva_audio.cli import main; main()"


@pytest.mark.parametrize("code", ["import selva_audio", HELP], ids=["import", "help"])
def test_the_start_loads_no_heavy_library_and_is_cheap(code: str) -> None:
    check = (
        "import atexit, sys\n"
        "heavy = {'torch', 'transformers', 'av', 'matplotlib', 'scipy', 'numpy'}\n"
        "atexit.register(lambda: print('heavy:', *sorted(heavy & set(sys.modules))))\n"
    )
    run = subprocess.run([sys.executable, "-c", check + code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "heavy:"
    # The one promise about time that is part of the contract, as a ratio so that it holds on any machine.
    assert seconds_of(code) <= 8 * seconds_of("pass")


def start(*arguments: object, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [*SELVA, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )


@pytest.mark.slow
@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_130_and_leaves_nothing(clip: Path, tmp_path: Path, interrupt: int) -> None:
    toy = ("--variant", "demo_16k", "--precision", "fp32", "--device", "cpu", "--steps", 1000)
    process = start("generate", clip, "-o", "out.wav", *toy, folder=tmp_path)
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "selva-audio" / "features"
    while process.poll() is None and not list(cache.glob("*.npz")):
        time.sleep(0.05)
    process.send_signal(interrupt)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Cancelled" in err and "Traceback" not in err
    assert not list(tmp_path.iterdir())
