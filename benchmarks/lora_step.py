"""Speed of a LoRA training step beside a plain loop over the same cached features, on one CPU thread.

Both train the same adapter from the same start on the same noise and times, in turns, in one process. The
plain loop runs the generator of ``plain.py`` and torch's own AdamW; weights are random, since no number here
depends on what they are.

``python -m benchmarks.lora_step`` prints a JSON line for each precision and writes `results/lora_step.json`.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from selva_audio.flow import interpolate
from selva_audio.models.layers import lay_out_convolutions
from selva_audio.options import LoraOptions
from selva_audio.training.keyed import keyed
from selva_audio.training.loop import BETAS
from selva_audio.training.lora import LoraTraining

from .lora_memory import random_clips, random_generator
from .plain import PlainLora, plain_adapters
from .results import write_result

_NUM_CLIPS = 8
_MOVED = 0.01  # B starts at zero, where A has no gradient; one that has been trained is compared


def measure(variant: str, precision: str, options: LoraOptions, rounds: int) -> dict[str, Any]:
    """Samples per CPU second of both loops in turns, and how far their gradients differ at the first step."""
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    generator = random_generator(variant, dtype)
    plain_base = random_generator(variant, dtype)
    lay_out_convolutions(generator)  # as loading does; the plain loop has its kernels as they are in files
    training = LoraTraining(
        generator,
        random_clips(variant, _NUM_CLIPS),
        options,
        variant=variant,
        base="",
        clip_conditioning=False,
    )
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in _parameters(training).values():
            parameter.add_(_MOVED * torch.randn(parameter.shape, generator=random))
    plain = plain_adapters(plain_base, dict(training.adapter(0).deltas))
    ours, theirs = _our_step(training), _plain_step(training, plain)
    difference = _difference(training, plain, ours(0, False), theirs(0, False))
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    once_through = _NUM_CLIPS // options.batch_size  # what is made once for each clip is made then
    for number in range(1, once_through + rounds + 1):
        for name, step in (("plain", theirs), ("ours", ours)):
            started = time.process_time()
            step(number, True)
            if number > once_through:
                seconds[name].append(time.process_time() - started)
    ratios = [plain / own for plain, own in zip(seconds["plain"], seconds["ours"], strict=True)]
    return {
        "variant": variant,
        "precision": precision,
        "batch_size": options.batch_size,
        "target": options.target,
        "rank": options.rank,
        "plain_samples_per_second": options.batch_size / median(seconds["plain"]),
        "samples_per_second": options.batch_size / median(seconds["ours"]),
        "ratio": median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        **difference,
    }


def _our_step(training: LoraTraining) -> Callable[[int, bool], float]:
    """Function that does a step as ``fit`` does, and gives its loss."""
    groups = training.parameters(training.options.lr)
    optimizer = torch.optim.AdamW(groups, betas=BETAS, weight_decay=0.0)
    return _step(optimizer, lambda number: sum_of(training.loss(number, partial(keyed, 0, number))))


def sum_of(parts: Any) -> float:
    """Loss of all parts, each differentiated before the next is made."""
    total = 0.0
    for part in parts:
        part.backward()
        total += float(part.detach())
    return total


def _plain_step(training: LoraTraining, plain: nn.Module) -> Callable[[int, bool], float]:
    """The same by hand: features of a batch, noise, the velocity, its error."""
    optimizer = torch.optim.AdamW(
        [each for each in plain.parameters() if each.requires_grad],
        training.options.lr,
        BETAS,
        weight_decay=0,
    )

    def differentiate(number: int) -> float:
        # The draws are the trainer's, so that both see the same; they cost some milliseconds.
        batch = training._draw(number, partial(keyed, 0, number))
        x = interpolate(batch.x0, batch.x1, batch.t)
        predicted: Tensor = plain(x, *training._conditions(batch), batch.t).float()
        loss = (predicted - (batch.x1 - batch.x0)).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    return _step(optimizer, differentiate)


def _step(optimizer: Any, differentiate: Callable[[int], float]) -> Callable[[int, bool], float]:
    def step(number: int, is_updating: bool) -> float:
        optimizer.zero_grad()
        loss = differentiate(number)
        if is_updating:
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
            optimizer.step()
        return loss

    return step


def _parameters(training: LoraTraining) -> dict[str, nn.Parameter]:
    named = training.generator.named_parameters()
    return {name: each for name, each in named if each.requires_grad}


def _difference(training: LoraTraining, plain: nn.Module, loss: float, plain_loss: float) -> dict[str, float]:
    """Relative differences of the loss and of all gradients together."""
    expected = {}
    for path, module in plain.named_modules():
        if isinstance(module, PlainLora):
            expected |= {f"{path}.deltas.0.lora_A": module.down, f"{path}.deltas.0.lora_B": module.up}
    squares = [0.0, 0.0]
    for name, parameter in _parameters(training).items():
        reference = expected[name].grad
        assert parameter.grad is not None and reference is not None
        squares[0] += float((parameter.grad - reference).double().square().sum())
        squares[1] += float(reference.double().square().sum())
    return {
        "loss_difference": abs(loss - plain_loss) / plain_loss,
        "gradient_difference": (squares[0] / squares[1]) ** 0.5,
    }


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="small_16k")
    parser.add_argument("--precision", nargs="+", choices=("bf16", "fp32"), default=["bf16", "fp32"])
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--target", default="qkv conv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="Print only.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    options = LoraOptions(
        batch_size=given.batch_size, target=given.target, lr=1e-5, uncond="none", loss_mask="none"
    )
    rows = []
    for precision in given.precision:
        rows.append(measure(given.variant, precision, options, given.rounds))
        print(json.dumps(rows[-1]), flush=True)
    if not given.dry:
        write_result("lora_step", {"rows": rows})


if __name__ == "__main__":
    main()
