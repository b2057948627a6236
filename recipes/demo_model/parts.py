"""Trained parts on disk: what a stage exports, and how later stages load it.

Files are those that ship: half precision, one per part, read back through ``load_component``. A later stage
is therefore trained on exactly the features that users will get.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selva_audio.weights import load_component
from selva_audio.weights.io import read_state_dict, write_safetensors

from .data import CONFIG, VARIANT

# Parts of a stage's module: part -> prefix of its keys there.
PREFIXES: Mapping[str, Mapping[str, str]] = {
    "encoder": {"encoder": ""},
    "refine": {"t5": "encoder.t5.", "video_encoder": "encoder.video_encoder."},
    "vae": {"vae": ""},
    "clip": {"clip": "clip."},
    "generator": {"generator": ""},
    "vocoder": {"rough_vocoder": ""},
    "polish": {"vocoder": ""},
}
_LICENCE = {"licence": "MIT", "variant": VARIANT}


def export(stage: str, state: Mapping[str, Tensor], folder: Path) -> None:
    """Write the parts of a finished stage into ``folder``."""
    for part, prefix in PREFIXES[stage].items():
        chosen = {
            key.removeprefix(prefix): _as_half(value)
            for key, value in state.items()
            if key.startswith(prefix)
        }
        if part == "video_encoder":
            chosen["empty_string_feat"] = _empty_text(folder)
        write_safetensors(part_path(folder, part), chosen, _LICENCE)


def load_part(folder: Path, part: str) -> Any:
    """A part as users get it: eval mode, float32 arithmetic, half-precision weights, no gradients."""
    module = load_component(part, VARIANT, read_state_dict(part_path(folder, part)))
    return module.requires_grad_(False)


def read_weights(folder: Path, part: str) -> dict[str, Tensor]:
    """Plain tensors of a part, in float32."""
    return {key: value.float() for key, value in read_state_dict(part_path(folder, part)).items()}


def part_path(folder: Path, part: str) -> Path:
    """Where a part lies; one that does not ship is named after its stage."""
    return folder / CONFIG.files.get(part, f"{part}.safetensors")


def is_exported(folder: Path, stage: str) -> bool:
    """Whether every part of a stage is there."""
    return all(part_path(folder, part).is_file() for part in PREFIXES[stage])


@torch.no_grad()
def _empty_text(folder: Path) -> Tensor:
    """The T5 state of the empty string, which the video encoder keeps."""
    states, _ = load_part(folder, "t5").encode_text([""])
    return _as_half(states[0, :1])


def _as_half(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.to(torch.float16) if value.is_floating_point() else value
