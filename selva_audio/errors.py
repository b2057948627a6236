"""Errors a user can cause or meet; front ends print their message without a traceback.

Every message says what is wrong (with the value), what would be right, and what to do next.
"""

import difflib
from collections.abc import Iterable

_LONGEST_SHOWN = 80


class SelVAError(Exception):
    """Base of every error whose message is meant for the user."""


class InputError(SelVAError):
    """An option, prompt, path or array that cannot be used as given."""


class MediaError(SelVAError):
    """A video, image or sound file that cannot be read or written."""


class MissingFileError(SelVAError):
    """A file that is needed and was not found in any place looked at."""


class CheckpointError(SelVAError):
    """A weight file whose content is not what its component needs, or is not safe to read."""


class DownloadError(SelVAError):
    """A hub that did not answer, or answered with something other than the file."""


class OutputError(SelVAError):
    """A result that cannot be written where it was asked for."""


class GenerationError(SelVAError):
    """A run whose numbers are unusable (NaN or infinite), so nothing is written."""


def os_error_sentence(error: OSError) -> str:
    """Sentence for what the operating system refused: the file, if it names one, and its reason."""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}. Check the path, its permissions and the space on the disk."


def shown(value: object) -> str:
    """A value as messages show it: its repr, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}… ({len(text)} characters)"


def unknown_name(kind: str, value: str, choices: Iterable[str]) -> str:
    """Sentence for an unknown name: the value, the nearest valid one, and all of them."""
    names = list(choices)
    nearest = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"Unknown {kind} {shown(value)}.{hint} Known: {', '.join(names)}."
