"""Routes of the server for the page: what a queued node cannot do while another one works."""

import asyncio
from pathlib import Path
from typing import Any

from ..errors import InputError, SelVAError, os_error_sentence, shown
from .plans import SCHEDULERS, find_sweep

SKIP_ROUTE = "/selva/skip"


def register_routes() -> None:
    """``POST /selva/skip`` with ``{"experiments_file": ..., "kind": ...}``: leaves what runs."""
    from aiohttp import web
    from server import PromptServer

    async def skip(request: Any) -> Any:
        try:
            path = await asyncio.to_thread(_skip, await request.json())
        except ValueError:
            return web.json_response({"error": "The request is not JSON."}, status=400)
        except SelVAError as error:
            return web.json_response({"error": str(error)}, status=400)
        except OSError as error:
            return web.json_response({"error": os_error_sentence(error)}, status=500)
        return web.json_response({"flag_path": str(path)})

    PromptServer.instance.routes.post(SKIP_ROUTE)(skip)


def _skip(wish: Any) -> Path:
    from ..tasks.sweep import skip_experiment

    typed = wish.get("experiments_file") if isinstance(wish, dict) else None
    kind = wish.get("kind", "lora") if isinstance(wish, dict) else None
    if not isinstance(typed, str) or kind not in tuple(SCHEDULERS):
        raise InputError(
            f"The request is {shown(wish)}. Send the experiments_file of the series as JSON, and its kind."
        )
    return skip_experiment(find_sweep(typed, kind).root)
