"""``python -m benchmarks.lora``: what LoRA teaches the embedded model, beside its anchors and controls.

The lesson is a material that the generator has never heard, from 12 clips. Every arm is judged on 24 clips of
the test split, which no training can reach: by the flow-matching loss with fixed noise, by spectra of made
sounds, by onsets and materials in written videos, and by what it made worse on sounds that the model knew.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from selva_audio.bundle import SelVAModel, load_model
from selva_audio.files import write_text
from selva_audio.models.generator import Generator
from selva_audio.options import (
    Candidate,
    ComparisonOptions,
    DatasetOptions,
    LoraOptions,
    SceneOptions,
    SelectivityOptions,
)
from selva_audio.tasks.adapter import with_adapters
from selva_audio.tasks.clips import load_clips
from selva_audio.tasks.evaluate import evaluate_selectivity
from selva_audio.tasks.evaluate_adapters import evaluate_adapters
from selva_audio.tasks.prepare import prepare_dataset
from selva_audio.tasks.scenes import write_scenes
from selva_audio.tasks.train import train_lora
from selva_audio.training.clips import Clips
from selva_audio.training.loop import fit
from selva_audio.training.lora import LoraTraining
from selva_audio.training.validation import fixed_noise_loss
from selva_audio.weights.io import write_safetensors

from .lora_bars import bars
from .results import write_result

_MATERIAL, _OTHER = "glass", "stone"
_KNOWN = "wood,metal,rubber,plastic"
_TRAIN, _TEST = 12, 24
_FULL_RATES = (3e-4, 1e-3)
_SIZE, _SEED = 128, 5


@dataclass(frozen=True, slots=True)
class Lesson:
    """Everything that arms share.

    Attributes:
        model: the base.
        folder: for data sets and adapters.
        train: clips of the material.
        other: clips of another material that was never heard.
        known: clips of materials the model was trained on.
        test: clips of the material that no training sees.
        test_known: likewise of the others.
        steps: of every training.
    """

    model: SelVAModel
    folder: Path
    train: Clips
    other: Clips
    known: Clips
    test: Clips
    test_known: Clips
    steps: int

    def loss(self, generator: Generator, clips: Clips) -> float:
        """Mean loss with fixed noise."""
        use_clip = self.model.config.clip_conditioning
        return fixed_noise_loss(generator, clips, clip_conditioning=use_clip).mean

    def options(self, seed: int, **changed: Any) -> LoraOptions:
        """The defaults of ``selva train lora`` but for what an arm changes."""
        return LoraOptions(steps=self.steps, save_every=self.steps, sample_steps=0, seed=seed, **changed)


class FullTraining(LoraTraining):
    """Every weight of the generator trained on the same batches: the anchor that LoRA is measured against."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.generator = copy.deepcopy(self.base).requires_grad_(True)

    def parameters(self, lr: float) -> list[dict[str, Any]]:
        """All of them in one group."""
        return [{"params": list(self.generator.parameters()), "lr": lr}]

    def state_dict(self, step: int) -> dict[str, Any]:
        """The weights."""
        return {"state_dict": self.generator.state_dict()}

    def export(self, path: Path, step: int) -> Path:
        """The weights alone."""
        write_safetensors(path, self.generator.state_dict())
        return path


