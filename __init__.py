"""Entry for ComfyUI, which loads this folder as a package; nothing happens on any other import."""

if __package__:
    pass
