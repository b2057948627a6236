"""``python -m benchmarks.lora_settings``: what each setting of a training does to the lesson of ``lora``.

One training seed, and a third of the default's steps, so that settings have room to help or to harm. What is
used and not trained (strength, guidance) is tried on the adapter of the default settings.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from selva_audio.bundle import load_model
from selva_audio.files import write_text
from selva_audio.options import Candidate, ComparisonOptions
from selva_audio.tasks.adapter import with_adapters
from selva_audio.tasks.evaluate_adapters import evaluate_adapters
from selva_audio.tasks.train import train_lora
from selva_audio.training.clips import Clips

from .lora import Lesson, draw_lesson
from .results import write_result

_STEPS = 500
_COUNT = 24
_SHOWN = 12
_VAGUE = "a sound"
_KEYS = ("ltas_distance", "mel_gram_distance")


def main() -> None:
    """Try every row, or those whose names begin with a word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose names begin so")
    parser.add_argument("--steps", type=int, default=_STEPS, help="of a training where the row says nothing")
    parser.add_argument("--work", type=Path, help="folder of data sets and rows; a run goes on there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model("demo_16k", device="cpu", precision="fp32")
    with tempfile.TemporaryDirectory() as name:
        lesson = draw_lesson(model, arguments.work or Path(name), arguments.steps, train=_COUNT)
        write_result("lora_settings", measure(lesson, arguments.only))


def measure(lesson: Lesson, only: str = "") -> dict[str, Any]:
    """One row for each setting."""
    kept = lesson.folder / f"settings_{lesson.steps}.json"
    rows: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    for name, run in _rows(lesson):
        if name not in rows and name.startswith(only):
            rows[name] = {key: round(value, 4) for key, value in run().items()}
            write_text(kept, json.dumps(rows))
            print(name, rows[name], flush=True)
    return {"steps": lesson.steps, "test_clips": _SHOWN, "train_clips": 12, "rows": rows}


def _rows(lesson: Lesson) -> Iterator[tuple[str, Callable[[], dict[str, float]]]]:
    steps, clips = lesson.steps, lesson.train.take(range(12))
    usual = lesson.folder / "usual" / "adapter_final.pt"

    def trained(chosen: Clips = clips, **changed: Any) -> Callable[[], dict[str, float]]:
        def run() -> dict[str, float]:
            with tempfile.TemporaryDirectory(dir=lesson.folder) as out:
                return _train(lesson, Path(out), chosen, changed)

        return run

    yield "base", lambda: _judge(lesson, "")
    yield "defaults", lambda: _train(lesson, usual.parent, clips, {})
    for count in (3, 6, 24):
        yield f"clips {count}", trained(lesson.train.take(range(count)))
    for factor in (0.25, 0.5, 2):
        yield f"steps {int(steps * factor)}", trained(steps=int(steps * factor))
    for rank in (4, 64):
        yield f"rank {rank}", trained(rank=rank)
    for target in ("qkv", "qkv conv linear1"):
        yield f"target {target}", trained(target=target)
    for rate in (1e-4, 1.6e-3):
        yield f"lr {rate:g}", trained(lr=rate)
    yield f"batch 1, steps {2 * steps}", trained(batch_size=1, steps=2 * steps)
    yield f"batch 16, steps {steps // 4}", trained(batch_size=16, steps=steps // 4)
    yield "timesteps uniform", trained(timestep_mode="uniform")
    yield "no dropped conditions", trained(uncond="none", video_dropout=0.0, text_dropout=0.0)
    yield f"prompt '{_VAGUE}'", trained(_prompted(lesson, clips, _VAGUE))
    for strength in (0.25, 0.5, 0.75, 1.25, 1.5):
        yield f"strength {strength:g}", lambda strength=strength: _judge(lesson, usual, strength=strength)
    for guidance in (1.0, 2.0, 3.0, 6.0):
        yield f"guidance {guidance:g}", lambda guidance=guidance: _judge(lesson, usual, guidance=guidance)


def _train(lesson: Lesson, out: Path, clips: Clips, changed: Mapping[str, Any]) -> dict[str, float]:
    options = lesson.options(0).model_copy(update={"save_every": 10**6, **changed})
    done = train_lora(lesson.model, "", out, options, clips=clips)
    numbers = {
        "train_loss": sum(done.losses[-50:]) / len(done.losses[-50:]),
        "seconds": float(done.summary["duration_seconds"]),
    }
    return numbers | _judge(lesson, done.adapter_path)


def _judge(
    lesson: Lesson, path: Path | str, *, strength: float = 1.0, guidance: float = 4.5
) -> dict[str, float]:
    """Loss with fixed noise on test clips, of the material and of known ones; spectra, timing."""
    given = str(path)
    generator = with_adapters(lesson.model, [given] if given else [], [strength] if given else ()).generator
    with tempfile.TemporaryDirectory(dir=lesson.folder) as out:
        plan = ComparisonOptions(
            data_dir=str(lesson.folder / "test"),
            output_dir=out,
            adapters=(Candidate(id="row", path=given, strength=strength),),
            max_clips=_SHOWN,
            cfg_strength=guidance,
            train_dir=str(lesson.folder / "train"),
        )
        (row,) = evaluate_adapters(lesson.model, plan).summary["adapters"]
    return {
        "loss": lesson.loss(generator, lesson.test),
        "loss_known": lesson.loss(generator, lesson.test_known),
        **{key: row["set_metrics"][key]["value"] for key in _KEYS},
        "onset_f1_50ms": row["avg_metrics"]["onset_f1_50ms"],
        "copies": float(len(row["copies"])),
    }


def _prompted(lesson: Lesson, clips: Clips, prompt: str) -> Clips:
    clip = lesson.model.clip
    text = clip.encode_text([prompt]).detach().float()
    return replace(clips, text=text.expand_as(clips.text), prompts=(prompt,) * len(clips))


if __name__ == "__main__":
    main()
