"""AUDIO_DATASET on ComfyUI's wires: a list of mappings, as the public pack has it, to and from our records.

Each holds ``waveform`` (1, C, L), ``sample_rate`` and ``name``; a variant has ``origin_name`` too. Ours add
``path``, the file it was read from, and ``stretch``, its length over that of the origin.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError, shown
from .wires import audio_wire, read_audio

if TYPE_CHECKING:
    from ..tasks.sounds import SoundClip, SoundSet

_MOST_LINES = 24


def read_sounds(dataset: Any) -> "SoundSet":
    """The sounds of an AUDIO_DATASET; names that come twice get a number.

    Raises:
        InputError: not an AUDIO_DATASET.
    """
    from ..tasks.sounds import SoundSet, free_name

    if not isinstance(dataset, Sequence) or isinstance(dataset, (str, bytes)):
        raise InputError(f"dataset is {shown(dataset)}, not a list of sounds. Connect SelVA Dataset Loader.")
    sounds: list[SoundClip] = []
    for place, item in enumerate(dataset):
        sounds.append(_sound(item, place, lambda name: free_name(name, [each.name for each in sounds])))
    return SoundSet(tuple(sounds))


def sounds_wire(sounds: "SoundSet") -> list[dict[str, Any]]:
    """An AUDIO_DATASET for ComfyUI."""
    return [_item(sound) for sound in sounds.sounds]


def told_of(sounds: "SoundSet") -> str:
    """How many sounds there are, and the first notes about them."""
    number = "1 sound" if len(sounds) == 1 else f"{len(sounds)} sounds"
    lines = [number, *sounds.notes]
    rest = len(lines) - _MOST_LINES
    return "\n".join([*lines[:_MOST_LINES], f"and {rest} more lines"] if rest > 0 else lines)


def _sound(item: Any, place: int, free: Any) -> "SoundClip":
    from ..tasks.sounds import SoundClip

    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str) or not item["name"]:
        raise InputError(f"Sound {place + 1} of the data set is {shown(item)}, without a name.")
    path, stretch = item.get("path"), item.get("stretch", 1.0)
    origin = item.get("origin_name") or ""
    if not isinstance(origin, str) or not isinstance(path, (str, type(None))):
        raise InputError(f"origin_name and path of {shown(item['name'])} must be texts.")
    if not isinstance(stretch, (int, float)) or not 0 < stretch < 100:
        raise InputError(f"stretch of {shown(item['name'])} must be a positive number, not {shown(stretch)}.")
    if not isinstance(item.get("waveform"), torch.Tensor):
        raise InputError(
            f"waveform of {shown(item['name'])} must be samples, not {shown(item.get('waveform'))}."
        )
    audio = read_audio(item)
    if audio.waveform.shape[0] != 1:
        raise InputError(
            f"{shown(item['name'])} holds {audio.waveform.shape[0]} takes. A sound of a data set is one take."
        )
    return SoundClip(audio, free(item["name"]), origin, Path(path) if path else None, float(stretch))


def _item(sound: "SoundClip") -> dict[str, Any]:
    item: dict[str, Any] = {**audio_wire(sound.audio), "name": sound.name}
    if sound.origin_name:
        item["origin_name"] = sound.origin_name
    if sound.path is not None:
        item["path"] = str(sound.path)
    if sound.stretch != 1:
        item["stretch"] = sound.stretch
    return item
