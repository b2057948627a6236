"""Training: a folder of clips (or of videos) in, an adapter out.

The loop, the objective and the clips are in ``training``; which files of a folder are clips is decided by
``dataset``.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..adapters import Adapter, trainable_parameters, write_adapter
from ..adapters.formats import file_meta
from ..adapters.intruders import survey_intruders
from ..bundle import SelVAModel
from ..errors import InputError
from ..files import write_text
from ..models.generator import Generator
from ..options import LoraOptions
from ..progress import Progress, ProgressFn, ignore_progress, subtask
from ..training.checkpoints import free_path, last_checkpoint
from ..training.clips import Clips
from ..training.curves import SMOOTHED
from ..training.loop import Checkpoint, FitResult, fit
from ..training.lora import LoraTraining, lora_report
from ..training.samples import write_sample
from ..training.surgery import LEAST_CLIPS, operate
from .clips import load_clips
from .trained import LOG_INTERVAL, SUMMARY, paired_summary, plain_summary, rounded

__all__ = ["TrainingResult", "last_checkpoint", "train_lora"]

logger = logging.getLogger(__name__)

PREPARED = "prepared"  # beside the output of a training that was given videos
META = "meta.json"
_ENCODING_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training came to.

    Attributes:
        adapter_path: of the adapter to use; where it was stopped, the checkpoint.
        safetensors_path: the same adapter as safetensors; None where it was stopped.
        status: "done", "cancelled", "skipped", or another word of ``should_stop``.
        steps: updates done.
        losses: of each step; NaN where its numbers were not finite.
        history: each validation: ``step``, ``val_loss`` and the loss at each time.
        summary: all of it in plain values.
        curves: picture of the smoothed losses.
        summary_path: the summary as JSON.
        report: what was adapted, one line each.
        notes: sentences that the user should see.
    """

    adapter_path: Path
    safetensors_path: Path | None
    status: str
    steps: int
    losses: tuple[float, ...]
    history: tuple[Mapping[str, float], ...]
    summary: dict[str, Any]
    curves: Path
    summary_path: Path
    report: tuple[str, ...]
    notes: tuple[str, ...]


