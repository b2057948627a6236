"""Make a sound again from its recipe: same source, same options, same samples."""

import logging
from pathlib import Path
from typing import Any

from ..bundle import load_model
from ..errors import InputError, MissingFileError
from ..options import FeatureOptions, GenerateOptions, InversionOptions, OutputOptions, SteeringOptions
from ..progress import ProgressFn, ignore_progress, subtask
from ..records import RunResult
from ..runtime import num_threads, set_num_threads
from .adapter import adapter_digest, with_adapters
from .recipe import read_recipe
from .run import run_video
from .style import with_steering, with_textual_inversion, with_vocoder

logger = logging.getLogger(__name__)

_TOLD = ("video", "mask")


def replay(
    path: str | Path,
    output: str | Path | None = None,
    *,
    video: str | Path | None = None,
    mask: str | Path | None = None,
    device: str | None = None,
    models_dir: str | Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> RunResult:
    """Run the recipe of a result again.

    Args:
        path: the result (its sidecar is found beside it) or the sidecar itself.
        output: file to write; default: the result's name with ``_replay`` added.
        video: where the source is now; default: where it was, or beside the result.
        mask: where the mask is now; likewise.
        device: default: the recipe's.
        models_dir: folder with the weight files, looked at first.
        on_progress: progress and cancel.

    Raises:
        MissingFileError: no recipe, or the source is not found.
        InputError: the source has changed, or the recipe is not readable.
    """
    path = Path(path)
    recipe = read_recipe(path)
    result = path.with_suffix("") if path.suffix == ".json" else path
    target = Path(output) if output is not None else result.with_stem(f"{result.stem}_replay")
    source = _find(recipe["source"], Path(video) if video is not None else None, result.parent, "video")
    mask_file = _find(recipe["mask"], Path(mask) if mask is not None else None, result.parent, "mask")
    accounts = recipe.get("adapters", [])
    adapters = [found for each in accounts if (found := _find(each, None, result.parent, "adapter"))]
    noise = _find(recipe.get("noise"), None, result.parent, "noise")
    steering = _find(recipe.get("steering"), None, result.parent, "steering")
    inversion = _find(recipe.get("textual_inversion"), None, result.parent, "textual inversion")
    vocoder = _find(recipe.get("vocoder"), None, result.parent, "vocoder")
    feature_options = FeatureOptions.parse(**recipe["features"])
    output_options = OutputOptions.parse(**recipe["output"])
    options = GenerateOptions.parse(**recipe["generate"])
    options = options.model_copy(update={"seed": options.seed + recipe["take"], "takes": 1})
    threads = num_threads()
    set_num_threads(recipe["threads"])
    try:
        model = load_model(
            recipe["variant"],
            device=device or recipe["device"],
            precision=recipe["precision"],
            models_dir=models_dir,
            on_progress=subtask(on_progress, 0, 0.1),
        )
        model = with_adapters(model, adapters, [each["strength"] for each in accounts])
        model = with_vocoder(model, vocoder)
        if inversion is not None:
            strength = InversionOptions.parse(**recipe["textual_inversion"]["options"])
            model = with_textual_inversion(model, inversion, strength)
        if steering is not None:
            model = with_steering(model, steering, SteeringOptions.parse(**recipe["steering"]["options"]))
        changed = [
            part for part, identity in model.identities().items() if identity != recipe["weights"].get(part)
        ]
        if changed:
            logger.warning("Other weights than in the recipe: %s. The sound will differ.", ", ".join(changed))
        return run_video(
            model,
            source,
            target,
            feature_options,
            options,
            output_options=output_options,
            mask=mask_file,
            noise=noise,
            on_progress=subtask(on_progress, 0.1, 1),
        )
    finally:
        set_num_threads(threads)


def _find(account: dict[str, Any] | None, given: Path | None, folder: Path, kind: str) -> Path | None:
    """The input a recipe names: as given, where it was, or beside the result; its content is checked."""
    if account is None:
        return None
    if not account["path"]:
        raise InputError(
            f"The {kind} of the recipe was in memory, not in a file, so the recipe cannot be replayed. "
            f"Call generate_for_video with the {kind} again."
        )
    recorded = Path(account["path"])
    places = [given] if given is not None else [recorded, folder / recorded.name]
    found = next(
        (place for place in places if place.is_file() or (kind == "adapter" and place.is_dir())), None
    )
    if found is None:
        looked = ", ".join(str(place) for place in places)
        advice = f"Say where it is now with --{kind}" if kind in _TOLD else "Put it back there"
        raise MissingFileError(f"The {kind} of the recipe is not at {looked}. {advice}.")
    if adapter_digest(found) != account["sha256"]:
        raise InputError(
            f"{found} is not the {kind} of the recipe: its content has changed. Give the original one."
        )
    return found
