"""The one training loop: updates, schedule, guards, checkpoints, exact resume.

What is trained, and on what, is the trainable's business. All that is random in step k is a function of
(seed, k), and the learning rate one of k, so that a run that was killed and resumed is bit for bit the one
that never stopped.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import GenerationError, InputError, OutputError, SelVAError
from ..options.training import FitOptions
from ..progress import Progress, ProgressFn, ignore_progress
from ..runtime import peak_memory_gb
from .checkpoints import (
    changed_options,
    check_identity,
    free_path,
    read_checkpoint,
    step_files,
    write_checkpoint,
)
from .curves import MetricsLog, write_curves
from .keyed import Rng, keyed

logger = logging.getLogger(__name__)

BETAS = (0.9, 0.99)
_COSINE_FLOOR = 1e-6  # learning rate at which a cosine ends
_MOST_BAD = 10
_FP16_SCALE = 2.0**13


class Trainable(Protocol):
    """What ``fit`` trains.

    Attributes:
        name: begins the names of its files.
        identity: what must be the same for a run to be resumed; plain values.
        data: fingerprint of the data, told when it changes.
        scales_loss: whether gradients pass through 16-bit floats of small range (fp16).
    """

    name: str
    identity: Mapping[str, Any]
    data: str
    scales_loss: bool

    def parameters(self, lr: float) -> list[dict[str, Any]]:
        """Groups for the optimiser, each with ``params`` and ``lr``; float32."""
        ...

    def loss(self, step: int, rng: Rng) -> Iterable[Tensor]:
        """Parts whose sum is the loss of a step; each is differentiated before the next is made."""
        ...

    def constrain(self) -> None:
        """Bring the parameters back to where they may be; called after every update."""
        ...

    def validate(self, on_progress: ProgressFn) -> dict[str, float]:
        """Numbers of a validation, with ``val_loss``; {} where there is none."""
        ...

    def state_dict(self, step: int) -> dict[str, Any]:
        """The content of a file as inference loads it."""
        ...

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Take the values of such a file; raises CheckpointError where they do not fit."""
        ...

    def export(self, path: Path, step: int) -> Path:
        """Write the result as inference loads it."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What ``on_checkpoint`` is told.

    Attributes:
        step: updates done.
        path: the file.
        metrics: of the validation.
    """

    step: int
    path: Path
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a run came to.

    Attributes:
        status: "done", or the word of ``should_stop``.
        steps: updates done in all.
        losses: of each step; NaN where it was left out.
        grad_norms: likewise, before clipping.
        history: each validation, with its ``step``.
        best: that with the lowest ``val_loss``; {} without any.
        left_out: steps whose numbers were not finite.
        stopped_early: whether patience ended it.
        path: what was exported at the end; the checkpoint where it was stopped.
        notes: sentences that the user should see.
        resumed_from: steps that were done before this call.
        seconds: of this call.
    """

    status: str
    steps: int
    losses: tuple[float, ...]
    grad_norms: tuple[float, ...]
    history: tuple[Mapping[str, float], ...]
    best: Mapping[str, float]
    left_out: int
    stopped_early: bool
    path: Path
    notes: tuple[str, ...]
    resumed_from: int
    seconds: float


def fit(
    trainable: Trainable,
    options: FitOptions,
    output_dir: str | Path,
    *,
    resume: str | Path | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    should_stop: Callable[[], str | None] | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> FitResult:
    """Train to ``options.steps`` updates.

    Writes ``NAME_step00500.pt`` every ``save_every`` steps, ``NAME_best.pt`` by validation, ``NAME_last.pt``
    and ``NAME_final.pt`` at the end (``_001`` where there is one), ``metrics.jsonl`` and the curves.

    Args:
        trainable: what is trained.
        options: steps, learning rate, what is kept.
        output_dir: made if needed.
        resume: checkpoint to go on from, at whatever step.
        on_checkpoint: called after each checkpoint.
        should_stop: asked after every step; a word ends the run with it as status, the state saved.
        on_progress: called after every step. What it raises ends the run, with the state in
            ``NAME_cancelled_step01234.pt``, and is passed on.

    Returns:
        Losses, validations and files.

    Raises:
        CheckpointError: the checkpoint is of another training.
        InputError: it has all steps already.
        GenerationError: ten steps in a row had no finite loss or gradient, or memory is too small for a step.
        OutputError: the disk refuses a file; the last checkpoint is as it was.
    """
    run = _Run(trainable, options, Path(output_dir))
    if resume is not None:
        run.resume(Path(resume))
    started, resumed_from = time.monotonic(), run.step
    status = "done"
    with run.saved_on_cancel():
        run.begin(on_progress)
        while run.step < options.steps:
            with _told_of_memory(options):
                run.update()
            word = should_stop() if should_stop is not None else None
            run.log(time.monotonic() - started)
            on_progress(Progress("training", run.step, options.steps, metrics=run.metrics()))
            if word:
                status = word
                break
            if run.step % options.save_every == 0 or run.step == options.steps:
                checkpoint = run.checkpoint(on_progress)
                if on_checkpoint is not None:
                    on_checkpoint(checkpoint)
                if run.is_stale:
                    break
        path = run.end(finished=status == "done")
    state = run.state
    return FitResult(
        status=status,
        steps=run.step,
        losses=tuple(state.losses),
        grad_norms=tuple(state.norms),
        history=tuple(state.history),
        best=state.best,
        left_out=state.left_out,
        stopped_early=status == "done" and run.step < options.steps,
        path=path,
        notes=tuple(run.notes),
        resumed_from=resumed_from,
        seconds=time.monotonic() - started,
    )


def learning_rate(options: FitOptions, step: int) -> float:
    """Share of the learning rate at update ``step``, from 0 on; the first one is not 0."""
    if step < options.warmup_steps:
        return (step + 1) / options.warmup_steps
    if options.lr_schedule == "constant":
        return 1.0
    done = (step - options.warmup_steps) / max(options.steps - options.warmup_steps, 1)
    if options.lr_schedule == "linear":
        return 1 - done
    floor = _COSINE_FLOOR / options.lr if options.lr else 0.0
    return max(floor, 0.5 * (1 + math.cos(math.pi * done)))


@contextmanager
def _told_of_memory(options: FitOptions) -> Iterator[None]:
    """Turn what torch raises when memory is full into a sentence."""
    try:
        yield
    except RuntimeError as error:
        # On a CPU torch has no type of its own for it.
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        helps = [] if options.batch_size == 1 else ["--batch-size 1 with a higher --grad-accum"]
        helps += [] if options.grad_checkpoint else ["--grad-checkpoint"]
        raise GenerationError(
            f"There is not enough memory for a step with {options.batch_size} clips at once. "
            f"Try {', '.join([*helps, '--precision bf16, or a smaller variant'])}."
        ) from error


@dataclass(slots=True)
class _State:
    """What a checkpoint keeps beside weights and optimiser."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    stale: int = 0
    left_out: int = 0
    bad: int = 0


