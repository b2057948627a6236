"""``python -m benchmarks.lora_variants``: PiSSA, rsLoRA and Spectral Surgery beside plain LoRA.

The lesson of ``lora`` with a third of its steps, 12 clips to train on and 8 for validation. Start and scale
are tried over three learning rates each, one seed, by the loss on test clips. Surgery is tried on three seeds
and two targets, as the trainer does it, and judged on the test clips, which it has not seen.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from selva_audio.bundle import load_model
from selva_audio.files import write_text
from selva_audio.tasks.adapter import with_adapters
from selva_audio.tasks.train import train_lora
from selva_audio.training.clips import Clips
from selva_audio.training.validation import fixed_noise_loss, paired_difference

from .lora import Lesson, draw_lesson
from .results import write_result

_STEPS = 500
_TRAIN, _VAL = 12, 8
_FACTORS = (0.5, 1.0, 2.0)
_WIDE = 64
_SWEPT: dict[str, dict[str, Any]] = {
    "plain": {},
    "PiSSA": {"init_mode": "pissa"},
    f"rsLoRA, rank {_WIDE}, alpha 8": {"use_rslora": True, "rank": _WIDE},
    f"rsLoRA, rank {_WIDE}, alpha {2 * _WIDE}": {"use_rslora": True, "rank": _WIDE, "alpha": 2.0 * _WIDE},
}
_TARGETS = ("qkv", "qkv conv")
_SEEDS = (0, 1, 2)
_PARTS = ("sweep", "surgery")


def main() -> None:
    """Sweep and operate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=_STEPS, help="of every training")
    parser.add_argument("--work", type=Path, help="folder of data sets and rows; a run goes on there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model("demo_16k", device="cpu", precision="fp32")
    with tempfile.TemporaryDirectory() as name:
        lesson = draw_lesson(model, arguments.work or Path(name), arguments.steps, train=_TRAIN + _VAL)
        write_result("lora_variants", measure(lesson))


def measure(lesson: Lesson) -> dict[str, Any]:
    """One row for each training; rows of an earlier run in the folder are kept."""
    kept = lesson.folder / f"variants_{lesson.steps}.json"
    rows: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    for name, run in _rows(lesson):
        if name not in rows:
            rows[name] = run()
            write_text(kept, json.dumps(rows))
            print(name, rows[name], flush=True)
    head = {"steps": lesson.steps, "train_clips": _TRAIN, "val_clips": _VAL, "test_clips": len(lesson.test)}
    return head | {part: {name: row for name, row in rows.items() if row["part"] == part} for part in _PARTS}


def _rows(lesson: Lesson) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    clips = _split(lesson.train)
    usual = lesson.options(0).lr_for(lesson.model.config.generator.hidden_dim)
    for kind, changed in _SWEPT.items():
        for rate in (factor * usual for factor in _FACTORS):
            settings = {**changed, "lr": rate, "surgery": False}
            yield f"{kind}, lr {rate:.2g}", partial(_swept, lesson, clips, settings)
    for target in _TARGETS:
        for seed in _SEEDS:
            yield f"{target}, seed {seed}", partial(_operated, lesson, clips, target, seed)


def _split(clips: Clips) -> Clips:
    chosen = clips.take(range(_TRAIN + _VAL))
    return replace(chosen, splits=("train",) * _TRAIN + ("val",) * _VAL)


def _swept(lesson: Lesson, clips: Clips, settings: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=lesson.folder) as out:
        done = train_lora(lesson.model, "", out, lesson.options(0, **settings), clips=clips)
        generator = with_adapters(lesson.model, [done.adapter_path]).generator
        return {
            "part": "sweep",
            "val_loss": round(done.history[-1]["val_loss"], 4),
            "loss": round(lesson.loss(generator, lesson.test), 4),
            "loss_known": round(lesson.loss(generator, lesson.test_known), 4),
        }


def _operated(lesson: Lesson, clips: Clips, target: str, seed: int) -> dict[str, Any]:
    """The trainer's own operation, and what it came to on clips that it did not see."""
    with tempfile.TemporaryDirectory(dir=lesson.folder) as out:
        done = train_lora(lesson.model, "", out, lesson.options(seed, target=target), clips=clips)
        account = done.summary["surgery"]
        before = account.get("unedited_path", str(done.adapter_path))
        edited, plain = (
            fixed_noise_loss(
                with_adapters(lesson.model, [path]).generator,
                lesson.test,
                clip_conditioning=lesson.model.config.clip_conditioning,
            )
            for path in (str(done.adapter_path), before)
        )
    mean, low, high = paired_difference(edited, plain)
    trials = {trial["policy"]: round(trial["difference"], 5) for trial in account["trials"]}
    return {
        "part": "surgery",
        "status": account["status"],
        "validation": trials,
        "test_loss": round(plain.mean, 4),
        "test_change": round(mean / plain.mean, 5),
        "low": round(low / plain.mean, 5),
        "high": round(high / plain.mean, 5),
    }


if __name__ == "__main__":
    main()
