"""What only a real ComfyUI can show, run by hand: ``real.py --comfyui DIR --python PYTHON --clip FILE``.

Starts a checkout of ComfyUI on the CPU with a base directory of its own and this pack in it, runs every
example workflow over HTTP, cancels one, looks at what is cached, and watches memory over twenty runs. Prints
one line per check. Nothing of ComfyUI is part of this repository.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np

ROOT = Path(__file__).parents[2]
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "AUDIO_UI"}


@contextlib.contextmanager
def server(comfyui: Path, python: str, base: Path) -> Iterator[tuple[str, int]]:
    """Address and process id of a ComfyUI while the block runs."""
    for folder in ("custom_nodes", "models", "input", "output", "temp", "user"):
        (base / folder).mkdir()
    (base / "custom_nodes" / "selva-audio").symlink_to(ROOT, target_is_directory=True)
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
        """Run one prompt; returns its history and what was seen of it."""
        seen: dict[str, Any] = {"progress": 0, "pictures": 0, "cached": [], "executed": [], "cancelled": 0.0}
        begin = time.time()
        async with self.http.post("/prompt", json={"prompt": prompt, "client_id": self.id}) as answer:
            body = await answer.json()
        assert "prompt_id" in body, json.dumps(body)[:2000]
        sent = 0.0
        async for message in self.socket:
            if message.type == aiohttp.WSMsgType.BINARY:
                seen["pictures"] += 1
                continue
            event = json.loads(message.data)
            kind, data = event["type"], event.get("data") or {}
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
                raise AssertionError(f"{data['node_type']}: {data['exception_message']}")
            elif kind == "execution_interrupted":
                seen["cancelled"] = time.time() - sent
                break
            if kind == "executing" and data.get("node") is None:
                break
        seen["seconds"] = time.time() - begin
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
            if isinstance(spec[0], list) or spec[0] in WIDGETS:
                inputs[name] = values.pop(0)
                if len(spec) > 1 and spec[1].get("control_after_generate"):
                    values.pop(0)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs | linked}
    return prompt


def saved_videos(history: dict[str, Any]) -> list[dict[str, str]]:
    found = [file for out in history["outputs"].values() for file in out.get("images", [])]
    return [file for file in found if file["type"] == "output" and file["filename"].endswith(".mp4")]


def resident_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) // 1024


async def checks(url: str, pid: int) -> None:
    async with Client(url) as client:
        info = await client.get("/object_info")
        prompts = {}
        for path in sorted((ROOT / "example_workflows").glob("*.json")):
            prompts[path.stem] = to_prompt(json.loads(path.read_text()), info)
            history, seen = await client.run(prompts[path.stem])
            (file,) = saved_videos(history)
            await check_video(client, file)
            assert seen["progress"] > 5
            print(f"{path.stem}: {seen['seconds']:.1f} s, {seen['progress']} progress events")
        basic = prompts["selva_basic"]
        sampler = next(key for key, node in basic.items() if node["class_type"] == "SelvaSampler")
        await client.run(basic)
        _, seen = await client.run(basic)
        assert seen["executed"] == [] and len(seen["cached"]) == len(basic)
        print(f"second run: all {len(basic)} nodes cached, {seen['seconds']:.2f} s")
        basic[sampler]["inputs"]["seed"] += 1
        _, seen = await client.run(basic)
        ran = [basic[node]["class_type"] for node in seen["executed"]]
        assert ran[0] == "SelvaSampler" and not {"SelvaFeatureExtractor", "SelvaModelLoader"} & set(ran)
        print(f"another seed: only {', '.join(ran)} ran, {seen['seconds']:.1f} s")
        slow = json.loads(json.dumps(basic))
        slow[sampler]["inputs"]["steps"] = 200
        _, seen = await client.run(slow, cancel_at=300)
        assert 0 < seen["cancelled"] < 2
        print(f"interrupt: stopped after {seen['cancelled']:.2f} s")
        await client.run(basic)
        print("the run after an interrupt works")
        memory = []
        for number in range(20):
            basic[sampler]["inputs"] |= {"seed": 100 + number, "steps": 5}
            await client.run(basic)
            memory.append(resident_mb(pid))
        print(f"resident memory: {memory[4]} MB after run 5, {memory[19]} MB after run 20")
        assert memory[19] <= 1.05 * memory[4], memory


async def check_video(client: Client, file: dict[str, str]) -> None:
    content = await client.get("/view", **file)
    with tempfile.NamedTemporaryFile(suffix=".mp4") as copy:
        copy.write(content)
        copy.flush()
        with av.open(copy.name) as container:
            picture, sound = container.streams.video[0], container.streams.audio[0]
            seconds = float(picture.duration * picture.time_base)
            length = sum(frame.samples for frame in container.decode(sound)) / sound.codec_context.sample_rate
            assert abs(length - seconds) <= 1 / picture.average_rate, (length, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", required=True, type=Path, help="checkout, 0.3.64 or newer")
    parser.add_argument("--python", required=True, help="its Python")
    parser.add_argument("--clip", required=True, type=Path, help="video for Load Video")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        server(arguments.comfyui, arguments.python, Path(folder)) as (url, pid),
    ):
        shutil.copy(arguments.clip, Path(folder) / "input" / "clip.mp4")
        with av.open(str(Path(folder) / "input" / "mask.png"), "w", format="image2") as picture:
            stream = picture.add_stream("png")
            stream.width = stream.height = 64
            stream.pix_fmt = "rgb24"
            half = np.zeros((64, 64, 3), np.uint8)
            half[:, :32] = 255
            picture.mux(stream.encode(av.VideoFrame.from_ndarray(half, format="rgb24")))
        asyncio.run(checks(url, pid))


if __name__ == "__main__":
    main()
