import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from selva_audio.cli import console
from selva_audio.progress import Progress


def test_a_terminal_gets_a_bar_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=screen, force_terminal=True, width=100))
    with console.progress_bar("clip.mp4") as report:
        report(Progress("sampling", 1, 4))
        report(Progress("sampling", 4, 4))
    assert "clip.mp4: sampling" in screen.getvalue()
    assert "100%" in screen.getvalue()


def test_two_bars_share_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=screen, force_terminal=True, width=100))
    with console.progress_bars() as bar_of, bar_of("a.mp4") as first:
        first(Progress("writing video", 99, 100))
        with bar_of("b.mp4") as second:
            second(Progress("sampling", 1, 4))
    assert "a.mp4: writing video" in screen.getvalue() and "b.mp4: sampling" in screen.getvalue()


def test_a_pipe_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=screen))
    with console.progress_bar("clip.mp4") as report:
        report(Progress("sampling", 1, 4))
    assert screen.getvalue() == ""


def test_a_pipe_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=screen))
    monkeypatch.setattr(console, "_PLAIN_INTERVAL", 0.0)
    with console.progress_bar("clip.mp4") as report:
        report(Progress("sampling", 1, 4))
        report(Progress("loading", 0, 0))
    assert screen.getvalue() == "clip.mp4: sampling 25%\nclip.mp4: loading\n"


def test_messages_are_printed_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=screen, width=20))
    console.say("[bold]a long message[/bold] that is wider than the screen")
    assert screen.getvalue() == "[bold]a long message[/bold] that is wider than the screen\n"


def test_paths_become_text_and_other_objects_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"path": Path("a/b"), "text": "ü"})
    assert capsys.readouterr().out == '{\n  "path": "a/b",\n  "text": "\\u00fc"\n}\n'
    with pytest.raises(TypeError, match="set is not JSON"):
        console.print_json({"x": set()})


def test_warnings_of_the_library_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        console.set_up_logging()
        logging.getLogger("selva_audio.test").warning("[mask] is empty")
        logging.getLogger("selva_audio.test").info("not shown")
    finally:
        root.handlers[:], root.level = before
        logging.captureWarnings(False)
    assert capsys.readouterr().err == "[mask] is empty\n"
