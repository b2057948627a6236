"""The parts of ComfyUI 0.3.64 that the node pack touches, small and strict, for tests without ComfyUI.

``Comfy`` holds the modules and what nodes did with them; ``object_info`` gives what the real server's
``/object_info`` gives, so that a recording of the real one can be compared with it.
"""

import enum
import os
import types
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import torch
from aiohttp import web

_NAMES = {"force_input": "forceInput", "display_mode": "display"}


class Interrupted(Exception):
    """ComfyUI's InterruptProcessingException."""


class Input:
    known: tuple[str, ...] = ()
    io_type = ""

    def __init__(self, id, optional=False, tooltip=None, **settings):
        unknown = set(settings) - set(self.known)
        if unknown:
            raise TypeError(f"{self.io_type} input {id!r}: ComfyUI 0.3.64 does not know {sorted(unknown)}")
        self.id, self.optional = id, optional
        named = {_NAMES.get(key, key): value for key, value in settings.items()}
        self.settings = {k: v for k, v in {"tooltip": tooltip, **named}.items() if v is not None}


class Output:
    io_type = ""

    def __init__(self, id=None, display_name=None, tooltip=None):
        self.id, self.display_name, self.tooltip = id, display_name, tooltip


def wire(name: str, *known: str, always: dict[str, Any] | None = None) -> type:
    class TypedInput(Input):
        io_type = name

        def __init__(self, id, **settings):
            super().__init__(id, **{**(always or {}), **settings})

    TypedInput.known = known
    return type(
        name, (), {"io_type": name, "Input": TypedInput, "Output": type("O", (Output,), {"io_type": name})}
    )


class MultiType:
    class Input(Input):
        def __init__(self, id, types, **settings):
            super().__init__(id, **settings)
            self.io_type = ",".join(each.io_type for each in types)


class NodeOutput:
    def __init__(self, *args, ui=None):
        self.args, self.ui = args, ui


class Schema:
    def __init__(
        self, node_id, display_name=None, category="sd", inputs=None, outputs=None, hidden=None,
        description="", is_output_node=False,
    ):  # fmt: skip
        ids = [each.id for each in inputs or []] + [each.id for each in outputs or [] if each.id]
        assert len(ids) == len(set(ids)), f"{node_id}: ids repeat"
        self.node_id, self.display_name, self.category = node_id, display_name, category
        self.inputs, self.outputs, self.hidden = inputs or [], outputs or [], hidden
        self.description, self.is_output_node = description, is_output_node


class ComfyNode:
    hidden = types.SimpleNamespace(unique_id="7", prompt=None, extra_pnginfo=None)


class ComfyExtension:
    pass


class Shown:
    def __init__(self, key, value):
        self.key, self.value = key, value

    def as_dict(self):
        return {self.key: self.value}


class SavedResult(dict):
    def __init__(self, filename, subfolder, type):
        super().__init__(filename=filename, subfolder=subfolder, type=type.value)


class VideoComponents:
    def __init__(self, images, frame_rate, audio=None, metadata=None):
        self.images, self.frame_rate, self.audio = images, Fraction(frame_rate), audio


class VideoFromComponents:
    def __init__(self, components):
        self._components = components

    def get_components(self):
        return self._components


class VideoFromFile:
    """``seconds`` makes it the first part of a file, as newer versions of ComfyUI can."""

    def __init__(self, file, seconds=None):
        self._file, self._seconds = file, seconds

    def get_stream_source(self):
        if isinstance(self._file, BytesIO):
            self._file.seek(0)
        return self._file

    def get_container_format(self):
        with av.open(self.get_stream_source()) as container:
            return container.format.name

    def get_duration(self):
        with av.open(self.get_stream_source()) as container:
            return self._seconds or container.duration / av.time_base

    def get_components(self):
        with av.open(self.get_stream_source()) as container:
            rate = container.streams.video[0].average_rate
            frames = [torch.from_numpy(f.to_ndarray(format="rgb24")) / 255 for f in container.decode(video=0)]
        images = torch.stack(frames)
        return VideoComponents(images[: round(self._seconds * rate)] if self._seconds else images, rate)


