"""Textual inversion: learn tokens from clips."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..bundle import SelVAModel
from ..files import write_text
from ..options import TextualInversionOptions
from ..progress import Progress, ProgressFn, ignore_progress, subtask
from ..training.clips import Clips
from ..training.loop import Checkpoint, FitResult, fit
from ..training.samples import write_sample
from ..training.textual_inversion import TextualInversionTrainable
from ..training.validation import fixed_noise_loss
from .clips import load_clips
from .trained import SUMMARY, Trained, paired_summary, plain_summary

__all__ = ["train_textual_inversion"]

logger = logging.getLogger(__name__)

_ENCODING_SHARE = 0.05


def train_textual_inversion(
    model: SelVAModel,
    data_dir: str | Path,
    output_dir: str | Path,
    options: TextualInversionOptions | None = None,
    *,
    clips: Clips | None = None,
    resume: str | Path | None = None,
    should_stop: Callable[[], str | None] | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> Trained:
    """Learn tokens that make the prompts of clips stand for their sound.

    Text reaches most of the generator as the mean over all positions of a prompt, so that few tokens move
    little: the kind of sound, not its timbre in detail. For that, train a LoRA adapter.

    Args:
        model: bundle of ``load_model``; its parts stay as they are.
        data_dir: data set, folder of ``name.npz`` with ``name.wav``, or folder of videos with sound.
        output_dir: gets ``embeddings_final.pt``, checkpoints, samples, curves and the summary.
        options: tokens, space, length.
        clips: of ``load_clips``, for several trainings on one data set.
        resume: checkpoint to go on from.
        should_stop: asked after every step; a word ends the training, with the state in embeddings_last.pt.
        on_progress: progress and cancel; the state is kept.

    Returns:
        Files, losses, and validation before and after.

    Raises:
        MissingFileError: no clips.
        InputError: clips or settings that cannot be used.
        CheckpointError: a checkpoint of another training.
        GenerationError: the numbers are of no use.
        OutputError: a file cannot be written.
    """
    options = options or TextualInversionOptions()
    options = options.model_copy(update={"lr": options.effective_lr})
    output_dir = Path(output_dir)
    with torch.inference_mode(False), torch.enable_grad():
        if clips is None or clips.pad != options.pad:
            clips = load_clips(
                model,
                data_dir,
                pad=options.pad,
                val_fraction=options.val_fraction,
                prepared=output_dir / "prepared",
                on_progress=subtask(on_progress, 0, _ENCODING_SHARE),
            )
        for note in clips.notes:
            logger.warning(note)
        report = subtask(on_progress, _ENCODING_SHARE, 1)
        # A part on the device is moved there whole: what is shared with it must be shared after that.
        with model.policy.on_device(model.generator, model.clip), model.aside("generator", "clip"):
            training = TextualInversionTrainable(model, clips, options)
            result = _run(model, training, output_dir, resume, should_stop, report)
            return _finish(model, training, result, output_dir, clips.notes, report)


def _run(
    model: SelVAModel,
    training: TextualInversionTrainable,
    output_dir: Path,
    resume: str | Path | None,
    should_stop: Callable[[], str | None] | None,
    on_progress: ProgressFn,
) -> FitResult:
    """The loop, with a sample of the plain prompt before it and one with the tokens at each checkpoint."""
    options = training.options
    heard = training.validation if len(training.validation) else training.training

    def sample(clips: Clips, step: int) -> None:
        write_sample(
            model,
            training.generator,
            clips,
            output_dir,
            step,
            steps=options.sample_steps,
            clip_conditioning=training.uses_clip,
            on_progress=lambda progress: on_progress(Progress("sampling", step, options.steps)),
        )

    def on_checkpoint(checkpoint: Checkpoint) -> None:
        if options.sample_steps:
            with torch.no_grad():
                text = training.texts(heard, [0]).float().cpu()
            sample(replace(heard.take([0]), text=text), checkpoint.step)

    if options.sample_steps and not (output_dir / "sample_step00000.wav").is_file():
        sample(heard, 0)
    return fit(
        training,
        options,
        output_dir,
        resume=resume,
        on_checkpoint=on_checkpoint,
        should_stop=should_stop,
        on_progress=on_progress,
    )


def _finish(
    model: SelVAModel,
    training: TextualInversionTrainable,
    result: FitResult,
    output_dir: Path,
    notes: tuple[str, ...],
    on_progress: ProgressFn,
) -> Trained:
    norms = training.embeddings.detach().norm(dim=1)
    summary = plain_summary(result, training.options) | {
        "variant": model.config.name,
        "parameters": training.embeddings.numel(),
        "clips": {"train": len(training.training), "val": len(training.validation)},
        "data_fingerprint": training.data,
        "base": training.identity["generator"],
        "norms": [round(float(norm), 5) for norm in norms],
        "validation": _validation(model, training, result, on_progress),
        "embeddings_path": str(result.path),
        "notes": [*notes, *result.notes],
    }
    summary_path = output_dir / SUMMARY
    write_text(summary_path, json.dumps(summary, indent=2) + "\n")
    report = (
        f"{training.options.n_tokens} tokens in the {training.options.space} space: "
        f"{summary['parameters']} numbers",
    )
    return Trained.of(result, summary, summary_path, report, tuple(summary["notes"]))


def _validation(
    model: SelVAModel, training: TextualInversionTrainable, result: FitResult, on_progress: ProgressFn
) -> dict[str, Any] | None:
    """Fixed-noise losses of the plain prompts and with the tokens, and their difference by clip."""
    held = training.validation
    if not len(held):
        return None
    before = fixed_noise_loss(
        model.generator,
        held,
        law=training.law,
        clip_conditioning=training.uses_clip,
        batch_size=training.options.batch_size,
        on_progress=on_progress,
    )
    return paired_summary(before, training.losses(held, on_progress), result)
