"""The sections of RESULTS.md: from the content of a result file to markdown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .speed.report import lines as speed_lines

_SCORES = ("onset_f1_50ms", "onset_f1_80ms", "cross_hits", "material_accuracy", "median_offset_ms")
_SCORE_HEAD = "F1 50 ms | F1 80 ms | hits on others | material accuracy | median offset, ms |"
# What each arm of the LoRA lesson shows: key, heading, digits.
_LESSON = (
    ("loss", "loss", 3),
    ("gap_closed", "gap closed", 3),
    ("ltas_distance", "long-term spectrum, dB", 1),
    ("mel_gram_distance", "mel Gram", 1),
    ("material_accuracy", "material accuracy", 2),
    ("onset_f1_50ms", "F1 50 ms", 3),
    ("copies", "copies", 2),
    ("clip_diversity", "diversity", 2),
    ("loss_known", "loss on known", 3),
)


def _selectivity(result: dict[str, Any]) -> str:
    controls = result["controls"]
    exchanged = controls["prompt_exchanged"]
    rows = {f"generation seed {row['seed']}": row for row in result["per_seed"]}
    rows |= {
        "worst of each": result["worst"],
        "no sync features": controls["null_sync"],
        "prompt exchanged, scored on the first": exchanged | {"cross_hits": exchanged["other_hits"]},
        "true stem": controls["truth"],
        "true stem through VAE and vocoder": controls["truth_coded"],
        "true mixture": controls["mixture"],
        "stem of another scene": controls["other_scene"],
        "held-out materials": result["held_out"],
    }
    return f"""## Selectivity of the embedded model

{result["scenes"]} test scenes (seed {result["seed"]}) of two and three objects, {result["impacts"]} impacts
prompted, {result["steps"]} steps, guidance {result["cfg_strength"]}, {result["precision"]}; scored from
written mp4 files. {_where(result)}

| | {_SCORE_HEAD}
|---|---|---|---|---|---|
{_score_rows(rows)}

- Prompt exchanged: hits on the object it names {exchanged["other_hits"]}, on the first
  {exchanged["own_hits"]}.
- Clips without any onset for a material that is not there: {result["absent_silent"]}.
- Continuous source, correlation of loudness and speed: {result["continuous_correlation"]} (worst clip \
{result["continuous_correlation_worst"]}).
"""


def _settings(result: dict[str, Any]) -> str:
    name = "{precision}, {steps} steps, guidance {cfg_strength:g} | {cpu_seconds}"
    rows = {name.format(**row): row for row in result["rows"]}
    return f"""## What precision, steps and guidance cost and give

Embedded model, {result["scenes"]} test scenes, one generation seed; CPU seconds from a video of 8 s to the
video with sound, one thread, models loaded. The weights are {result["bytes"] / 1e6:.1f} MB. {_where(result)}

| | CPU s | {_SCORE_HEAD}
|---|---|---|---|---|---|---|
{_score_rows(rows)}
"""


def _score_rows(rows: dict[str, dict[str, Any]]) -> str:
    return "\n".join(
        f"| {name} | " + " | ".join("-" if row[key] is None else f"{row[key]:.3f}" for key in _SCORES) + " |"
        for name, row in rows.items()
    )


def _where(result: dict[str, Any]) -> str:
    measured = result["measured"]
    return f"Commit {measured['commit']}, Python {measured['python']}, torch {measured['torch']}."


def _lora(result: dict[str, Any]) -> str:
    rows = result["rows"]
    base = rows["base"][0] | {"loss": result["base_loss"], "loss_known": result["base_loss_known"]}
    lines = [_lesson_line("base", [base | {"gap_closed": 0.0}])]
    lines += [_lesson_line(name, found) for name, found in rows.items() if name != "base"]
    return f"""## What LoRA teaches the embedded model

{result["material"].capitalize()}, which the generator never heard, from {result["train_clips"]} clips in
{result["steps"]} steps, judged on {result["test_clips"]} clips of the test split; defaults of
`selva train lora` but for what the row names. Mean over training seeds, and the worst of them in
brackets. Diversity of the recordings: {result["real_diversity"]:.2f}. {_where(result)}

| | {" | ".join(heading for _, heading, _ in _LESSON)} |
|---|{"---|" * len(_LESSON)}
{_lines(lines)}

