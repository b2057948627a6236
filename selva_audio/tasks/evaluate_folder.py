"""Scores of files in folders: videos named after their sound, and sounds beside their references."""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import SelVAModel
from ..errors import InputError, MediaError, MissingFileError, OutputError
from ..evaluation.clips import compare, measure
from ..evaluation.onsets import Match, detect_onsets, match_onsets, total
from ..evaluation.selectivity import NEAR, WIDE
from ..files import write_text
from ..media.audio import read_audio
from ..media.mux import VIDEO_SUFFIXES
from ..options import FeatureOptions, GenerateOptions, SelectivityOptions
from ..progress import Progress, ProgressFn, ignore_progress, subtask
from .run import run_video

logger = logging.getLogger(__name__)

_ABOUT_SCENES = ("scenes", "seed", "materials", "controls")
Wave = NDArray[np.float32]
_SOUND_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".m4a"})


def evaluate_folder(
    model: SelVAModel,
    folder: Path,
    options: SelectivityOptions | None = None,
    *,
    output: Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> dict[str, Any]:
    """Make the sound of every video in ``folder/CLASS/``, prompted with CLASS; compare onsets with its own.

    The layout of VGG-MonoAudio, whose clips hold one audible source each: what is heard in a clip's own sound
    track (or in a sound file of the same name beside it) is taken for the truth. Onset detection in real
    recordings is itself uncertain, so that these numbers only compare models with each other.

    Args:
        model: bundle of ``load_model``.
        folder: one sub-folder per class; ``_`` in its name stands for a space in the prompt.
        options: seeds, steps and guidance; those about drawn scenes stay at their defaults.
        output: JSON file for the result.
        on_progress: one bar over all clips.

    Raises:
        MissingFileError: no such folder, or no videos in its sub-folders.
        InputError: none of the videos has sound, or an option about drawn scenes was set.
        OutputError: the JSON file cannot be written.
    """
    options = options or SelectivityOptions()
    _check_unused(options)
    check_targets(output)
    videos = _class_videos(folder)
    seeds = options.noise_seeds
    near: dict[str, list[Match]] = {}
    wide: list[Match] = []
    clips: list[dict[str, Any]] = []
    skipped: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        cache, made = Path(temporary) / "features", Path(temporary) / "made.wav"
        for number, video in enumerate(videos):
            share = subtask(on_progress, number / len(videos), (number + 1) / len(videos))
            share(Progress("listening", 0, 1))
            true = _own_onsets(video)
            if true is None:
                skipped.append(str(video.relative_to(folder)))
                logger.warning("%s has no sound of its own, so it was left out.", video)
                continue
            features = FeatureOptions(prompt=video.parent.name.replace("_", " "), cache_dir=cache)
            for index, seed in enumerate(seeds):
                sampling = GenerateOptions(steps=options.steps, cfg_strength=options.cfg_strength, seed=seed)
                on_seed = subtask(share, index / len(seeds), (index + 1) / len(seeds))
                run_video(model, video, made, features, sampling, on_progress=on_seed)
                onsets = detect_onsets(*read_mono(made))
                near.setdefault(video.parent.name, []).append(match_onsets(onsets, true, NEAR))
                wide.append(match_onsets(onsets, true, WIDE))
                row = {"file": str(video.relative_to(folder)), "seed": seed, "own_onsets": len(true)}
                clips.append(row | _scores(near[video.parent.name][-1:], wide[-1:]))
    if not clips:
        raise InputError(f"None of the {len(videos)} videos in {folder} has sound to compare with.")
    result = _scores([match for matches in near.values() for match in matches], wide)
    result |= {
        "classes": {name: round(total(matches).f1, 4) for name, matches in near.items()},
        "skipped": skipped,
        "variant": model.config.name,
        "adapters": [dict(each) for each in model.adapters],
        "precision": model.policy.precision,
        "steps": options.steps,
        "cfg_strength": options.cfg_strength,
        "generation_seeds": list(seeds),
        "clips": clips,
    }
    write_report(result, output)
    return result


def evaluate_clips(
    folder: Path,
    reference: Path | None = None,
    *,
    output: Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> dict[str, Any]:
    """Offline metrics of every sound (or video with sound) in a folder; distances where a reference exists.

    Args:
        folder: sounds; not searched below.
        reference: folder with references of the same name, whatever their ending.
        output: JSON file for the result.
        on_progress: told of each file.

    Returns:
        ``clips`` by file name, ``means`` over them, and ``without_reference``.

    Raises:
        MissingFileError: no such folder, or no sounds in it.
        InputError: none of the sounds has a reference.
        MediaError: a file holds no readable sound.
    """
    check_targets(output)
    sounds = _sounds(folder)
    references: dict[str, Path] = {}
    for path in reversed(_sounds(reference) if reference is not None else []):
        references[path.stem] = path
    clips: dict[str, dict[str, Any]] = {}
    without = []
    for number, path in enumerate(sounds):
        on_progress(Progress("listening", number, len(sounds)))
        audio = read_audio(path)
        clips[path.name] = asdict(measure(audio))
        if path.stem in references:
            clips[path.name] |= asdict(compare(audio, read_audio(references[path.stem])))
        elif reference is not None:
            without.append(path.name)
    if reference is not None and len(without) == len(sounds):
        raise InputError(
            f"No file in {reference} has the name of one in {folder}. References are matched by name "
            "without ending, such as take.wav and take.flac."
        )
    on_progress(Progress("listening", len(sounds), len(sounds)))
    result = {"clips": clips, "means": _column_means(list(clips.values())), "without_reference": without}
    write_report(result, output)
    return result


def check_targets(output: Path | None, figure: Path | None = None) -> None:
    """Refuse before minutes of work what could not be written after them.

    Raises:
        InputError: a figure that is no .png.
        OutputError: a target that is a folder, or below a file.
    """
    if figure is not None and figure.suffix.lower() != ".png":
        raise InputError(f"Pictures are written as PNG, not {figure.name!r}. End the name in .png.")
    for target in (output, figure):
        if target is None:
            continue
        if target.is_dir():
            raise OutputError(f"{target} is a folder. Give the path of a file to write.")
        parent = next(folder for folder in target.absolute().parents if folder.exists())
        if not parent.is_dir():
            raise OutputError(
                f"{target} cannot be written, because {parent} is a file. Choose another place."
            )


def write_report(result: Mapping[str, Any], output: Path | None) -> None:
    """Write a result as JSON, whole or not at all, if a file was named."""
    if output is not None:
        write_text(output, json.dumps(result, indent=2, allow_nan=False) + "\n")


def read_mono(path: Path) -> tuple[Wave, int]:
    """Mean of the channels of a sound or of a video's sound track: (L,) and hertz."""
    audio = read_audio(path)
    return audio.waveform[0].mean(dim=0).numpy(), audio.sample_rate


def _check_unused(options: SelectivityOptions) -> None:
    for name in _ABOUT_SCENES:
        value = getattr(options, name)
        if value != SelectivityOptions.model_fields[name].default:
            raise InputError(
                f"{name} = {value!r} is about drawn scenes, but a folder of videos is scored. Leave it out."
            )


def _class_videos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder {folder}. Check the path.")
    found = [
        path
        for path in sorted(folder.glob("*/*"))
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]
    if not found:
        raise MissingFileError(
            f"{folder} holds no videos in sub-folders. Put them as CLASS/NAME.mp4, one folder per class; "
            "the folder's name is the prompt."
        )
    return found


def _own_onsets(video: Path) -> NDArray[np.float64] | None:
    """Onsets of the sound beside the video or in it; None without sound."""
    beside = [video.with_suffix(suffix) for suffix in sorted(_SOUND_SUFFIXES)]
    source = next((path for path in beside if path.is_file()), video)
    try:
        return detect_onsets(*read_mono(source))
    except MediaError:
        return None


def _sounds(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder {folder}. Check the path.")
    known = _SOUND_SUFFIXES | VIDEO_SUFFIXES
    files = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    found = [path for path in files if path.suffix.lower() in known and path.is_file()]
    if not found:
        raise MissingFileError(f"{folder} holds no sounds ({', '.join(sorted(known))}).")
    return found


def _scores(near: Sequence[Match], wide: Sequence[Match]) -> dict[str, Any]:
    whole = total(near)
    return {
        "onset_f1_50ms": round(whole.f1, 4),
        "onset_f1_80ms": round(total(wide).f1, 4),
        "median_offset_ms": round(1000 * whole.median_offset, 2) if whole.offsets else None,
    }


def _column_means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean of every number over the rows that have it."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            if value is not None:
                columns.setdefault(key, []).append(float(value))
    return {key: round(float(np.mean(values)), 4) for key, values in columns.items()}