def train_lora(
    model: SelVAModel,
    data_dir: str | Path,
    output_dir: str | Path,
    options: LoraOptions | None = None,
    *,
    clips: Clips | None = None,
    resume: str | Path | None = None,
    should_stop: Callable[[], str | None] | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> TrainingResult:
    """Train a LoRA adapter of the generator.

    Args:
        model: bundle of ``load_model``; its parts stay as they are.
        data_dir: data set, folder of ``name.npz`` with ``name.wav``, or folder of videos with sound.
        output_dir: gets the adapter, checkpoints, samples, curves and the summary.
        options: adapter, objective, length.
        clips: of ``load_clips``, for several trainings on one data set.
        resume: checkpoint to go on from.
        should_stop: asked after every step; a word ends the training, with the state in adapter_last.pt.
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
    options = options or LoraOptions()
    output_dir = Path(output_dir)
    with torch.inference_mode(False), torch.enable_grad():
        if clips is None or clips.pad != options.pad:
            clips = load_clips(
                model,
                data_dir,
                pad=options.pad,
                val_fraction=options.val_fraction,
                prepared=output_dir / PREPARED,
                on_progress=subtask(on_progress, 0, _ENCODING_SHARE),
            )
        prior = load_clips(model, options.prior_dir, pad=options.pad) if options.prior_dir else None
        report = subtask(on_progress, _ENCODING_SHARE, 1)
        with model.policy.on_device(model.generator):
            training = LoraTraining(
                model.generator,
                clips,
                options,
                variant=model.config.name,
                base=model.identity("generator"),
                clip_conditioning=_clip_conditioning(model, options, clips),
                prior=prior,
            )
            for note in (*clips.notes, *training.notes):
                logger.warning(note)
            result = _run(model, training, training.options, output_dir, resume, should_stop, report)
            return _finish(
                training, result, output_dir, (*clips.notes, *training.notes, *result.notes), report
            )


def _clip_conditioning(model: SelVAModel, options: LoraOptions, clips: Clips) -> bool:
    if options.clip_conditioning == "on" and not bool(clips.has_clip.all()):
        missing = clips.names[int(clips.has_clip.long().argmin())]
        raise InputError(
            f"clip_conditioning is on, but the features of {missing} hold no CLIP frames. Prepare the clips "
            "with clip_conditioning on as well."
        )
    return options.clip_conditioning == "on" or (
        options.clip_conditioning == "auto" and model.config.clip_conditioning
    )


def _run(
    model: SelVAModel,
    training: LoraTraining,
    options: LoraOptions,
    output_dir: Path,
    resume: str | Path | None,
    should_stop: Callable[[], str | None] | None,
    on_progress: ProgressFn,
) -> FitResult:
    """The loop, with a sample of the base before it and one at each checkpoint."""
    heard = training.held if len(training.held) else training.clips

    def sample(generator: Generator, step: int) -> None:
        write_sample(
            model,
            generator,
            heard,
            output_dir,
            step,
            steps=options.sample_steps,
            clip_conditioning=training.clip_conditioning,
            on_progress=lambda progress: on_progress(Progress("sampling", step, options.steps)),
        )

    def on_checkpoint(checkpoint: Checkpoint) -> None:
        if options.sample_steps:
            sample(training.generator, checkpoint.step)

    if options.sample_steps and not (output_dir / "sample_step00000.wav").is_file():
        sample(training.base, 0)
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
    training: LoraTraining,
    result: FitResult,
    output_dir: Path,
    notes: tuple[str, ...],
    on_progress: ProgressFn,
) -> TrainingResult:
    """What is written after the loop: surgery, the twin of the adapter, its account, the summary."""
    adapter = training.adapter(result.steps)
    twin, surgery, intruders = None, None, None
    if result.status == "done":
        adapter, surgery = _operate(training, adapter, result.path, on_progress)
        twin = write_adapter(result.path.with_suffix(".safetensors"), adapter)
        intruders = _intruders(training, adapter, on_progress)
    write_text(output_dir / META, json.dumps(file_meta(adapter), indent=2) + "\n")
    summary = _summary(training, result, _validation(training, result, on_progress))
    summary |= {"adapter_path": str(result.path), "output_dir": str(output_dir), "notes": list(notes)}
    summary |= {"surgery": surgery, "intruders": intruders}
    summary_path = output_dir / SUMMARY
    write_text(summary_path, json.dumps(summary, indent=2) + "\n")
    return TrainingResult(
        adapter_path=result.path,
        safetensors_path=twin,
        status=result.status,
        steps=result.steps,
        losses=result.losses,
        history=result.history,
        summary=summary,
        curves=output_dir / SMOOTHED,
        summary_path=summary_path,
        report=tuple(lora_report(training.report, training.options)),
        notes=notes,
    )


def _operate(
    training: LoraTraining, adapter: Adapter, path: Path, on_progress: ProgressFn
) -> tuple[Adapter, dict[str, Any]]:
    """Spectral Surgery where it can be judged; an edit that wins takes the place of the adapter just written.

    Returns:
        The adapter to use, and the account for the summary.
    """
    if not training.options.surgery:
        return adapter, {"status": "not tried", "reason": "It was turned off."}
    if len(training.held) < LEAST_CLIPS:
        told = f"{len(training.held)} clips are for validation; {LEAST_CLIPS} are needed to judge an edit."
        return adapter, {"status": "not tried", "reason": told}
    operation = operate(
        training.base,
        adapter,
        training.calibration(),
        lambda generator: training.validation(generator, ignore_progress),
        seed=training.options.seed,
        on_progress=on_progress,
    )
    account = operation.as_json()
    if operation.status == "adopted":
        unedited = write_adapter(free_path(path.with_name(f"{path.stem}_unedited.pt")), adapter)
        write_adapter(path, operation.adapter)
        account["unedited_path"] = str(unedited)
    return operation.adapter, account


def _intruders(training: LoraTraining, adapter: Adapter, on_progress: ProgressFn) -> dict[str, Any] | None:
    """Intruder dimensions for the summary, as JSON has them; None where they cannot be computed."""
    try:
        found = asdict(survey_intruders(training.base, adapter, on_progress=on_progress))
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        logger.warning("Intruder dimensions are not told: %s", error)
        return None
    return {
        key: {f"{limit:g}": count for limit, count in value.items()} if isinstance(value, dict) else value
        for key, value in found.items()
    }


def _validation(training: LoraTraining, result: FitResult, on_progress: ProgressFn) -> dict[str, Any] | None:
    """Fixed-noise losses of base and adapter, and their difference by clip."""
    if training.last is None:
        return None
    # A resumed run has not seen the base.
    first = training.first if result.history and result.resumed_from == 0 else None
    before = first or training.validation(training.base, on_progress)
    return paired_summary(before, training.last, result)


def _summary(training: LoraTraining, result: FitResult, validation: dict[str, Any] | None) -> dict[str, Any]:
    """Plain values, under the names that users of the public pack know where there are such."""
    common = plain_summary(result, training.options)
    marks = range(LOG_INTERVAL, len(result.losses) + 1, LOG_INTERVAL)
    return common | {
        "variant": training.variant,
        "target": dict(training.report.counts),
        "layers": len(training.report.targets),
        "parameters": sum(each.numel() for each in trainable_parameters(training.generator).values()),
        "scale": training.options.scale,
        "clips": {"train": len(training.clips), "val": len(training.held)},
        "data_fingerprint": training.data,
        "base_sha256": training.identity["base"],
        "grad_norm_history": [rounded(result.grad_norms[step - 1]) for step in marks],
        "validation": validation,
        "files": common["files"] | {"meta": META},
    }