| bar, on every seed | holds |
|---|---|
{_lines(f"| {bar} | {'yes' if holds else 'no'} |" for bar, holds in result["bars"].items())}
"""


def _lesson_line(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for key, _, digits in _LESSON:
        values = [row[key] for row in rows if row.get(key) is not None]
        if not values:
            cells.append("-")
            continue
        is_better_high = key in ("gap_closed", "material_accuracy", "onset_f1_50ms", "clip_diversity")
        worst = min(values) if is_better_high else max(values)
        told = f"{sum(values) / len(values):.{digits}f}"
        cells.append(told if len(values) == 1 else f"{told} ({worst:.{digits}f})")
    return f"| {name} | {' | '.join(cells)} |"


def _lora_settings(result: dict[str, Any]) -> str:
    keys = ("train_loss", "loss", "ltas_distance", "mel_gram_distance", "onset_f1_50ms", "loss_known")
    lines = [
        f"| {name} | " + " | ".join(f"{row[key]:.3g}" if key in row else "-" for key in keys) + " |"
        for name, row in result["rows"].items()
    ]
    return f"""## What each setting of a LoRA training does

The lesson above with {result["steps"]} steps and one seed; {result["test_clips"]} clips for the spectra.
{_where(result)}

| | training loss | loss | long-term spectrum, dB | mel Gram | F1 50 ms | loss on known |
|---|---|---|---|---|---|---|
{_lines(lines)}
"""


def _lora_variants(result: dict[str, Any]) -> str:
    keys = ("name", "val_loss", "loss", "loss_known")
    swept = [_line({"name": name} | row, keys) for name, row in result["sweep"].items()]
    operated = []
    for name, row in result["surgery"].items():
        tried = ", ".join(f"{policy} {change:+.4f}" for policy, change in row["validation"].items())
        change = f"{100 * row['test_change']:+.2f} ({100 * row['low']:+.2f} to {100 * row['high']:+.2f})"
        operated.append(f"| {name} | {tried} | {row['status']} | {row['test_loss']} | {change} |")
    return f"""## PiSSA, rsLoRA and Spectral Surgery

The lesson of LoRA with {result["steps"]} steps, {result["train_clips"]} clips to train on and
{result["val_clips"]} for validation. {_where(result)}

| start and scale | validation loss | loss on {result["test_clips"]} test clips | loss on known |
|---|---|---|---|
{_lines(swept)}

Surgery as the trainer does it: change of the validation loss by each edit and by random ones, what became of
the best edit, and the change of the loss on test clips by what was adopted (90 % interval by clip).

| target, seed | on validation | outcome | test loss | change on test, % |
|---|---|---|---|---|
{_lines(operated)}
"""


def _steering(result: dict[str, Any]) -> str:
    keys = ("seed", "strength", "base", "steered", "change", "change_reversed", "change_random")
    return f"""## Steering

Vectors of {result["style"]} against {result["contrast"]}, on {result["clips"]} test clips of
{result["played"]}; distance of their long-term spectrum to the style, dB. The bar (-10 % steered, over 0
reversed, within 5 % for random vectors of equal norm) holds on every seed: {_yes(result["holds"])}.
{_where(result)}

| {" | ".join(keys)} |
|{"---|" * len(keys)}
{_lines(_line(row, keys) for row in result["rows"])}
"""


def _ditto(result: dict[str, Any]) -> str:
    keys = ("seed", "before", "after", "change", "best_random", "onset_f1_before", "onset_f1_after", "norm")
    return f"""## DITTO

Style {result["style"]}, played {result["played"]}; style loss under the final sampler, beside the best of as
many random noises as the search had network evaluations for. The bar (-30 %, better than random noises, F1
within .1, norm within 10 %) holds on every seed: {_yes(result["holds"])}. {_where(result)}

| {" | ".join(keys)} |
|{"---|" * len(keys)}
{_lines(_line(row, keys) for row in result["rows"])}
"""


def _inversion(result: dict[str, Any]) -> str:
    cases = ("token", "token_random", "feature", "feature_random", "lora")
    lines = [
        f"| {row['seed']} | "
        + " | ".join("{percent} ({low} to {high})".format(**row[case]) for case in cases)
        + " |"
        for row in result["rows"]
    ]
    return f"""## Textual inversion

{result["material"].capitalize()}, {result["tokens"]} tokens, {result["steps"]} steps on
{result["train_clips"]} clips; change of the loss on {result["test_clips"]} unseen clips in percent, with its
90 % interval by clip; random rows of equal norms, and LoRA ({result["lora_steps"]} steps) beside it. Weights
of the model unchanged to the bit: {_yes(result["weights_unchanged"])}. {_where(result)}

| seed | {" | ".join(case.replace("_", " ") for case in cases)} |
|---|{"---|" * len(cases)}
{_lines(lines)}
"""


def _vocoder(result: dict[str, Any]) -> str:
    cases = ("tuned", "endless_pull", "matched")
    lines = [
        f"| {row['seed']} | " + " | ".join(f"{row[case]['percent']}" for case in cases) + " |"
        for row in result["rows"]
    ]
    return f"""## Vocoder tuning

