"""The command tree and its exit codes: 0 done, 1 some items failed, 2 bad usage or input, 130 cancelled.

A command is imported when it is used, so that ``selva --help`` starts at once; pydantic alone would
take longer than the rest.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, MissingArgumentError

from .. import __version__
from ..errors import SelVAError, os_error_sentence
from ..progress import Cancelled
from . import CANCELLED, CANCELLED_MESSAGE
from .console import say, set_up_logging
from .overview import COMMANDS, SUMMARY

if TYPE_CHECKING:
    from pydantic import ValidationError

FAILED, USAGE = 1, 2

app = App(
    name="selva",
    help=SUMMARY,
    version=__version__,
    suppress_keyboard_interrupt=False,
    help_format="plaintext",
)
for _name, _summary in COMMANDS.items():
    app.command(f"{__package__}.{_name}:{_name}", name=_name, help=_summary)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    set_up_logging()
    try:
        result = app(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        say(f"Error: {usage_message(error, _command(arguments))}")
        return USAGE
    except SelVAError as error:
        say(f"Error: {error}")
        return USAGE
    except BrokenPipeError:
        # Who read our output has left, as `| head` does; nothing may be written to it any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        say(f"Error: {os_error_sentence(error)}")
        return USAGE
    except ValueError as error:
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):
            raise
        say(f"Error: {describe_usage(error, _command(arguments))}")
        return USAGE
    except (KeyboardInterrupt, Cancelled):
        say(CANCELLED_MESSAGE)
        return CANCELLED
    return result if isinstance(result, int) else 0


def usage_message(error: CycloptsError, command: str) -> str:
    """One sentence for what cyclopts or a model refused, and where the help is."""
    from pydantic import ValidationError

    cause = error.__cause__
    if isinstance(cause, ValidationError):
        return describe_usage(cause, command)
    text = " ".join(str(error).split())
    if isinstance(error, MissingArgumentError) and error.argument is not None and error.keyword is None:
        text = f"{' or '.join(error.argument.names)} is missing."
    return f"{text} See `{command} --help`."


def describe_usage(error: "ValidationError", command: str) -> str:
    """Sentences for a pydantic error, with options as the command line spells them."""
    from ..options import GenerateOptions
    from ..options.base import describe

    return f"{describe(GenerateOptions, error, spell=_flag)} See `{command} --help`."


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _command(arguments: Sequence[str]) -> str:
    """The command that was meant, for a hint to its help."""
    words, _, _ = app.parse_commands(list(arguments))
    return " ".join(["selva", *words])
