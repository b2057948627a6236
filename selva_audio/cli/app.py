"""The command tree and its exit codes: 0 done, 1 some items failed, 2 bad usage or input, 130 cancelled."""

import signal
from collections.abc import Sequence
from types import FrameType

from cyclopts import App, CycloptsError
from pydantic import ValidationError

from .. import __version__
from ..errors import SelVAError
from ..options.base import describe
from ..progress import Cancelled
from .console import say, set_up_logging
from .demo import demo
from .doctor import doctor
from .features import features
from .generate import generate
from .models import models
from .replay import replay

FAILED, USAGE, CANCELLED = 1, 2, 130

app = App(
    name="selva",
    help="Text-selective video-to-audio: a video and a sentence in, the sound of that source out, in sync.",
    version=__version__,
)
for command in (generate, features, replay, doctor, demo):
    app.command(command)
app.command(models)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    set_up_logging()
    try:
        result = app(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except ValidationError as error:
        say(f"Error: {describe_usage(error)}")
        return USAGE
    except CycloptsError as error:
        say(f"Error: {usage_message(error)}")
        return USAGE
    except SelVAError as error:
        say(f"Error: {error}")
        return USAGE
    except (KeyboardInterrupt, Cancelled):
        say("Cancelled; nothing half-written was left.")
        return CANCELLED
    return result if isinstance(result, int) else 0


def usage_message(error: CycloptsError) -> str:
    """One sentence for what cyclopts or a model refused."""
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        return describe_usage(cause)
    return " ".join(str(error).split()) + " See `selva --help`."


def describe_usage(error: ValidationError) -> str:
    """Sentences for a pydantic error, with option names as the command line spells them."""
    from ..options import GenerateOptions

    return describe(GenerateOptions, error) + " See `selva --help`."


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
