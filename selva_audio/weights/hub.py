"""Connections: the only file that opens one. Endpoint, token and offline rules are huggingface_hub's."""

import contextlib
import email.utils
import http.client
import os
import re
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.client import HTTPResponse

from ..errors import DownloadError

LONGEST_WAIT = 30.0
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_TRUE = ("1", "ON", "YES", "TRUE")
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Answer:
    """An open response to a request for a file.

    Attributes:
        response: the body, still to be read.
        start: position of the body's first byte in the file.
        total: bytes of the whole file; 0 where the server does not say.
        etag: the server's name for this content; "" where it gives none.
    """

    response: HTTPResponse
    start: int
    total: int
    etag: str


def open_url(url: str, offset: int = 0) -> Answer:
    """Ask for a file, from byte ``offset`` on; proxies, redirects and certificates as the system has them.

    A server that cannot continue sends the whole file: then ``start`` is 0.

    Raises:
        urllib.error.HTTPError: the server answered with an error.
        OSError, http.client.HTTPException: the connection failed.
    """
    headers = {"User-Agent": "selva-audio", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    request = urllib.request.Request(url, headers=headers)
    if url.startswith(endpoint() + "/") and (token := _token()):
        # Unredirected: the store that the hub redirects to has its own signature in the address.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    timeout = float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or 10)
    response: HTTPResponse = _opener(url).open(request, timeout=timeout)
    if url.startswith("https:") and not response.url.startswith("https:"):
        response.close()
        raise urllib.error.URLError("it redirects to an address without encryption")
    partial = _RANGE.fullmatch(response.headers.get("Content-Range", "")) if response.status == 206 else None
    start, size = partial.groups() if partial else ("0", response.headers.get("Content-Length", "0"))
    total = int(size) if size.isdigit() else 0
    return Answer(response, int(start), total, response.headers.get("ETag", ""))


def failure(error: Exception, url: str) -> str:
    """What the server of ``url`` did, as words that follow its name."""
    if isinstance(error, urllib.error.HTTPError):
        return _answered(error, urllib.parse.urlsplit(url).path)
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, http.client.IncompleteRead):
        return "broke off in the middle of the file"
    if isinstance(cause, TimeoutError):
        return "did not answer in time"
    if isinstance(cause, socket.gaierror):
        return "cannot be found (no network, or a wrong HF_ENDPOINT)"
    return f"cannot be reached ({cause or type(cause).__name__})"


def is_hopeless(error: Exception) -> bool:
    """Whether asking the same address again at once makes no sense."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code not in _TRANSIENT or (seconds_to_wait(error) or 0) > LONGEST_WAIT
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(cause, (str, socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError))


def seconds_to_wait(error: Exception) -> float | None:
    """What the server asks for with Retry-After, given as a number or as a date."""
    text = error.headers.get("Retry-After", "") if isinstance(error, urllib.error.HTTPError) else ""
    if text.isdigit():
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def hub_url(repo: str, path: str) -> str:
    """Address of a file of a hub repository."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repo, path, endpoint=endpoint())


def endpoint() -> str:
    """The hub: ``HF_ENDPOINT``, read now rather than at import.

    Raises:
        DownloadError: the variable holds something other than an http(s) address.
    """
    named = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    if not named.startswith(("http://", "https://")):
        raise DownloadError(f"HF_ENDPOINT is {named!r}. Set it to an address such as https://huggingface.co.")
    return named


def is_offline() -> bool:
    """Whether the hub's offline variables ask for no network."""
    return any(
        os.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def _opener(url: str) -> urllib.request.OpenerDirector:
    if not url.startswith("https:"):
        return urllib.request.build_opener()
    paths = ssl.get_default_verify_paths()
    cafile = None
    if sys.platform != "win32" and not (paths.cafile or paths.capath):
        # Some Python builds for macOS come without certificates.
        with contextlib.suppress(ImportError):
            import certifi

            cafile = certifi.where()
    context = ssl.create_default_context(cafile=cafile)
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))


def _answered(error: urllib.error.HTTPError, path: str) -> str:
    if 300 <= error.code < 400:
        return f"redirects in a circle for {path}"
    wait = seconds_to_wait(error)
    advice = {
        401: "; for a private or gated repository set HF_TOKEN",
        403: "; accept the conditions on its page and set HF_TOKEN",
        429: f"; it asks to wait {wait:.0f} s" if wait else "; too many requests",
    }
    return f"answered {error.code} ({error.reason}) for {path}{advice.get(error.code, '')}"
