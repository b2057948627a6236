"""A real ComfyUI as a process, and the part of its HTTP and websocket interface that checks need."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).parents[2]
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "AUDIO_UI"}


class Refused(Exception):
    """What the user reads when a prompt is not accepted, or fails."""


@contextlib.contextmanager
def server(comfyui: Path, python: str, base: Path, *packs: Path) -> Iterator[tuple[str, int]]:
    """Address and process id of a ComfyUI with this pack, and others, while the block runs."""
    for folder in ("custom_nodes", "models", "input", "output", "temp", "user"):
        (base / folder).mkdir()
    (base / "custom_nodes" / "selva-audio").symlink_to(ROOT, target_is_directory=True)
    for pack in packs:
        (base / "custom_nodes" / pack.name).symlink_to(pack.absolute(), target_is_directory=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", str(base), "--disable-auto-launch", "--disable-api-nodes"]
    command += ["--database-url", "sqlite:///:memory:"]
    with open(base / "server.log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=comfyui, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/system_stats", timeout=5)
                break
            assert process.poll() is None, (base / "server.log").read_text()[-2000:]
            time.sleep(0.3)
        started = (base / "server.log").read_text()
        assert "IMPORT FAILED" not in started, started[-2000:]
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(30)


class Client:
    """The part of ComfyUI's HTTP and websocket interface that is needed."""

    def __init__(self, url: str) -> None:
        self.url, self.id = url, uuid.uuid4().hex

    async def __aenter__(self) -> "Client":
        self.http = aiohttp.ClientSession(self.url)
        self.socket = await self.http.ws_connect(f"/ws?clientId={self.id}", max_msg_size=0)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.socket.close()
        await self.http.close()

    async def get(self, path: str, **params: str) -> Any:
        async with self.http.get(path, params=params) as answer:
            return await (answer.json() if "json" in answer.content_type else answer.read())

    async def run(
        self, prompt: dict[str, Any], *, cancel_at: int = 0
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Run one prompt; returns its history and what was seen of it.

        Raises:
            Refused: the server did not take it, or a node failed; with the sentence that the user reads.
        """
        seen: dict[str, Any] = {"progress": 0, "pictures": 0, "cached": [], "executed": [], "cancelled": 0.0}
        begin = time.time()
        async with self.http.post("/prompt", json={"prompt": prompt, "client_id": self.id}) as answer:
            body = await answer.json()
        errors = [each for node in body["node_errors"].values() for each in node["errors"]]
        refused = "; ".join(f"{each['message']}: {each['details']}" for each in errors)
        if "prompt_id" not in body:
            raise Refused(refused or f"{body['error']['message']}: {body['error']['details']}")
        sent = 0.0
        async for message in self.socket:
            if message.type == aiohttp.WSMsgType.BINARY:
                seen["pictures"] += 1
                continue
            event = json.loads(message.data)
            kind, data = event["type"], event.get("data") or {}
            if data.get("prompt_id", body["prompt_id"]) != body["prompt_id"]:
                continue  # the end of an earlier one that failed
            if kind == "progress":
                seen["progress"] += 1
                if cancel_at and data["value"] >= cancel_at and not sent:
                    sent = time.time()
                    async with self.http.post("/interrupt"):
                        pass
            elif kind == "execution_cached":
                seen["cached"] = sorted(data["nodes"])
            elif kind == "executing" and data.get("node"):
                seen["executed"].append(data["node"])
            elif kind == "execution_error":
                raise Refused(data["exception_message"].strip())
            elif kind == "execution_interrupted":
                seen["cancelled"] = time.time() - sent
                break
            if kind == "executing" and data.get("node") is None:
                break
        seen["seconds"] = time.time() - begin
        if refused:  # what does not depend on the refused nodes has run
            raise Refused(refused)
        for _ in range(100):
            history = await self.get(f"/history/{body['prompt_id']}")
            if body["prompt_id"] in history:
                return history[body["prompt_id"]], seen
            await asyncio.sleep(0.05)
        raise AssertionError("no history")


def to_prompt(graph: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """The API form of a workflow in the page's form."""
    sources = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    prompt = {}
    for node in graph["nodes"]:
        if node["type"] not in info:
            continue
        entry, values, inputs = info[node["type"]]["input"], list(node["widgets_values"]), {}
        linked = {each["name"]: sources[each["link"]] for each in node["inputs"] if each["link"] is not None}
        for name, spec in {**entry.get("required", {}), **entry.get("optional", {})}.items():
            is_widget = isinstance(spec[0], list) or spec[0] in WIDGETS
            if is_widget and values:  # one that came later is left out, and is as the node has it
                inputs[name] = values.pop(0)
                if len(spec) > 1 and spec[1].get("control_after_generate"):
                    values.pop(0)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs | linked}
    return prompt


def saved_videos(history: dict[str, Any]) -> list[dict[str, str]]:
    """Videos that a prompt left in the output folder, as ``/view`` wants them; one at least."""
    found = [
        file for out in history["outputs"].values() for key in ("images", "gifs") for file in out.get(key, [])
    ]
    return [
        file for file in found if file["type"] == "output" and file["filename"].endswith((".mp4", ".mkv"))
    ]


def resident_mb(pid: int) -> int:
    """Memory of a process in use now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) // 1024
