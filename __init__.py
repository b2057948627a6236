"""Entry for ComfyUI, which loads this folder as a package; nothing happens on any other import."""

if __package__:
    from .selva_audio.comfyui import comfy_entrypoint

    WEB_DIRECTORY = "./selva_audio/comfyui/web"
    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
