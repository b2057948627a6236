"""The real ComfyUI page, from the wheel comfyui-frontend-package, over a small server of ours.

``/object_info`` is the recording of the pack and a few entries, written by hand, for the nodes of ComfyUI and
of VHS that workflows use.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfyui_frontend_package
from aiohttp import WSMsgType, web

STATIC = Path(comfyui_frontend_package.__file__).parent / "static"
ROOT = Path(__file__).parents[2]
WEB = ROOT / "selva_audio" / "comfyui" / "web"
PACK = "selva-audio"


def _node(
    name: str, required: dict[str, Any], outputs: tuple[str, ...] = (), *, last: bool = False
) -> dict[str, Any]:
    return {
        "input": {"required": required},
        "input_order": {"required": list(required)},
        "output": list(outputs),
        "output_is_list": [False] * len(outputs),
        "output_name": list(outputs),
        "name": name,
        "display_name": name,
        "description": "",
        "python_module": "nodes",
        "category": "core",
        "output_node": last,
    }


def object_info() -> dict[str, Any]:
    """The pack's nodes as recorded, and those of others that workflows use."""
    recorded = json.loads(Path(__file__).with_name("object_info.json").read_text())
    prefix = ["STRING", {"default": "x"}]
    others = [
        _node("LoadVideo", {"file": [["clip.mp4"], {"video_upload": True}]}, ("VIDEO",)),
        _node(
            "LoadImageMask",
            {"image": [["mask.png"], {"image_upload": True}], "channel": [["alpha", "red"]]},
            ("MASK",),
        ),
        _node(
            "SaveVideo",
            {
                "video": ["VIDEO"],
                "filename_prefix": prefix,
                "format": [["auto", "mp4"]],
                "codec": [["auto", "h264"]],
            },
            last=True,
        ),
        _node("SaveAudio", {"audio": ["AUDIO"], "filename_prefix": prefix}, last=True),
        _node("PreviewImage", {"images": ["IMAGE"]}, last=True),
        _node("VHS_LoadVideo", {"video": [["clip.mp4"]]}, ("IMAGE", "INT", "AUDIO", "VHS_VIDEOINFO")),
        _node(
            "VHS_VideoCombine",
            {
                "images": ["IMAGE"],
                "audio": ["AUDIO"],
                "frame_rate": ["FLOAT", {"default": 8}],
                "filename_prefix": prefix,
            },
            last=True,
        ),
    ]
    mine = {name: {**entry, "python_module": f"custom_nodes.{PACK}"} for name, entry in recorded.items()}
    return mine | {entry["name"]: entry for entry in others}


@contextlib.contextmanager
def serve() -> Iterator[str]:
    """Address of the page while the block runs."""
    loop, ready, address = asyncio.new_event_loop(), threading.Event(), []
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", _answer)
    runner = web.AppRunner(application, shutdown_timeout=1)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    yield address[0]
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


_FIXED: dict[str, Any] = {
    "/extensions": [f"/extensions/{PACK}/{path.name}" for path in sorted(WEB.glob("*.js"))],
    "/users": {"storage": "server", "migrated": True},
    "/settings": {"Comfy.TutorialCompleted": True, "Comfy.Workflow.ShowMissingModelsWarning": False},
    "/system_stats": {
        "system": {
            "os": "posix",
            "comfyui_version": "0.3.64",
            "python_version": "3",
            "pytorch_version": "0",
            "embedded_python": False,
            "argv": [],
            "ram_total": 1,
            "ram_free": 1,
        },
        "devices": [],
    },
    "/queue": {"queue_running": [], "queue_pending": []},
    "/prompt": {"exec_info": {"queue_remaining": 0}},
    **{
        f"/{name}": {}
        for name in ("history", "i18n", "workflow_templates", "features", "internal/folder_paths")
    },
    **{f"/{name}": [] for name in ("embeddings", "models", "experiment/models", "userdata", "internal/logs")},
}


async def _answer(request: web.Request) -> web.StreamResponse:
    path = request.path.removeprefix("/api")
    if path == "/ws":
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json(
            {"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "x"}}
        )
        async for message in socket:
            if message.type in (WSMsgType.CLOSE, WSMsgType.ERROR):
                break
        return socket
    if path == "/object_info":
        return web.json_response(object_info())
    if path in _FIXED:
        return web.json_response(_FIXED[path])
    prefix = f"/extensions/{PACK}/"
    file = (
        WEB / path.removeprefix(prefix)
        if path.startswith(prefix)
        else STATIC / (path.lstrip("/") or "index.html")
    )
    return web.FileResponse(file) if file.is_file() else web.Response(status=404)
