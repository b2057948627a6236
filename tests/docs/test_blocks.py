"""Every command and every piece of code on the pages works, in the order in which the page shows them."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from cyclopts import App

from selva_audio.cli.app import app, run
from selva_audio.configs import VARIANTS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"sh", "python", "text", "bibtex", "json"}

# The first would reach the network, the second needs a sweep that runs, the third a cluster: only parsed.
ONLY_PARSED = ("selva models download", "selva sweep skip", "selva sweep run plan.json --engine ray")
# This one would install into the environment of the tests; `make demo` and CI do it for real.
INSTALLS = ["python -m pip install -c constraints.txt ."]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_code_of_a_page_run(page, workplace, monkeypatch, capsys):
    names: dict = {}
    for kind, content in _blocks(page):
        assert kind in KINDS, f"{page.name} has a block of kind {kind!r}, which nothing checks"
        if kind == "sh":
            for command in content.splitlines():
                _run(command, monkeypatch, capsys)
        elif kind == "python":
            exec(compile(_on_demo(content), page.name, "exec"), names)


def test_every_command_of_the_program_is_shown_on_a_page():
    shown = "\n".join(content for page in PAGES for kind, content in _blocks(page) if kind == "sh")
    assert [command for command in _commands(app, "selva") if command not in shown] == []


def _commands(parent: App, words: str) -> list[str]:
    found = []
    for name in parent:
        if not name.startswith("-"):
            found += _commands(parent[name], f"{words} {name}")
    return found if parent.default_command is None else [words, *found]


def _blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def _on_demo(text: str) -> str:
    # Readers use small_16k. The demo variant runs through the same code, and needs no download.
    return text.replace("small_16k", "demo_16k")


def _run(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    program, *arguments = shlex.split(command)
    if program == "make":
        # What the targets do is what CI does; here, that they exist and that make can read them.
        assert subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True).returncode == 0
    elif program == "export":
        monkeypatch.setenv(*arguments[0].split("="))
    elif command in INSTALLS:
        assert (ROOT / "constraints.txt").is_file() and (ROOT / "pyproject.toml").is_file()
    elif command.startswith(ONLY_PARSED):
        app.parse_args(arguments, exit_on_error=False, print_error=False)
        assert arguments[0] == "sweep" or arguments[2] in VARIANTS
    else:
        assert program == "selva", f"nothing checks the command {command!r}"
        _run_selva(arguments, command, capsys)


def _run_selva(arguments: list[str], command: str, capsys: pytest.CaptureFixture) -> None:
    arguments = [_on_demo(argument) if argument == "small_16k" else argument for argument in arguments]
    if arguments[0] in ("generate", "features") or arguments[:2] in (
        ["dataset", "prepare"],
        ["sweep", "run"],
    ):
        if "--variant" not in arguments:
            arguments += ["--variant", "demo_16k"]  # in place of the default, small_16k
        elif "demo_16k" not in arguments:
            arguments += ["--dry-run"]  # MMAudio variants have no toy inside the package
    if arguments[:2] == ["demo", "scenes"]:
        arguments += ["--duration", "1", "--size", "64"]
    if arguments[:2] == ["train", "lora"]:
        short = {
            "--steps": "3" if "--resume" in arguments else "2",
            "--batch-size": "1",
            "--sample-steps": "1",
        }
        for flag, value in short.items():
            arguments = [*_without(arguments, flag), flag, value]
    if arguments[:2] == ["train", "textual-inversion"]:
        for flag, value in {"--steps": "1", "--batch-size": "1", "--sample-steps": "1"}.items():
            arguments = [*_without(arguments, flag), flag, value]
    if arguments[:2] == ["train", "vocoder"]:
        for flag, value in {"--steps": "1", "--batch-size": "1", "--segment-seconds": "0.25"}.items():
            arguments = [*_without(arguments, flag), flag, value]
    if arguments[0] == "ditto":
        for flag in ("--steps", "--n-opt-steps", "--n-ode-steps"):
            arguments = [*_without(arguments, flag), flag, "1"]
    if arguments[:2] == ["steer", "extract"]:
        arguments = [*_without(arguments, "--n-samples"), "--n-samples", "1"]
    if arguments[:2] == ["evaluate", "selectivity"]:
        arguments += ["--steps", "1"]  # what takes readers minutes is seconds of every stage here
        if "--folder" not in arguments:
            arguments = [*_without(arguments, "--scenes"), "--scenes", "1"]
    capsys.readouterr()
    code = run(arguments)
    said = capsys.readouterr()
    assert code == 0, f"{command} -> {code}\n{said.err}"
    for flag in ("-o", "--output"):
        if flag in arguments and not {"--dry-run", "--takes"} & set(arguments):
            assert Path(arguments[arguments.index(flag) + 1]).exists(), command
    if arguments == ["demo"]:
        named = {name for page in PAGES for name in re.findall(r"`(demo_out/[^`]+)`", page.read_text())}
        assert "demo_out/demo.png" in named
        assert {name for name in named if not Path(name).exists()} == set()


def _without(arguments: list[str], flag: str) -> list[str]:
    """The arguments without a flag and its value."""
    place = arguments.index(flag) if flag in arguments else len(arguments)
    return arguments[:place] + arguments[place + 2 :]
