"""One file fetched to one place: resumable, cancellable, whole or not at all.

The transfer is our own and not huggingface_hub's, so that it reports twice a second, stops at once,
works alike for the hub and for release pages, and keeps a single copy of the file.
"""

import concurrent.futures
import contextlib
import glob
import hashlib
import http.client
import os
import shutil
import threading
import time
import urllib.error
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

from ..errors import DownloadError
from ..progress import Progress, ProgressFn, ignore_progress
from .hashes import file_md5
from .hub import Answer, failure, is_hopeless, open_url, seconds_to_wait
from .io import text_content
from .places import user_folder

RETRY_DELAYS = (1.0, 2.0, 4.0)
_TICK = 0.4
_CHUNK = 2**20
_REFRESHES_RETRIES = 8 * 2**20

_T = TypeVar("_T")


def fetch(
    urls: Sequence[str],
    target: Path,
    *,
    md5: str | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> str:
    """Download the first of ``urls`` that answers with the file, and move it to ``target``.

    A ``target`` that exists, or that another process completes while this one waits, is kept. What has
    arrived when the work stops stays beside it as a ``.part`` file and is continued by the next call.

    Args:
        urls: addresses of the same file, in order of preference.
        target: where the file goes.
        md5: published hash; a file with another one is removed.
        on_progress: told bytes at least once a second, also while waiting; cancels by raising.

    Returns:
        The md5 of the file.

    Raises:
        DownloadError: no address gave the file; the sentence says what each of them answered.
    """
    transfer = _Transfer(target)
    with _lock(target, on_progress):
        if target.exists():
            return file_md5(target, on_progress)
        part = _while_reporting(lambda: _first_that_answers(urls, transfer), transfer, on_progress)
        found = file_md5(part, on_progress)
        if md5 is not None and found != md5:
            part.unlink()
            raise DownloadError(
                f"The {target.name} that arrived has the md5 {found}, expected is {md5}; it was removed. "
                f"Try again, try another mirror with HF_ENDPOINT, or {_by_hand(urls, target)}."
            )
        os.replace(part, target)
        for leftover in _parts(target, "*"):
            leftover.unlink(missing_ok=True)
        return found


class NotOnHub(DownloadError):
    """Every server answered, and none has the file."""


class _SourceFailed(Exception):
    """This address will not give the file; the next one may.

    ``status`` is the HTTP status; None where the server did not answer properly.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(slots=True)
class _Transfer:
    """What the transferring thread and the reporting thread share. Counts are bytes."""

    target: Path
    resumed: int = 0
    done: int = 0
    total: int = 0
    stop: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def _lock(target: Path, on_progress: ProgressFn) -> Iterator[None]:
    """One process at a time per target; waiting reports, so that it can be cancelled.

    The lock lies in the user data folder: a models folder holds nothing but models.
    """
    import filelock

    name = hashlib.sha256(str(target.absolute()).encode()).hexdigest()[:24]
    folder = user_folder() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"Cannot make the folder {error.filename}: {error.strerror}. Name a writable one with "
            "--models-dir."
        ) from error
    lock = filelock.FileLock(folder / f"{name}.lock")
    while True:
        try:
            lock.acquire(timeout=_TICK)
            break
        except filelock.Timeout:
            on_progress(Progress(f"waiting for another download of {target.name}", 0, 0))
    try:
        yield
    finally:
        lock.release()


def _while_reporting(work: Callable[[], _T], transfer: _Transfer, on_progress: ProgressFn) -> _T:
    """Run ``work`` in a thread and report until it ends; a callback that raises stops it."""
    future: concurrent.futures.Future[_T] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, name="selva-download", daemon=True)
    started = time.monotonic()
    thread.start()
    try:
        while True:
            finished, _ = concurrent.futures.wait([future], timeout=_TICK)
            rate = max(transfer.done - transfer.resumed, 0) / max(time.monotonic() - started, 1e-3)
            stage = f"downloading {transfer.target.name}"
            on_progress(Progress(stage, transfer.done, transfer.total, {"bytes_per_second": rate}))
            if finished:
                return future.result()
    finally:
        transfer.stop.set()
        thread.join(timeout=_TICK)


def _first_that_answers(urls: Sequence[str], transfer: _Transfer) -> Path:
    reasons: dict[str, int | None] = {}
    unreachable = set()
    for url in urls:
        host = urllib.parse.urlsplit(url).netloc
        if host in unreachable:
            continue
        try:
            return _with_retries(url, transfer)
        except _SourceFailed as error:
            reasons[f"{host} {error}"] = error.status
            if error.status is None:
                unreachable.add(host)
    kind = NotOnHub if set(reasons.values()) == {404} else DownloadError
    raise kind(
        f"{transfer.target.name} could not be downloaded: {'; '.join(reasons)}. Check the connection, set "
        "HF_ENDPOINT to a mirror, name a folder that has the file with --models-dir, or "
        f"{_by_hand(urls, transfer.target)}."
    )


def _by_hand(urls: Sequence[str], target: Path) -> str:
    return f"fetch {urls[0]} by hand and put it at {target}"


def _with_retries(url: str, transfer: _Transfer) -> Path:
    delays = list(RETRY_DELAYS)
    while not transfer.stop.is_set():
        before = transfer.done
        try:
            return _transfer_once(url, transfer)
        except (OSError, http.client.HTTPException) as error:
            reason, wait = failure(error, url), seconds_to_wait(error)
            if is_hopeless(error):
                raise _SourceFailed(reason, getattr(error, "code", None)) from error
        if transfer.done - before > _REFRESHES_RETRIES:
            delays = list(RETRY_DELAYS)
        if not delays:
            kept = "; what arrived is kept, the next try goes on from there" if transfer.done else ""
            raise _SourceFailed(f"{reason}, {len(RETRY_DELAYS) + 1} times{kept}")
        delay = delays.pop(0)
        transfer.stop.wait(delay if wait is None else wait)
    raise _SourceFailed("was cancelled")


def _transfer_once(url: str, transfer: _Transfer) -> Path:
    """One request: continues the ``.part`` file of this address, or begins it. Returns it when whole."""
    part = next(iter(_parts(transfer.target, _short_hash(url))), None)
    offset = part.stat().st_size if part else 0
    try:
        answer = open_url(url, offset)
    except urllib.error.HTTPError as error:
        if error.code != 416 or part is None:
            raise
        if error.headers.get("Content-Range") == f"bytes */{offset}":
            transfer.done = transfer.total = offset
            return part
        part.unlink()
        return _transfer_once(url, transfer)
    with answer.response:
        named = _part_path(url, transfer.target, answer)
        if part is not None and (part != named or answer.start != offset):
            # The file on the server is another one now, or this server cannot continue.
            part.unlink()
            if answer.start:
                return _transfer_once(url, transfer)
        elif answer.start != offset:
            raise _SourceFailed("answered with another part of the file than was asked for")
        _receive(answer, named, transfer)
    return named


def _receive(answer: Answer, part: Path, transfer: _Transfer) -> None:
    transfer.resumed = transfer.done = answer.start
    transfer.total = answer.total
    chunk = answer.response.read1(_CHUNK)
    if not answer.start:
        _refuse_text(answer, chunk, transfer.target.name)
    _require_space(part, answer.total - answer.start)
    with _opened(part) as handle:
        while chunk and not transfer.stop.is_set():
            _append(handle, chunk, part)
            transfer.done += len(chunk)
            chunk = answer.response.read1(_CHUNK)
        os.fsync(handle.fileno())
    if transfer.done < answer.total:
        raise http.client.IncompleteRead(b"", answer.total - transfer.done)


def _refuse_text(answer: Answer, chunk: bytes, name: str) -> None:
    """Refuse an error page sent as if it were the file; it has happened, and was then trusted."""
    found = text_content(chunk)
    if answer.response.headers.get_content_type() == "text/html":
        found = "a web page"
    if not chunk and not answer.total:
        found = "an empty file"
    if found and not (name.endswith(".json") and found == "a JSON text"):
        raise _SourceFailed(f"answered with {found} instead of the file")


def _require_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DownloadError(
            f"{part.parent} has {free / 1e9:.2f} GB free, the download needs {needed / 1e9:.2f} GB more. "
            "Free some space, or name a folder on another disk with --models-dir."
        )


def _opened(part: Path) -> BinaryIO:
    try:
        return open(part, "ab")
    except OSError as error:
        raise _cannot_write(part, error) from error


def _append(handle: BinaryIO, chunk: bytes, part: Path) -> None:
    try:
        handle.write(chunk)
        handle.flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            handle.close()
        raise _cannot_write(part, error) from error


def _cannot_write(part: Path, error: OSError) -> DownloadError:
    return DownloadError(
        f"Cannot write {part}: {error.strerror}. Free some space and run the same command again (it goes on "
        "from there), or name another folder with --models-dir."
    )


def _parts(target: Path, source: str) -> list[Path]:
    return sorted(target.parent.glob(f"{glob.escape(target.name)}.{source}-*.part"))


def _part_path(url: str, target: Path, answer: Answer) -> Path:
    """Beside the target, named after the address and after the content the server announces."""
    content = _short_hash(f"{answer.etag} {answer.total}")
    return target.with_name(f"{target.name}.{_short_hash(url)}-{content}.part")


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
