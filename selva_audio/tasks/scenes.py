"""Drawn scenes as a folder of files: clips with the sound of one object each, and all that is known of them.

The folder can be read as a data set: ``MATERIAL/NAME.mp4`` with its prompt in ``NAME.txt``. The folders
beside it, ``stems``, ``masks`` and ``events``, hold no videos.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError, unknown_name
from ..files import write_text
from ..media.audio import write_audio
from ..media.encode import write_masks, write_video
from ..options import OutputOptions, SceneOptions
from ..progress import Progress, ProgressFn, ignore_progress, subtask
from ..records import Audio
from ..scenes import (
    FPS,
    MATERIALS,
    SAMPLE_RATE,
    Scene,
    caption,
    draw_frames,
    draw_masks,
    draw_scene,
    mixture,
    prompt,
    prompts,
    stem,
)
from ..scenes.motion import Turning
from ..scenes.scene import SceneObject

FORMAT = "selva-scenes/1"
INDEX = "scenes.json"
_SEEDS_APART = 1_000_000  # scenes that a seed can draw before it meets those of the next one
_BLOCK = 25  # frames drawn at a time
_LOUDEST = 0.99
_DIGITS = 6  # of numbers in JSON: microseconds


@dataclass(frozen=True, slots=True)
class SceneFiles:
    """One scene; paths are relative to the folder, with forward slashes.

    Attributes:
        name: of its files.
        number: of the scene in its split, the seed of ``draw_scene``.
        material: of the prompted object.
        prompt: names that object.
        caption: names every object.
        video: the clip, whose sound is the stem of that object, without loss.
        text: the prompt as a file.
        mixture: sound of all objects.
        stems: material -> sound of that object alone.
        masks: material -> where that object is, a moving mask.
        events: when and how loud each object sounds.
    """

    name: str
    number: int
    material: str
    prompt: str
    caption: str
    video: str
    text: str
    mixture: str
    stems: dict[str, str]
    masks: dict[str, str]
    events: str

    def paths(self) -> list[str]:
        """Every file of the scene."""
        return [*self.stems.values(), self.mixture, *self.masks.values(), self.events, self.text, self.video]


@dataclass(frozen=True, slots=True)
class ScenesResult:
    """What is in the folder after a run.

    Attributes:
        folder: of everything.
        index: the list of the scenes, with the options they were drawn with.
        scenes: in order.
        written: how many of them were written now; the rest was there from an earlier run.
    """

    folder: Path
    index: Path
    scenes: tuple[SceneFiles, ...]
    written: int


def write_scenes(
    folder: str | Path, options: SceneOptions | None = None, *, on_progress: ProgressFn = ignore_progress
) -> ScenesResult:
    """Draw scenes and write them; equal options give equal bytes.

    A run that was stopped goes on when it is started again, and a larger count adds to what is there.

    Args:
        folder: new, empty, or of an earlier run with the same options and no larger count.
        options: which scenes, how many, how large.
        on_progress: progress and cancel; every file is whole at any moment.

    Raises:
        InputError: an unknown material, or a folder with other things in it.
        OutputError: the folder cannot be written.
    """
    folder, options = Path(folder), options or SceneOptions()
    _check_folder(folder, options)
    plan = _plan(options, subtask(on_progress, 0, 0.02))
    missing = [(scene, files) for scene, files in plan if not _is_written(folder, files)]
    _write_index(folder, options, plan)
    try:
        for place, (scene, files) in enumerate(missing):
            shares = (0.02 + 0.98 * each / len(missing) for each in (place, place + 1))
            _write_scene(folder, scene, files, options.size, subtask(on_progress, *shares))
    finally:
        _write_index(folder, options, plan)
    on_progress(Progress("done", 1, 1))
    return ScenesResult(folder, folder / INDEX, tuple(files for _, files in plan), len(missing))


def _check_folder(folder: Path, options: SceneOptions) -> None:
    """Refuse a folder that holds anything but the same scenes."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Give a folder for the scenes.")
    if not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir()):
        return
    index = folder / INDEX
    if not index.is_file():
        raise InputError(f"{folder} holds other files already. Give a new or an empty folder for the scenes.")
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
        there = SceneOptions.parse(**found["options"])
    except (InputError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{index} is no list of scenes. Give a new or an empty folder.") from error
    other = [
        f"{name} = {was!r}, not {value!r}"
        for (name, was), (_, value) in zip(there, options, strict=True)
        if (was > value if name == "count" else was != value)
    ]
    if other:
        raise InputError(f"{folder} holds other scenes already: {'; '.join(other)}. Give a new folder.")


def _plan(options: SceneOptions, on_progress: ProgressFn) -> list[tuple[Scene, SceneFiles]]:
    """The prompted materials in turn, each with the next scene that shows it."""
    names = [name.strip() for name in options.materials.split(",") if name.strip()] or list(MATERIALS)
    for name in names:
        if name not in MATERIALS:
            raise InputError(unknown_name("material", name, MATERIALS))
    candidates = (
        draw_scene(
            options.seed * _SEEDS_APART + number,
            split=options.split,
            num_objects=options.objects or None,
            duration=options.duration,
        )
        for number in itertools.count()
    )
    plan = []
    for place, material in enumerate(itertools.islice(itertools.cycle(names), options.count)):
        on_progress(Progress("planning", place, options.count))
        scene = next(scene for scene in candidates if scene.find(material))
        plan.append((scene, _name_files(scene, material, options, place)))
    return plan


def _name_files(scene: Scene, material: str, options: SceneOptions, place: int) -> SceneFiles:
    # A name that ends in a number would count as one more take of a single recording where data are split.
    name = f"{options.split}{options.seed}_{place + 1:04d}_{material}"
    names = [each.material.name for each in scene.objects]
    return SceneFiles(
        name,
        scene.seed,
        material,
        prompt(material),
        caption(scene),
        video=f"{material}/{name}.mp4",
        text=f"{material}/{name}.txt",
        mixture=f"stems/{name}/mixture.flac",
        stems={each: f"stems/{name}/{each}.flac" for each in names},
        masks={each: f"masks/{name}/{each}.png" for each in names},
        events=f"events/{name}.json",
    )


def _is_written(folder: Path, files: SceneFiles) -> bool:
    return all((folder / path).is_file() for path in files.paths())


def _write_scene(folder: Path, scene: Scene, files: SceneFiles, size: int, on_progress: ProgressFn) -> None:
    """Every file of a scene, the clip last: where a clip is, everything else is too."""
    whole = mixture(scene)
    # Stems keep their level, unless their sum would not fit into a sound file.
    gain = min(1.0, _LOUDEST / max(float(np.abs(whole).max()), _LOUDEST))
    stems = {name: _sound(stem(scene, index), gain) for index, name in enumerate(files.stems)}
    for name, path in files.stems.items():
        write_audio(folder / path, stems[name])
    write_audio(folder / files.mixture, _sound(whole, gain))
    passes = len(files.masks) + 1
    for index, path in enumerate(files.masks.values()):
        share = subtask(on_progress, index / passes, (index + 1) / passes)
        write_masks(_Blocks(scene, partial(_mask, scene, size, index), share), FPS, folder / path)
    write_text(folder / files.events, _to_json(_events(scene, files.material, gain)))
    write_text(folder / files.text, files.prompt + "\n")
    share = subtask(on_progress, 1 - 1 / passes, 1)
    write_video(
        _Blocks(scene, partial(draw_frames, scene, size), share),
        FPS,
        folder / files.video,
        stems[files.material],
        options=OutputOptions(codec="lossless"),
    )


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Pictures of a scene, drawn a block at a time, so that a long clip is never whole in memory.

    Attributes:
        scene: says how many.
        draw: gives ``count`` pictures from ``first`` on.
        on_progress: told of each block.
    """

    scene: Scene
    draw: Callable[..., NDArray[Any]]
    on_progress: ProgressFn

    def __len__(self) -> int:
        return self.scene.num_frames

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for first in range(0, len(self), _BLOCK):
            self.on_progress(Progress("drawing", first, len(self)))
            yield from self.draw(first=first, count=min(_BLOCK, len(self) - first))


def _mask(scene: Scene, size: int, index: int, *, first: int, count: int) -> NDArray[np.bool_]:
    masks: NDArray[np.bool_] = draw_masks(scene, size, first=first, count=count)[index]
    return masks


def _sound(wave: NDArray[np.float32], gain: float) -> Audio:
    return Audio(torch.from_numpy(wave * np.float32(gain))[None, None], SAMPLE_RATE)


def _events(scene: Scene, material: str, gain: float) -> dict[str, Any]:
    """What is known of a scene: every impact of every object, and the speed of those that turn."""
    return {
        "split": scene.split,
        "number": scene.seed,
        "duration": scene.duration,
        "fps": FPS,
        "sample_rate": SAMPLE_RATE,
        "gain": round(gain, _DIGITS),
        "caption": caption(scene),
        "prompted": material,
        "objects": [_account(each) for each in scene.objects],
    }


def _account(each: SceneObject) -> dict[str, Any]:
    account: dict[str, Any] = {
        "material": each.material.name,
        "prompts": list(prompts(each.material.name)),
        "continuous": each.material.continuous,
        "centre": round(each.centre, _DIGITS),
        "radius": round(each.size, _DIGITS),
        "impacts": _rounded(each.impacts),
        "loudness": _rounded(each.loudness),
    }
    if isinstance(each.motion, Turning):
        # Linear between these points, and exact.
        account["speed"] = {
            "times": _rounded(each.motion.times),
            "turns_per_second": _rounded(each.motion.speeds),
        }
    return account


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]


def _write_index(folder: Path, options: SceneOptions, plan: Sequence[tuple[Scene, SceneFiles]]) -> None:
    """List the scenes that are there."""
    index = {
        "format": FORMAT,
        "options": options.model_dump(mode="json"),
        "scenes": [asdict(files) for _, files in plan if _is_written(folder, files)],
    }
    write_text(folder / INDEX, _to_json(index))


def _to_json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
