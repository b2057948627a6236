"""One experiment of a sweep: trained to whatever end it comes to, on this machine or on another."""

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..adapters import read_adapter
from ..adapters.inspect import change_norm
from ..bundle import SelVAModel
from ..errors import SelVAError, os_error_sentence
from ..options.sweep import Experiment, Kind
from ..progress import Cancelled, Progress, ProgressFn, ignore_progress
from ..runtime import forget_peak_memory, peak_memory_gb
from ..training.corpus import Corpus
from ..training.sweep import Outcome
from ..training.sweep_skip import Moment, SkipWatch
from .clips import load_clips
from .textual_inversion import train_textual_inversion
from .train import train_lora
from .vocoder import load_corpus, train_vocoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Training:
    """What a kind of sweep runs.

    Attributes:
        run: called as ``train_lora``, and gives what that gives.
        load: called as ``load_clips``.
        clip_settings: options that ``load`` takes too; experiments that agree in them share their clips.
        result: attribute of what ``run`` gives, and key of a record, that names the file it made.
        name: with which the names of its checkpoints begin.
        measure: what a record tells about the file besides.
    """

    run: Callable[..., Any]
    load: Callable[..., Any]
    clip_settings: tuple[str, ...]
    result: str
    name: str
    measure: Callable[[Path], dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One experiment that is to be run, here or on another machine that sees the same folders.

    Attributes:
        kind: key of ``TRAININGS``.
        experiment: what to train.
        digest: its ``config_hash``.
        data_dir: folder of the clips.
        data: their fingerprint.
        root: folder of the sweep.
        resume: checkpoint to go on from.
        run_id: of the process that runs the sweep.
        since: requests to skip count from here on; None means from its start.
    """

    kind: Kind
    experiment: Experiment
    digest: str
    data_dir: Path
    data: str
    root: Path
    resume: Path | None
    run_id: str
    since: Moment | None

    @property
    def folder(self) -> Path:
        """Where its files go."""
        return self.root / self.experiment.id


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job left.

    Attributes:
        outcome: how it ended.
        seconds: wall time.
        base_sha256: digest of the base weights after it; None if nobody looked.
    """

    outcome: Outcome
    seconds: float
    base_sha256: str | None


def run_job(
    model: SelVAModel, job: Job, clips: Any, *, on_progress: ProgressFn = ignore_progress
) -> JobResult:
    """Run one experiment; only a cancellation is raised, after the training has saved its state.

    Args:
        model: the base.
        job: what to run.
        clips: what it is trained on, encoded.
        on_progress: progress and cancel.
    """
    began = time.monotonic()
    outcome = _train(model, job, clips, on_progress)
    return JobResult(outcome, time.monotonic() - began, weights_digest(model))


def weights_digest(model: SelVAModel) -> str:
    """SHA-256 of every tensor of the generator."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.generator.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _train(model: SelVAModel, job: Job, clips: Any, on_progress: ProgressFn) -> Outcome:
    cancelled = False

    def report(progress: Progress) -> None:
        nonlocal cancelled
        try:
            on_progress(progress)
        except BaseException:
            cancelled = True
            raise

    training = TRAININGS[job.kind]
    device = model.policy.device
    forget_peak_memory(device)
    watch = SkipWatch(job.root, job.run_id, job.experiment.id, job.since or Moment.now(job.root))
    try:
        result = training.run(
            model,
            job.data_dir,
            job.folder,
            job.experiment.options,
            clips=clips,
            resume=job.resume,
            should_stop=watch,
            on_progress=report,
        )
    except Exception as error:
        # A host cancels with an exception of its own, so that its type does not tell.
        if cancelled or isinstance(error, Cancelled):
            raise
        return Outcome("failed", error=_sentence(error))
    if result.status == "cancelled":
        raise Cancelled
    made = getattr(result, training.result)
    details = {**result.summary, "peak_memory_gb": peak_memory_gb(device)}
    if result.status == "done" and training.measure is not None:
        details |= training.measure(made)
    return Outcome(result.status, result.steps, result.losses, made, details)


def _change(path: Path) -> dict[str, Any]:
    """How much an adapter changes the base: the norm of all changes together; None for DoRA."""
    return {"delta_norm": change_norm(read_adapter(path))}


def _sentence(error: Exception) -> str:
    if isinstance(error, SelVAError):
        return str(error)
    if isinstance(error, OSError):
        return os_error_sentence(error)
    logger.exception("A training failed.", exc_info=error)
    return f"{type(error).__name__}: {error}"


def _load_sounds(
    model: SelVAModel, data_dir: Path, *, prepared: Path, on_progress: ProgressFn = ignore_progress
) -> Corpus:
    """Sounds need no preparing."""
    return load_corpus(model, data_dir, on_progress=on_progress)


TRAININGS: dict[Kind, Training] = {
    "lora": Training(train_lora, load_clips, ("pad", "val_fraction"), "adapter_path", "adapter", _change),
    "ti": Training(
        train_textual_inversion, load_clips, ("pad", "val_fraction"), "embeddings_path", "embeddings"
    ),
    "vocoder": Training(train_vocoder, _load_sounds, (), "checkpoint_path", "vocoder"),
}
