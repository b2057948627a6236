"""What a node shows when it is done: text, players, pictures."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from .host import Job


def told(job: Job, *lines: str) -> str:
    """The lines that say something as one text, shown on the node."""
    text = "\n".join(line for line in lines if line)
    job.say(text)
    return text


def audio_player(node: Any, audio: dict[str, Any]) -> dict[str, Any]:
    """Player for an AUDIO, as an entry of ``NodeOutput(ui=...)``; of over two channels it plays the mean."""
    waveform = audio["waveform"]
    if waveform.shape[1] > 2:
        audio = {**audio, "waveform": waveform.mean(1, keepdim=True)}
    return dict(ui.PreviewAudio(audio, cls=node).as_dict())


def picture_shown(node: Any, images: Any) -> dict[str, Any]:
    """Pictures of an IMAGE on the node."""
    return dict(ui.PreviewImage(images, cls=node).as_dict())


def video_player(path: Path, subfolder: str, *, saved: bool) -> dict[str, Any]:
    """Player for a video below the output folder (saved) or the temp folder."""
    place = io.FolderType.output if saved else io.FolderType.temp
    return dict(ui.PreviewVideo([ui.SavedResult(path.name, subfolder, place)]).as_dict())


def output(*values: Any, text: str, players: Iterable[dict[str, Any]] = ()) -> io.NodeOutput:
    """The result of a node, with its text and its players for the page."""
    shown: dict[str, Any] = {"text": (text,)}
    for player in players:
        shown |= player
    return io.NodeOutput(*values, ui=shown)
