"""One training loop for every stage: AdamW, warm-up, decay over the second half, exact resume.

The batch of step k and all noise in it come from (seed, stage, k), and the learning rate from k alone, so a
run that was killed and resumed gives the weights of one that was not.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from selva_audio.weights.io import write_safetensors

LOG_EVERY = 50


class Trainee(Protocol):
    """What a stage hands to ``fit``: the module that is trained, and its loss at a step."""

    module: nn.Module

    def loss(self, rng: np.random.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch drawn from ``rng``, and numbers for the log."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast a stage trains.

    Attributes:
        steps: in all; the schedule depends on it.
        learning_rate: its highest value.
        warmup: steps of linear rise.
        ema: decay of the weight average that is exported; 0 exports the last weights.
        weight_decay: of matrices and kernels; vectors have none.
        clip: largest gradient norm.
        betas: of AdamW.
        save_every: steps between checkpoints.
    """

    steps: int
    learning_rate: float
    warmup: int = 50
    ema: float = 0.0
    weight_decay: float = 0.01
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)
    save_every: int = 200


def fit(
    name: str,
    build: Callable[[], Trainee],
    plan: Plan,
    folder: Path,
    *,
    seed: int,
    device: str = "cpu",
    stop_after: int | None = None,
) -> dict[str, Tensor]:
    """Train until ``plan.steps``, from the checkpoint in ``folder`` if there is one.

    Args:
        name: of the stage; part of every random stream and of the file names.
        build: makes the trainee; called with torch's random state set from the seed.
        plan: schedule.
        folder: checkpoint and log are written here.
        seed: of the whole recipe.
        device: where the networks run; batches are drawn on the CPU everywhere.
        stop_after: leave after this many steps of this call, as if killed.

    Returns:
        Weights to export: the average if the plan has one, else the last ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(int(stream(seed, name, "init").integers(2**62)))
    trainee = build()
    module = trainee.module.to(device)
    optimizer = _optimizer(module, plan)
    average = {key: value.clone() for key, value in module.state_dict().items()} if plan.ema else {}
    path = folder / f"{name}.checkpoint.safetensors"
    first = _load(path, module, optimizer, average) if path.is_file() else 0
    last = plan.steps if stop_after is None else min(plan.steps, first + stop_after)
    started, sums, count = time.process_time(), dict[str, float](), 0
    for step in range(first, last):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan, step)
        optimizer.zero_grad(set_to_none=True)
        loss, metrics = trainee.loss(stream(seed, name, str(step)), step)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(module.parameters(), plan.clip)
        optimizer.step()
        _update_average(average, module, min(plan.ema, (1 + step) / (10 + step)))
        for key, value in {"loss": float(loss.detach()), "norm": float(norm), **metrics}.items():
            sums[key] = sums.get(key, 0.0) + value
        count += 1
        if (step + 1) % LOG_EVERY == 0 or step + 1 == last:
            _log(folder, name, step + 1, {key: value / count for key, value in sums.items()}, started)
            sums, count = {}, 0
        if (step + 1) % plan.save_every == 0 or step + 1 == last:
            _save(path, step + 1, module, optimizer, average)
    return average or {key: value.detach() for key, value in module.state_dict().items()}


def stream(seed: int, *names: str) -> np.random.Generator:
    """Random stream of (seed, names)."""
    digest = hashlib.sha256("/".join([str(seed), *names]).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)))


def device_of(module: nn.Module) -> torch.device:
    """Where its parameters are."""
    return next(module.parameters()).device


def normal(rng: np.random.Generator, *shape: int) -> Tensor:
    """Standard normal float32 of this shape."""
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def learning_rate(plan: Plan, step: int) -> float:
    """Linear warm-up, constant, then a half cosine to zero over the second half."""
    rise = min(1.0, (step + 1) / max(plan.warmup, 1))
    late = max(0.0, 2 * step / plan.steps - 1)
    return plan.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * late))


def _optimizer(module: nn.Module, plan: Plan) -> torch.optim.AdamW:
    trained = [each for each in module.parameters() if each.requires_grad]
    groups = [
        {"params": [each for each in trained if each.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [each for each in trained if each.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=plan.betas)


@torch.no_grad()
def _update_average(average: dict[str, Tensor], module: nn.Module, decay: float) -> None:
    state = module.state_dict()
    for key, value in average.items():
        if value.is_floating_point():
            value.lerp_(state[key], 1 - decay)


def _save(
    path: Path, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, average: Mapping[str, Tensor]
) -> None:
    tensors = {f"module/{key}": value for key, value in module.state_dict().items()}
    tensors |= {f"average/{key}": value for key, value in average.items()}
    for key, parameter in module.named_parameters():
        for part, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{part}/{key}"] = torch.as_tensor(value)
    write_safetensors(path, {key: value.detach() for key, value in tensors.items()}, {"step": str(step)})


def _load(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]) -> int:
    parameters = dict(module.named_parameters())
    state: dict[str, Tensor] = {}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - not a mapping
            part, name = key.split("/", 1)
            value = file.get_tensor(key)
            if part == "module":
                state[name] = value
            elif part == "average":
                average[name] = value.to(average[name].device)
            else:
                parameter = parameters[name]
                optimizer.state[parameter][part] = value.to(parameter.device) if value.ndim else value
        step = int(file.metadata()["step"])
    module.load_state_dict(state)
    return step


def _log(folder: Path, name: str, step: int, metrics: Mapping[str, float], started: float) -> None:
    row = {"stage": name, "step": step, "cpu": round(time.process_time() - started, 1)}
    row |= {key: round(value, 5) for key, value in metrics.items()}
    print(json.dumps(row), flush=True)
    with (folder / f"{name}.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")