class _Run:
    """One call of ``fit``: the parts that change while it runs."""

    def __init__(self, trainable: Trainable, options: FitOptions, folder: Path) -> None:
        self.trainable, self.options, self.folder = trainable, options, folder
        groups = trainable.parameters(options.lr)
        self.rates = [float(group["lr"]) for group in groups]
        self.optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=BETAS, eps=1e-8, weight_decay=0.0)
        self.parameters: list[nn.Parameter] = [each for group in groups for each in group["params"]]
        device = self.parameters[0].device.type
        self.scaler = torch.amp.GradScaler(device, init_scale=_FP16_SCALE, enabled=trainable.scales_loss)
        self.average = [each.detach().clone() for each in self.parameters] if options.ema_decay else []
        self.state = _State()
        self.step = 0
        self.notes: list[str] = []
        self.drawn_at = -1
        self._log: MetricsLog | None = None

    @property
    def is_stale(self) -> bool:
        return bool(self.options.patience) and self.state.stale >= self.options.patience

    def begin(self, on_progress: ProgressFn) -> None:
        """Open the log; validate what there is before the first step."""
        self._log = MetricsLog(self.folder, self.step)
        if not self.state.history and self.step == 0:
            self._validate(on_progress)

    def update(self) -> None:
        """One step, whole or not at all."""
        options, step = self.options, self.step
        factor = learning_rate(options, step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        with torch.enable_grad():
            for part in self.trainable.loss(step, partial(keyed, options.seed, step)):
                self.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
                total += float(part.detach())
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, options.clip_norm))
        is_finite = math.isfinite(total) and math.isfinite(norm)
        if is_finite or self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if is_finite:
            self.trainable.constrain()
            self._average(min(options.ema_decay, (1 + step) / (10 + step)))
        self._count(total, norm, is_finite)
        self.step += 1

    def log(self, seconds: float) -> None:
        assert self._log is not None
        memory = peak_memory_gb(str(self.parameters[0].device))
        line = {"step": self.step, **self.metrics(), "seconds": round(seconds, 3)}
        self._log.write(line if memory is None else line | {"peak_memory_gb": memory})

    def metrics(self) -> dict[str, float]:
        """Numbers of the last step."""
        rate = float(self.optimizer.param_groups[0]["lr"])
        return {"loss": self.state.losses[-1], "grad_norm": self.state.norms[-1], "lr": rate}

    def checkpoint(self, on_progress: ProgressFn) -> Checkpoint:
        """Validate and save."""
        metrics = self._validate(on_progress)
        path = self.save(f"{self.trainable.name}_step{self.step:05d}.pt")
        if metrics and self.state.best.get("step") == self.step:
            self.trainable.export(self.folder / f"{self.trainable.name}_best.pt", self.step)
        self._draw_curves()
        if self.options.keep_last:
            for old in step_files(self.folder, self.trainable.name)[: -self.options.keep_last]:
                old.unlink(missing_ok=True)
        return Checkpoint(self.step, path, metrics)

    def end(self, *, finished: bool) -> Path:
        """Save the state, and export the result of a run that is finished."""
        name = self.trainable.name
        last = self.save(f"{name}_last.pt")
        self._draw_curves()
        if self.average and finished:
            with self._averaged():
                self.trainable.export(self.folder / f"{name}_ema.pt", self.step)
        if not finished:
            return last
        return self.trainable.export(free_path(self.folder / f"{name}_final.pt"), self.step)

    def _draw_curves(self) -> None:
        if self.drawn_at != self.step:
            write_curves(self.folder, self.state.losses, self.state.history)
            self.drawn_at = self.step

    def save(self, name: str) -> Path:
        state = self.state
        training = {
            "identity": dict(self.trainable.identity),
            "data": self.trainable.data,
            "options": self.options.model_dump(mode="json"),
            "losses": torch.tensor(state.losses, dtype=torch.float64),
            "grad_norms": torch.tensor(state.norms, dtype=torch.float64),
            "history": [dict(each) for each in state.history],
            "best": dict(state.best),
            "counts": {"stale": state.stale, "left_out": state.left_out, "bad": state.bad},
            "average": [each.cpu() for each in self.average],
            "scaler": self.scaler.state_dict(),
        }
        content = self.trainable.state_dict(self.step)
        return write_checkpoint(self.folder / name, content, self.step, self.optimizer.state_dict(), training)

    @contextmanager
    def saved_on_cancel(self) -> Iterator[None]:
        """Keep the state when a callback ends the run; between two steps it is whole."""
        try:
            yield
        except SelVAError:
            raise  # a full disk, or numbers that are no use: there is nothing to keep
        except BaseException:
            if self.step and self._between_steps:
                try:
                    path = self.save(f"{self.trainable.name}_cancelled_step{self.step:05d}.pt")
                    logger.warning("The training was stopped; `--resume %s` goes on from there.", path)
                except OutputError as error:
                    logger.warning("The state could not be kept: %s", error)
            raise

    def resume(self, path: Path) -> None:
        """Take weights and state of a checkpoint."""
        content = read_checkpoint(path)
        step = content.get("step", 0)
        if not isinstance(step, int) or step < 0:
            raise InputError(f"{path} tells no step. Give one of the adapter_stepNNNNN.pt files of a run.")
        if step >= self.options.steps:
            raise InputError(
                f"{path} has {step} steps done of {self.options.steps}. Ask for more --steps to go on."
            )
        training = content.get("training")
        if training is None:
            self.trainable.load_state_dict(content)
            self.step = step
            self._note(
                f"{path} is of another program: its weights are taken at step {step}, and the optimiser "
                "starts anew."
            )
            if self.average:
                self.average = [each.detach().clone() for each in self.parameters]
            self.state.losses = [math.nan] * step
            self.state.norms = [math.nan] * step
            return
        check_identity(path, training["identity"], self.trainable.identity)
        self.trainable.load_state_dict(content)
        self.step = step
        self._restore(content, training)
        changed = changed_options(training["options"], self.options)
        if training["data"] != self.trainable.data:
            changed.append("other data")
        if changed:
            self._note(f"Resumed with {', '.join(changed)}: this is not what one run would have given.")

    def _restore(self, content: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(content["optimizer"])
        if training["scaler"]:
            self.scaler.load_state_dict(training["scaler"])
        if self.average:
            saved = training["average"] or self.parameters
            self.average = [
                each.detach().to(copy=True, device=mine.device)
                for each, mine in zip(saved, self.average, strict=True)
            ]
        counts = training["counts"]
        self.state = _State(
            losses=training["losses"].tolist(),
            norms=training["grad_norms"].tolist(),
            history=[dict(each) for each in training["history"]],
            best=dict(training["best"]),
            stale=counts["stale"],
            left_out=counts["left_out"],
            bad=counts["bad"],
        )

    def _validate(self, on_progress: ProgressFn) -> dict[str, float]:
        metrics = self.trainable.validate(on_progress)
        if metrics and self.average and self.step:
            with self._averaged():
                metrics["val_loss_ema"] = self.trainable.validate(on_progress)["val_loss"]
        if not metrics:
            return {}
        assert self._log is not None
        entry = {"step": float(self.step), **metrics}
        self.state.history.append(entry)
        self._log.write(entry)
        is_better = metrics["val_loss"] < self.state.best.get("val_loss", math.inf) - self.options.min_delta
        self.state.stale = 0 if is_better else self.state.stale + 1
        if is_better:
            self.state.best = entry
        return metrics

    def _count(self, total: float, norm: float, is_finite: bool) -> None:
        state = self.state
        state.losses.append(total if is_finite else math.nan)
        state.norms.append(norm if is_finite else math.nan)
        state.bad = 0 if is_finite else state.bad + 1
        state.left_out += not is_finite
        if state.bad >= _MOST_BAD:
            raise GenerationError(
                f"{state.bad} steps in a row had no finite loss or gradient, the last one step {self.step}. "
                "Try a lower --lr, a longer --warmup-steps, or --precision fp32."
            )

    @property
    def _between_steps(self) -> bool:
        return len(self.state.losses) == self.step

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        for mean, value in zip(self.average, self.parameters, strict=bool(self.average)):
            mean.lerp_(value, 1 - decay)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The average in place of the weights."""
        kept = [each.detach().clone() for each in self.parameters]
        self._put(self.average)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: Iterable[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def _note(self, sentence: str) -> None:
        self.notes.append(sentence)
        logger.warning(sentence)