def main() -> None:
    """Train and judge what was asked for; all of it by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2", help="training seeds")
    parser.add_argument("--steps", type=int, default=LoraOptions().steps)
    parser.add_argument("--arms", default=",".join(ARMS), help="some of them, joined by commas")
    parser.add_argument("--work", type=Path, help="folder of data sets and rows; a run goes on there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model("demo_16k", device="cpu", precision="fp32")
    with tempfile.TemporaryDirectory() as name:
        lesson = draw_lesson(model, arguments.work or Path(name), arguments.steps)
        seeds = [int(seed) for seed in arguments.seeds.split(",")]
        result = measure(lesson, seeds, arguments.arms.split(","))
    write_result("lora", result)


def draw_lesson(model: SelVAModel, folder: Path, steps: int, *, train: int = _TRAIN) -> Lesson:
    """Draw and prepare all data sets, with ``train`` clips of each of those that are trained on."""

    def clips(name: str, materials: str, count: int, split: Literal["train", "test"]) -> Clips:
        drawn = folder / f"{name}_scenes"
        if not drawn.exists():
            write_scenes(
                drawn, SceneOptions(materials=materials, count=count, seed=_SEED, split=split, size=_SIZE)
            )
        prepare_dataset(model, drawn, folder / name, DatasetOptions(val_fraction=0, keep_video=False))
        print(f"prepared {name}", flush=True)
        return load_clips(model, folder / name, val_fraction=0)

    return Lesson(
        model,
        folder,
        train=clips("train", _MATERIAL, train, "train"),
        other=clips("other", _OTHER, train, "train"),
        known=clips("known", _KNOWN, train, "train"),
        test=clips("test", _MATERIAL, _TEST, "test"),
        test_known=clips("test_known", _KNOWN, _TEST, "test"),
        steps=steps,
    )


def measure(lesson: Lesson, seeds: list[int], arms: list[str]) -> dict[str, Any]:
    """One row for each arm and seed, and one for the base; rows of an earlier run in the folder are kept."""
    kept = lesson.folder / f"rows_{lesson.steps}.json"
    rows: dict[str, list[dict[str, Any]]] = json.loads(kept.read_text()) if kept.exists() else {}
    generator = lesson.model.generator
    before = {"test": lesson.loss(generator, lesson.test), "known": lesson.loss(generator, lesson.test_known)}
    gap = before["test"] - before["known"]
    if not rows:
        rows["base"] = [judge(lesson, "base", "")]
    print("base", before, rows["base"], flush=True)
    made = json.loads((lesson.folder / "sounds" / "base" / "eval_summary.json").read_text())
    real = made["reference_set"]["clip_diversity"]
    for seed in seeds:
        for name in arms:
            if any(row["seed"] == seed for row in rows.get(name, [])):
                continue
            row = ARMS[name](lesson, seed)
            row["gap_closed"] = (before["test"] - row["loss"]) / gap
            row["forgetting"] = row["loss_known"] / before["known"] - 1
            rows.setdefault(name, []).append({"seed": seed} | _rounded(row))
            write_text(kept, json.dumps(rows))
            print(name, rows[name][-1], flush=True)
    return {
        "material": _MATERIAL,
        "train_clips": _TRAIN,
        "test_clips": _TEST,
        "steps": lesson.steps,
        "base_loss": round(before["test"], 4),
        "base_loss_known": round(before["known"], 4),
        "real_diversity": real,
        "bars": bars(rows, real),
        "rows": rows,
    }


def judge(lesson: Lesson, name: str, path: str) -> dict[str, Any]:
    """Spectra, copies, onsets and materials of the sounds made with an adapter."""
    plan = ComparisonOptions(
        data_dir=str(lesson.folder / "test"),
        output_dir=str(lesson.folder / "sounds" / name),
        adapters=(Candidate(id=name, path=path),),
        train_dir=str(lesson.folder / "train"),
    )
    (row,) = evaluate_adapters(lesson.model, plan).summary["adapters"]
    model = with_adapters(lesson.model, [path] if path else [])
    options = SelectivityOptions(scenes=_TEST, materials=_MATERIAL, controls=False)
    scores = evaluate_selectivity(model, options)
    sets = row["set_metrics"]
    return _rounded(
        {
            "ltas_distance": sets["ltas_distance"]["value"],
            "mel_gram_distance": sets["mel_gram_distance"]["value"],
            "kad_mel": sets["kad_mel"]["value"],
            "copies": len(row["copies"]) / _TEST,
            "clip_diversity": sets["clip_diversity"],
            "onset_f1_50ms": scores["onset_f1_50ms"],
            "onset_f1_80ms": scores["onset_f1_80ms"],
            "cross_hits": scores["cross_hits"],
            "material_accuracy": scores["material_accuracy"],
        }
    )


def adapter_arm(
    source: Callable[[Lesson], Clips] = lambda lesson: lesson.train, **changed: Any
) -> Callable[[Lesson, int], dict[str, Any]]:
    """An arm that trains an adapter on some clips with some settings changed."""

    def run(lesson: Lesson, seed: int) -> dict[str, Any]:
        settings = dict(changed)
        if settings.get("prior_preservation"):
            settings["prior_dir"] = str(lesson.folder / "known")
        out = Path(tempfile.mkdtemp(dir=lesson.folder))
        done = train_lora(lesson.model, "", out, lesson.options(seed, **settings), clips=source(lesson))
        adapted = with_adapters(lesson.model, [done.adapter_path]).generator
        numbers = {
            "loss": lesson.loss(adapted, lesson.test),
            "loss_known": lesson.loss(adapted, lesson.test_known),
            "seconds": done.summary["duration_seconds"],
        }
        return numbers | judge(lesson, out.name, str(done.adapter_path))

    return run


def full_arm(lesson: Lesson, seed: int) -> dict[str, Any]:
    """All weights, at the better of a few learning rates as the test clips tell: the hardest anchor."""
    model = lesson.model
    found = []
    for rate in _FULL_RATES:
        options = lesson.options(seed, lr=rate)
        training = FullTraining(
            model.generator,
            lesson.train,
            options,
            variant=model.config.name,
            base="",
            clip_conditioning=model.config.clip_conditioning,
        )
        fit(training, options, tempfile.mkdtemp(dir=lesson.folder))
        found.append((lesson.loss(training.generator, lesson.test), training.generator))
    loss, generator = min(found, key=lambda pair: pair[0])
    return {"loss": loss, "loss_known": lesson.loss(generator, lesson.test_known)}


def shuffled(lesson: Lesson) -> Clips:
    """Clips of all materials, the sound of each with the picture and the prompt of any other."""
    both = _joined(lesson.train, lesson.known)
    return _sounding(both, np.random.default_rng(0).permutation(len(both)))


def exchanged(lesson: Lesson) -> Clips:
    """Clips of all materials, the new one with known sounds, the known ones with the new sound."""
    both = _joined(lesson.train, lesson.known)
    return _sounding(both, np.roll(np.arange(len(both)), len(lesson.train)))


def _sounding(clips: Clips, order: np.ndarray) -> Clips:
    """The clips with each other's sounds."""
    return replace(clips, mean=clips.mean[order], std=clips.std[order], valid=clips.valid[order])


def _joined(first: Clips, second: Clips) -> Clips:
    joined: dict[str, Any] = {}
    for name in ("names", "prompts", "recordings", "splits"):
        joined[name] = (*getattr(first, name), *getattr(second, name))
    for name in ("mean", "std", "valid", "clip", "has_clip", "sync", "text"):
        joined[name] = torch.cat([getattr(first, name), getattr(second, name)])
    return replace(first, **joined)


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}


ARMS: Mapping[str, Callable[[Lesson, int], dict[str, Any]]] = {
    "full": full_arm,
    "lora": adapter_arm(),
    "preserve": adapter_arm(prior_preservation=1.0, uncond="preserve"),
    "pissa": adapter_arm(init_mode="pissa"),
    "rslora": adapter_arm(use_rslora=True),
    "shuffled": adapter_arm(shuffled),
    "exchanged": adapter_arm(exchanged),
    "wrong_class": adapter_arm(lambda lesson: lesson.other),
}

if __name__ == "__main__":
    main()
