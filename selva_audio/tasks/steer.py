"""Find steering vectors in clips of a style."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..bundle import SelVAModel
from ..errors import InputError
from ..flow.steering_file import write_steering
from ..options import SteeringExtractionOptions
from ..progress import ProgressFn, ignore_progress, subtask
from ..training.clips import Clips
from ..training.steering import find_directions, with_prompt
from .clips import load_clips

logger = logging.getLogger(__name__)

_ENCODING_SHARE = 0.5


def extract_steering(
    model: SelVAModel,
    data_dir: str | Path,
    output: str | Path,
    options: SteeringExtractionOptions | None = None,
    *,
    contrast_dir: str | Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> dict[str, Any]:
    """Find steering vectors in a data set and write them as a ``.pt`` file.

    Args:
        model: bundle of ``load_model``; it samples without textual inversion and steering here.
        data_dir: clips of the style.
        output: file to write.
        options: samples, seed, bins of time, prompts.
        contrast_dir: clips of another style, to be steered away from; None contrasts with empty conditions,
            or with ``options.contrast_prompt``.
        on_progress: progress and cancel.

    Returns:
        ``output``, ``contrast``, ``clips``, ``notes``, and ``report`` by block.

    Raises:
        InputError: an output that is no .pt, or clips that cannot be used.
        MissingFileError: no data set.
    """
    output, options = Path(output), options or SteeringExtractionOptions()
    if output.suffix != ".pt":
        raise InputError(f"Steering vectors are written as .pt, not {output.name!r}. End the name in .pt.")
    clips = load_clips(model, data_dir, val_fraction=0, on_progress=subtask(on_progress, 0, 0.3))
    notes = clips.notes
    other: Clips | None = None
    told = "empty"
    if contrast_dir is not None:
        other = load_clips(model, contrast_dir, val_fraction=0, on_progress=subtask(on_progress, 0.3, 0.5))
        notes += other.notes
        told = f"other:{Path(contrast_dir).name}"
    elif options.contrast_prompt:
        other, told = clips, f"prompt:{options.contrast_prompt}"
    with torch.no_grad():
        clips = _under(model, clips, options.prompt)
        other = _under(model, other, options.contrast_prompt) if other is not None else None
        generator = model.generator
        with model.policy.on_device(generator):
            vectors = find_directions(
                generator,
                clips,
                options,
                contrast=other,
                use_clip=model.config.clip_conditioning,
                variant=model.config.name,
                base=model.base_identity("generator"),
                on_progress=subtask(on_progress, _ENCODING_SHARE, 1),
            )
    write_steering(output, replace(vectors, meta={**vectors.meta, "contrast": told}))
    return {
        "output": str(output),
        "contrast": told,
        "clips": len(clips),
        "notes": list(notes),
        "report": vectors.meta["report"],
    }


def _under(model: SelVAModel, clips: Clips, prompt: str) -> Clips:
    if not prompt:
        return clips
    clip = model.clip
    with model.policy.on_device(clip):
        text = clip.encode_text([prompt]).float().cpu()
    return with_prompt(clips, text, prompt)
