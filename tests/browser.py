"""A headless Chromium over its own debugging protocol: open a page, wait for a promise, get its value."""

import asyncio
import base64
import contextlib
import subprocess
from pathlib import Path
from typing import Any

import aiohttp

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --mute-audio "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--autoplay-policy=no-user-gesture-required --remote-debugging-port=0"
)


def evaluate(
    chromium: str,
    url: str,
    expression: str,
    profile: Path,
    *,
    timeout: float = 60,
    picture: Path | None = None,
    size: tuple[int, int] = (1520, 1180),
    part: tuple[int, int] = (0, 0),
) -> Any:
    """Value of the JavaScript ``expression`` (a promise is awaited) on the loaded page at ``url``.

    ``picture`` is written as JPEG when the value is there; the page is ``size`` (width, height) large, and
    the picture is of what lies right of and below ``part``.
    """
    return asyncio.run(
        asyncio.wait_for(_evaluate(chromium, url, expression, profile, picture, size, part), timeout)
    )


async def _evaluate(
    chromium: str,
    url: str,
    expression: str,
    profile: Path,
    picture: Path | None,
    size: tuple[int, int],
    part: tuple[int, int],
) -> Any:
    browser = subprocess.Popen(
        [chromium, *_FLAGS.split(), f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:
            page = await _page(session, profile / "DevToolsActivePort")
            async with session.ws_connect(page, max_msg_size=0) as socket:
                await socket.send_json({"id": 1, "method": "Page.enable"})
                screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
                await socket.send_json(
                    {"id": 5, "method": "Emulation.setDeviceMetricsOverride", "params": screen}
                )
                await socket.send_json({"id": 2, "method": "Page.navigate", "params": {"url": url}})
                await _message(socket, lambda message: message.get("method") == "Page.loadEventFired")
                wish = {"expression": expression, "awaitPromise": True, "returnByValue": True}
                await socket.send_json({"id": 3, "method": "Runtime.evaluate", "params": wish})
                answer = await _message(socket, lambda message: message.get("id") == 3)
                assert "exceptionDetails" not in answer["result"], answer["result"]["exceptionDetails"]
                if picture is not None:
                    clip = {"x": part[0], "y": part[1], "scale": 1}
                    clip |= {"width": size[0] - part[0], "height": size[1] - part[1]}
                    wish = {"format": "jpeg", "quality": 60, "clip": clip}
                    await socket.send_json({"id": 4, "method": "Page.captureScreenshot", "params": wish})
                    shot = await _message(socket, lambda message: message.get("id") == 4)
                    picture.write_bytes(base64.b64decode(shot["result"]["data"]))
                return answer["result"]["result"].get("value")
    finally:
        browser.terminate()
        browser.wait(10)


async def _page(session: aiohttp.ClientSession, port_file: Path) -> str:
    """Address of the first page's socket, once the browser is up."""
    while True:
        with contextlib.suppress(OSError, IndexError, aiohttp.ClientError):
            port = port_file.read_text().split()[0]
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                for page in await answer.json():
                    if page["type"] == "page":
                        return str(page["webSocketDebuggerUrl"])
        await asyncio.sleep(0.1)


async def _message(socket: aiohttp.ClientWebSocketResponse, wanted: Any) -> Any:
    async for message in socket:
        content = message.json()
        if wanted(content):
            return content
    raise AssertionError("the browser closed the connection")
