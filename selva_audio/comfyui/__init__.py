"""The ComfyUI node pack: nodes over tasks. Only this package imports comfy, and only once ComfyUI asks."""

from typing import Any


async def comfy_entrypoint() -> Any:
    """What ComfyUI calls when it loads the pack."""
    try:
        from comfy_api.latest import ComfyExtension
    except ImportError as error:
        raise ImportError(
            "SelVA needs ComfyUI 0.3.64 or newer. Update ComfyUI and start it again."
        ) from error
    from .folders import register_folders
    from .nodes import NODES
    from .routes import register_routes

    class SelvaExtension(ComfyExtension):
        """All nodes of the pack."""

        async def get_node_list(self) -> list[type]:
            return list(NODES)

    register_folders()
    register_routes()
    return SelvaExtension()