{result["parameters"]} Snake frequencies on {result["sounds"]} sounds of a coloured corpus, {result["steps"]}
steps; change of mel L1 on {result["others"]} other sounds in percent. Beside it an endless pull to the start,
and the same sounds uncoloured. {_where(result)}

| seed | tuned | endless pull | uncoloured |
|---|---|---|---|
{_lines(lines)}
"""


def _style_costs(result: dict[str, Any]) -> str:
    lines = [
        f"| {row['variant']} | {row['tool']} | {row['numbers']:,} | {row['bytes'] / 1e6:.2f} | "
        f"{row['cpu_seconds']:.1f} | {row['peak_gb']:.1f} |"
        for row in result["rows"]
    ]
    return f"""## Costs of the style tools at full size

Untrained weights in float32, one clip of {result["seconds"]:g} s at a time, one thread; the second round of
each, and the most memory of its process. {_where(result)}

| variant | tool | numbers found | file, MB | CPU s | most memory, GB |
|---|---|---|---|---|---|
{_lines(lines)}
"""


def _vs_upstream(result: dict[str, Any]) -> str:
    device = result["gpu"] or f"{result['measured']['threads']} CPU thread"
    return f"""## Beside the published code

small_16k with deterministic weights, a clip of {result["duration"]:g} s in 1280x720, {result["steps"]}
steps, guidance 4.5; both sides in turn in one process, {device}. {_where(result)}

{_lines(speed_lines(result))}
"""


def _lora_step(result: dict[str, Any]) -> str:
    lines = [
        f"| {row['precision']} | {row['plain_samples_per_second']:.2f} | {row['samples_per_second']:.2f} | "
        f"{row['ratio']:.2f} ({row['ratio_lowest']:.2f} to {row['ratio_highest']:.2f}) | "
        f"{row['gradient_difference']:.1e} |"
        for row in result["rows"]
    ]
    row = result["rows"][0]
    return f"""## A LoRA training step beside a plain loop

{row["variant"]} with random weights, batches of {row["batch_size"]} clips of 8 s, target {row["target"]},
rank {row["rank"]}; clips per CPU second on one thread, in turns in one process. The plain loop runs the
generator as one would write it first, on the same cached features. {_where(result)}

| | plain loop | ours | ratio | difference of the gradients |
|---|---|---|---|---|
{_lines(lines)}

In bf16 the difference is the rounding of either loop; in float64 both give the same (`tests/adapters`).
"""


def _folder(result: dict[str, Any]) -> str:
    def numbers(values: Mapping[str, float]) -> str:
        return " / ".join(f"{each:.2f}" for each in values.values())

    lines = [
        f"| {row['variant']}, {row['clips']} clips, {row['steps']} steps | {numbers(row['stages'])} | "
        f"{numbers(row['seconds'])} | "
        f"{row['ratio']:.2f} ({row['ratio_lowest']:.2f} to {row['ratio_highest']:.2f}) | "
        f"{numbers(row['cpu_seconds'])} | {numbers(row['thread_seconds'])} | {row['thread_ratio']:.2f} |"
        for row in result["rows"]
    ]
    row, measured = result["rows"][0], result["measured"]
    cores = f"{measured['threads']} of {measured['cores']}"
    return f"""## A folder of clips

Drawn clips of {row["duration"]:g} s, {row["size"]} pixels square, to videos with sound in
{row["precision"]}; {cores} cores for the model, and other programs at work. Seconds per clip, one by
one / overlapped: there the next clip is read and the last one written while the model works. Medians
of rounds in turns; small_16k has random weights. The model's thread is what is waited for where a core
is free; the clock tells of the other programs too. {_where(result)}

| | features / generate / write | by the clock | ratio | CPU | CPU of the model's thread | ratio |
|---|---|---|---|---|---|---|
{_lines(lines)}
"""


def _line(row: Mapping[str, Any], keys: Iterable[str]) -> str:
    return f"| {' | '.join(str(row[key]) for key in keys)} |"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


SECTIONS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "demo_selectivity": _selectivity,
    "demo_settings": _settings,
    "vs_upstream": _vs_upstream,
    "lora": _lora,
    "lora_settings": _lora_settings,
    "lora_variants": _lora_variants,
    "lora_step": _lora_step,
    "style_inversion": _inversion,
    "style_steering": _steering,
    "style_vocoder": _vocoder,
    "style_ditto": _ditto,
    "style_costs": _style_costs,
    "folder": _folder,
}
