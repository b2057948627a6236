"""The model card: written from what was measured, so that it cannot say anything else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selva_audio.scenes import CONTINUOUS, HEARD, HELD_OUT, MATERIALS

from .data import CONFIG
from .evaluate import REPORT
from .parts import part_path

_COLUMNS = ("onset_f1_50ms", "onset_f1_80ms", "cross_hits", "material_accuracy", "median_offset_ms")
_ROWS = {
    "generated": "generated for the prompted object",
    "null_sync": "no sync features",
    "truth": "true stem",
    "truth_coded": "true stem through VAE and vocoder",
    "mixture": "true mixture",
    "other_scene": "stem of another scene",
}
_TEXT = """# The embedded demo model (demo_16k)

A toy of the very architecture of the big models, trained from nothing on drawn scenes, so that every
function can be tried and tested without a download. **It means nothing on real footage**: it knows
{num_materials} drawn materials and no others.

- Sees, reads and sounds: {heard}.
- Sees and reads, but its generator never heard them: {held_out}. They are there to be taught by fine-tuning.
- Sounds all the time, louder the faster it turns: {continuous}.
- Prompts: the material's word, as in {examples}.
- Pictures: the scenes of `selva_audio.scenes`; any size, they are squashed to 64 x 64.
- Sound: 16 kHz mono. All tones are harmonics of 62.5 Hz, the rate of mel frames, with the phases of one
  clock: that is what so small a vocoder can learn. It is no vocoder for other sounds.

## Files

Half precision, {megabytes:.1f} MB together.

| file | bytes |
|---|---|
{files}

## Training

`python -m recipes.demo_model --out DIR` makes these files from an empty folder, on a CPU. Every batch is
drawn from a seed; a killed run resumes to the same weights. What was spent, on one thread:

| stage | steps | CPU seconds |
|---|---|---|
{training}

The "test" split of the scenes cannot be reached from the training code.
{notes}
## Measured

{scenes} scenes of two and three objects of the "test" split, generation seed {seed}, {steps} Euler steps,
guidance {cfg_strength}; scored from written mp4 files, by `selva evaluate selectivity --scenes {scenes}`.
Accuracy is over all true impacts, misses count as wrong.

| | F1 50 ms | F1 80 ms | hits on others | material accuracy | median offset, ms |
|---|---|---|---|---|---|
{rows}

- With the other object's prompt: hits on the object that it names {other_hits}, on this one {own_hits}.
- Clips that stay silent for a material that is not there: {silent}.
- Held-out materials, before any tuning: F1 at 50 ms {held_f1}, material accuracy {held_accuracy}.
- Correlation of loudness and speed for the continuous source: {correlation} (worst clip {worst}).

{vocoder}
## Licence

MIT, as the code; all training data is drawn by the code.
"""


def model_card(folder: Path) -> str:
    """The card of the parts in ``folder``, from its report, logs and ``notes.md``, if any."""
    notes = folder / "notes.md"
    result = json.loads((folder / REPORT).read_text())
    controls = result["controls"]
    sizes = {part: part_path(folder, part).stat().st_size for part in CONFIG.files}
    return _TEXT.format(
        num_materials=len(MATERIALS),
        heard=", ".join(HEARD),
        held_out=", ".join(HELD_OUT),
        continuous=", ".join(CONTINUOUS),
        examples='"metal ball", "sound of wood" or "fan whir"',
        megabytes=sum(sizes.values()) / 1e6,
        files="\n".join(f"| {CONFIG.files[part]} | {size} |" for part, size in sizes.items()),
        training="\n".join(_training_rows(folder)),
        notes="\n" + notes.read_text() if notes.is_file() else "",
        scenes=result["scenes"],
        seed=", ".join(str(seed) for seed in result["generation_seeds"]),
        steps=result["steps"],
        cfg_strength=result["cfg_strength"],
        rows="\n".join(
            _score_row(text, {"generated": result, **controls}[key]) for key, text in _ROWS.items()
        ),
        other_hits=controls["prompt_exchanged"]["other_hits"],
        own_hits=controls["prompt_exchanged"]["own_hits"],
        silent=result["absent_silent"],
        held_f1=result["held_out"]["onset_f1_50ms"],
        held_accuracy=result["held_out"]["material_accuracy"],
        correlation=result["continuous_correlation"],
        worst=result["continuous_correlation_worst"],
        vocoder=_vocoder_table(result["vocoder"]),
    )


def _score_row(text: str, numbers: Mapping[str, Any]) -> str:
    cells = ("-" if numbers[key] is None else f"{numbers[key]:.3f}" for key in _COLUMNS)
    return f"| {text} | " + " | ".join(cells) + " |"


def _training_rows(folder: Path) -> list[str]:
    """Steps and CPU seconds per stage; the clock in a log restarts with every resume, so rises are summed."""
    rows = []
    for log in sorted(folder.glob("*.jsonl")):
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        spent, before = 0.0, 0.0
        for entry in entries:
            spent += entry["cpu"] - before if entry["cpu"] > before else entry["cpu"]
            before = entry["cpu"]
        rows.append(f"| {log.stem} | {entries[-1]['step']} | {spent:.0f} |")
    return rows


def _vocoder_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    keys = ("mel_l1", "stft", "material_accuracy", "onset_f1_50ms")
    head = (
        "Vocoder against Griffin-Lim (64 iterations) on mels of unseen stems, straight and through the VAE\n"
        "(`coded`); distances are to the true stem.\n\n"
    )
    head += "| | mel L1 | STFT distance | material accuracy | F1 50 ms |\n|---|---|---|---|---|\n"
    rows = (
        f"| {name} | " + " | ".join(f"{row[key]:.3f}" for key in keys) + " |" for name, row in scores.items()
    )
    return head + "\n".join(rows) + "\n"