class ModelPatcher:
    def __init__(self, model, load_device, offload_device):
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        model.device = offload_device

    def detach(self):
        self.model.to(self.offload_device)


class Comfy:
    """One ComfyUI.

    Attributes:
        base: its base directory.
        progress: (value, total) of every update of a bar.
        previews: pictures that came with them.
        texts: what was shown under nodes.
        loaded: the models of every ``load_models_gpu`` call.
        cancel_at: number of updates after which Cancel is pressed; None = never.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.modules = self._modules()
        self.reset(base)

    def reset(self, base: Path) -> None:
        self.base = base
        self.progress, self.previews, self.texts, self.loaded = [], [], [], []
        self.cancel_at = None
        self.free_memory = 24 * 2**30
        self.device = torch.device("cpu")
        self.args.force_fp32 = self.args.force_fp16 = False
        self.folders.clear()
        for name in ("models", "output", "temp", "input"):
            (base / name).mkdir(parents=True, exist_ok=True)
        self.modules["folder_paths"].models_dir = str(base / "models")
        self.modules["folder_paths"].base_path = str(base)

    def check(self) -> None:
        if self.cancel_at is not None and len(self.progress) >= self.cancel_at:
            raise Interrupted

    def _modules(self) -> dict[str, types.ModuleType]:
        comfy = self
        self.args = types.SimpleNamespace(force_fp32=False, force_fp16=False)
        self.folders: dict[str, Any] = {}

        class ProgressBar:
            def __init__(self, total):
                self.total = total

            def update_absolute(self, value, total=None, preview=None):
                comfy.check()
                comfy.progress.append((value, total))
                if preview:
                    comfy.previews.append(preview)

        def saved_sound(audio, cls=None):
            assert audio["waveform"].ndim == 3 and audio["waveform"].shape[1] in (1, 2)
            return Shown("audio", [SavedResult("x.flac", "", FolderType.temp)] * len(audio["waveform"]))

        numbers = "default", "min", "max", "step", "control_after_generate", "display_mode"
        io = types.SimpleNamespace(
            Int=wire("INT", *numbers),
            Float=wire("FLOAT", *numbers),
            Boolean=wire("BOOLEAN", "default"),
            String=wire("STRING", "default", "multiline", "placeholder", always={"multiline": False}),
            Combo=wire("COMBO", "default", "options", "multiselect", always={"multiselect": False}),
            **{kind.capitalize(): wire(kind) for kind in ("IMAGE", "MASK", "AUDIO", "VIDEO", "LATENT")},
            Custom=wire, MultiType=MultiType, Schema=Schema, NodeOutput=NodeOutput, ComfyNode=ComfyNode,
            Input=Input, FolderType=FolderType,
            Hidden=enum.Enum("Hidden", {"unique_id": "UNIQUE_ID"}),
        )  # fmt: skip
        ui = types.SimpleNamespace(
            PreviewAudio=saved_sound,
            PreviewImage=lambda images, cls: Shown("images", [images]),
            PreviewVideo=lambda values: Shown("images", values),
            SavedResult=SavedResult,
        )

        def load_models_gpu(models, memory_required=0, force_full_load=False):
            assert force_full_load, "layers without comfy.ops cannot be loaded in part"
            comfy.loaded.append([next(iter(each.model)) for each in models])
            for each in models:
                each.model.to(each.load_device)

        management = _module(
            "comfy.model_management",
            InterruptProcessingException=Interrupted,
            throw_exception_if_processing_interrupted=self.check,
            get_torch_device=lambda: self.device,
            unet_offload_device=lambda: torch.device("cpu"),
            is_device_cpu=lambda device: device.type == "cpu",
            get_free_memory=lambda device: self.free_memory,
            should_use_bf16=lambda device: True,
            soft_empty_cache=lambda: None,
            load_models_gpu=load_models_gpu,
            VRAMState=enum.Enum("VRAMState", ["NORMAL_VRAM", "NO_VRAM"]),
        )
        management.vram_state = management.VRAMState.NORMAL_VRAM
        utils = _module("comfy.utils", ProgressBar=ProgressBar)
        patcher = _module("comfy.model_patcher", ModelPatcher=ModelPatcher)
        cli = _module("comfy.cli_args", args=self.args)
        latest = _module(
            "comfy_api.latest",
            io=io,
            ui=ui,
            ComfyExtension=ComfyExtension,
            InputImpl=types.SimpleNamespace(
                VideoFromFile=VideoFromFile, VideoFromComponents=VideoFromComponents
            ),
            Types=types.SimpleNamespace(VideoComponents=VideoComponents),
        )
        return {
            "comfy": _module(
                "comfy", model_management=management, utils=utils, model_patcher=patcher, cli_args=cli
            ),
            "comfy.model_management": management,
            "comfy.utils": utils,
            "comfy.model_patcher": patcher,
            "comfy.cli_args": cli,
            "comfy_api": _module("comfy_api", latest=latest),
            "comfy_api.latest": latest,
            "folder_paths": self._folder_paths(),
            "server": _module("server", PromptServer=types.SimpleNamespace(instance=_Server(self))),
        }

    def _folder_paths(self) -> types.ModuleType:
        def add_model_folder_path(name, path, is_default=False):
            paths, _ = self.folders.setdefault(name, ([], set()))
            if path not in paths:
                paths.append(path)

        def get_save_image_path(prefix, output):
            folder = os.path.join(output, os.path.dirname(prefix))
            assert os.path.commonpath((output, os.path.abspath(folder))) == output
            os.makedirs(folder, exist_ok=True)
            name = os.path.basename(prefix)
            count = len([each for each in os.listdir(folder) if each.startswith(name + "_")])
            return folder, name, count + 1, os.path.dirname(prefix), prefix

        return _module(
            "folder_paths",
            models_dir="",
            base_path="",
            folder_names_and_paths=self.folders,
            add_model_folder_path=add_model_folder_path,
            get_save_image_path=get_save_image_path,
            get_output_directory=lambda: str(self.base / "output"),
            get_temp_directory=lambda: str(self.base / "temp"),
            get_input_directory=lambda: str(self.base / "input"),
        )


class FolderType(enum.Enum):
    output = "output"
    temp = "temp"


class _Server:
    def __init__(self, comfy: Comfy) -> None:
        self._comfy = comfy
        self.routes = web.RouteTableDef()

    def send_progress_text(self, text, node_id):
        assert node_id == ComfyNode.hidden.unique_id
        self._comfy.texts.append(text)


def _module(name: str, **attributes: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    return module


def object_info(node: type) -> dict[str, Any]:
    """The entry of ``/object_info`` for a node, without hidden inputs and the module's name."""
    schema = node.define_schema()
    inputs: dict[str, Any] = {}
    for each in schema.inputs:
        inputs.setdefault("optional" if each.optional else "required", {})[each.id] = [
            each.io_type,
            each.settings,
        ]
    return {
        "input": inputs,
        "input_order": {part: list(found) for part, found in inputs.items()},
        "output": [each.io_type for each in schema.outputs],
        "output_is_list": [False for _ in schema.outputs],
        "output_name": [each.display_name or each.io_type for each in schema.outputs],
        "output_tooltips": [each.tooltip for each in schema.outputs],
        "name": schema.node_id,
        "display_name": schema.display_name,
        "description": schema.description,
        "category": schema.category,
        "output_node": schema.is_output_node,
        "deprecated": False,
        "experimental": False,
        "api_node": False,
    }
