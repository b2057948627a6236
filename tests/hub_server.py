"""A small model hub on 127.0.0.1 that can be told to misbehave."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from selva_audio.weights import download


@dataclass
class Hub:
    """What the hub has and how it answers.

    Attributes:
        url: its address, for HF_ENDPOINT.
        files: "owner/name/path" -> bytes.
        faults: how the next answers go wrong, one per GET, in order; a fault that is the last and named
            ``always`` stays.
        requests: (method, path, Range header) of every request, in order.
        redirect_to: address that files are redirected to, as the hub does for large ones.
        authorizations: Authorization header of every request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    always: str | None = None
    retry_after: str | None = None
    redirect_to: str | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def put(self, repo: str, path: str, content: bytes) -> bytes:
        self.files[f"{repo}/{path}"] = content
        return content

    def asked(self, path: str) -> list[str | None]:
        """The Range headers of the GET requests for a path that ends so."""
        return [span for method, got, span in self.requests if method == "GET" and got.endswith(path)]


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine that the store downloads from, with waits between tries cut short."""
    with running_hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(download, "RETRY_DELAYS", (0.02, 0.02, 0.02))
        yield served


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.hub
        hub.requests.append((self.command, self.path, self.headers.get("Range")))
        hub.authorizations.append(self.headers.get("Authorization"))
        fault = hub.faults.pop(0) if hub.faults and self.command == "GET" else hub.always
        if fault and fault.isdigit():
            return self._error(int(fault))
        if fault == "loop":
            return self._redirect(hub.url + self.path)
        if fault == "html":
            return self._send(200, b"<!DOCTYPE html><html>not found</html>", {"Content-Type": "text/html"})
        content = hub.files.get(self.path.removeprefix("/").replace("/resolve/main/", "/"))
        if content is None:
            return self._error(404)
        if hub.redirect_to:
            return self._redirect(hub.redirect_to + self.path)
        self._file(content, fault)

    def _file(self, content: bytes, fault: str | None) -> None:
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {"ETag": etag, "X-Linked-Etag": etag, "X-Linked-Size": str(len(content))}
        headers |= {"X-Repo-Commit": "0" * 40, "Accept-Ranges": "bytes"}
        span = self.headers.get("Range")
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and fault != "norange" else 0
        if start >= len(content) > 0:
            return self._send(416, b"", headers | {"Content-Range": f"bytes */{len(content)}"})
        status = 206 if start else 200
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(status, content[start:], headers, fault)

    def _redirect(self, location: str) -> None:
        self._send(302, b"", {"Location": location})

    def _error(self, status: int) -> None:
        wait = {"Retry-After": self.hub.retry_after} if self.hub.retry_after else {}
        self._send(status, b"<html>no</html>", {"Content-Type": "text/html"} | wait)

    def _send(self, status: int, body: bytes, headers: dict[str, str], fault: str | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/octet-stream"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(ConnectionError):
            self._body(body, fault)

    def _body(self, body: bytes, fault: str | None) -> None:
        if fault == "half":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif fault == "stall":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.hub.released.wait(20)
            self.close_connection = True
        elif fault == "slow":
            for at in range(0, len(body), max(len(body) // 8, 1)):
                self.wfile.write(body[at : at + max(len(body) // 8, 1)])
                self.wfile.flush()
                time.sleep(0.2)
        else:
            self.wfile.write(body)
