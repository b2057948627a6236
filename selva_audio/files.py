"""Files that appear whole or not at all, locks between processes, and paths that stay in their root."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError, OutputError

_UNSAFE = re.compile(r"[\x00-\x1f/\\:*?\"<>|]")
_DEVICE_NAMES = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_MAX_NAME_BYTES = 180


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` with the same suffix; move it into place on success.

    The sibling is fsynced before the move and removed on any error, cancellation included, so
    that ``path`` either keeps what it held or holds the whole new content.

    Raises:
        OutputError: the folder cannot be made, or the disk refuses the write.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot create the folder {path.parent} for {path.name}: {_reason(error)}. "
            "Choose an output path whose parent is a folder you can write to."
        ) from error
    if path.is_dir():
        raise OutputError(f"{path} is a folder. Give the path of a file to write.")
    temporary = path.with_name(f".{path.stem[:80]}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {_reason(error)}. Free some space or choose another place."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` atomically."""
    write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def file_lock(path: Path, *, busy: str = "") -> Iterator[None]:
    """Hold an exclusive lock named after ``path`` between processes (``path`` + ``.lock``).

    Args:
        path: what is locked; the lock's own file stays beside it.
        busy: sentence to raise where another process holds the lock; "" = wait for it.

    Raises:
        OutputError: another process holds it, and ``busy`` says so.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(path.name + ".lock"), timeout=0 if busy else -1)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputError(busy) from error
    try:
        yield
    finally:
        lock.release()


def safe_name(name: str) -> str:
    """File name made from free text: separators, control and reserved characters become ``_``.

    Raises:
        InputError: nothing usable is left, or the name is a reserved device name or too long.
    """
    cleaned = _UNSAFE.sub("_", name).strip().rstrip(".")
    if not cleaned.strip("_. ") or _DEVICE_NAMES.match(cleaned):
        raise InputError(f"{name!r} cannot be used as a file name. Use letters, digits, '-' and '_'.")
    if len(cleaned.encode("utf-8")) > _MAX_NAME_BYTES:
        raise InputError(
            f"The name {cleaned[:40]!r}... is {len(cleaned.encode('utf-8'))} bytes long; "
            f"use at most {_MAX_NAME_BYTES}."
        )
    return cleaned


def inside(root: Path, relative: str | Path) -> Path:
    """Resolve ``relative`` below ``root`` and refuse anything that would leave it.

    Raises:
        InputError: the resolved path is outside ``root`` (by ``..``, a link or an absolute path).
    """
    if "\0" in str(relative):
        raise InputError(f"The path {str(relative)!r} holds a NUL character.")
    root = root.resolve()
    path = (root / relative).resolve()
    if path != root and root not in path.parents:
        raise InputError(f"{relative} leaves the folder {root}. Give a path below it.")
    return path


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a whole file."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()


def _reason(error: OSError) -> str:
    if error.errno in (errno.EFBIG, errno.ENOSPC, errno.EDQUOT):
        return "no space is left, or a size limit was reached"
    return error.strerror or str(error)
