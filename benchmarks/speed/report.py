"""The account of a run as lines of text; markdown, so that RESULTS.md can have the same."""

from collections.abc import Iterator, Mapping
from typing import Any

# What issue and documentation promise: key, what it is, at least or at most how much.
BARS = (
    ("end_to_end.fp32_ratio", "end to end, fp32", ">=", 1.5),
    ("end_to_end.default_ratio", "end to end, default precision", ">=", 2.5),
    ("vocoder_ratio", "vocoder, default precision", ">=", 4.0),
    ("media_ratio", "reading and writing, CPU time", ">=", 12.0),
    ("media_memory_ratio", "reading and writing, memory", ">=", 15.0),
    ("cold_start_ratio", "cold start, CPU time", ">=", 4.0),
    ("peak_gb", "peak resident memory, GB", "<=", 1.5),
    ("long_cost", "64 s: CPU time per second of video", "<=", 1.4),
    ("long_memory", "64 s: peak memory", "<=", 1.15),
    ("launch_ratio", "operations launched, as on a GPU", ">=", 10.0),
    ("training_ratio", "LoRA step, default precision", ">=", 1.5),
    ("training_gradients", "LoRA step, fp32: difference of gradients", "<=", 1e-5),
)


def lines(result: Mapping[str, Any]) -> list[str]:
    """The whole account."""
    return [*_precisions(result), *_fresh(result), *_bars(result), *(f"- {note}" for note in result["notes"])]


def lookup(result: Mapping[str, Any], key: str) -> float | None:
    """A number of the result by its dotted key; None where it was not measured."""
    found: Any = result
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _precisions(result: Mapping[str, Any]) -> Iterator[str]:
    for precision, rows in result.get("stages", {}).items():
        unit = "GPU s" if result["device"].startswith("cuda") else "CPU s"
        yield f"**{precision}**, {unit} (median), memory above the start, operations launched, and the "
        yield "largest error relative to upstream in fp32:"
        yield ""
        yield "| | upstream | ours | ratio (range) | memory, GB | launched | upstream's error | our error |"
        yield "|---|---|---|---|---|---|---|---|"
        for name, row in rows.items():
            yield _stage(name, row)
        yield ""
        for name, row in rows.items():
            if "top" in row["ours"]:
                told = ", ".join(
                    f"{op['name']} {op['share']:.0%} ({op['calls']})" for op in row["ours"]["top"]
                )
                yield f"Ours, {name}, by operation (calls): {told}."
                yield ""


def _stage(name: str, row: Mapping[str, Any]) -> str:
    theirs, ours = row.get("upstream", {}), row["ours"]
    cells = [
        name,
        _number(theirs.get("seconds")),
        _number(ours["seconds"]),
        f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})" if "ratio" in row else "-",
        f"{_number(theirs.get('peak_gb'))} / {_number(ours['peak_gb'])}",
        f"{_count(theirs.get('launched'))} / {_count(ours['launched'])}",
        _error(theirs),
        _error(ours),
    ]
    return f"| {' | '.join(cells)} |"


def _fresh(result: Mapping[str, Any]) -> Iterator[str]:
    rows = result.get("processes", {})
    if rows:
        yield "| process of its own | CPU s to the sound | to the end | peak resident, GB |"
        yield "|---|---|---|---|"
        for name, row in rows.items():
            if "not run" in row:
                yield f"| {name} | not run: {row['not run']} | - | - |"
            else:
                yield f"| {name} | {row['to_audio']} | {row['to_end']} | {row['peak_gb']} |"
        yield ""
    if "media" in result:
        yield "Reading a video and writing it with a sound, a process each; memory above the imports:"
        yield ""
        yield "| | upstream, CPU s | ours, CPU s | ratio | upstream, GB | ours, GB | ratio |"
        yield "|---|---|---|---|---|---|---|"
        for name, row in result["media"].items():
            yield _media(name, row)
        yield ""
    if "launches" in result:
        row = result["launches"]
        ours = ", ".join(f"{count} for the {clip}" for clip, count in row["ours"].items())
        theirs = f"upstream {row['upstream']} for each clip, " if "upstream" in row else ""
        yield f"Operations launched in the forms of a GPU, a recorded step being one: {theirs}ours {ours}."
        yield ""
    for precision, row in result.get("training", {}).items():
        told = f"ours {row['ours']['seconds']} CPU s"
        if "ratio" in row:
            told += f", upstream's generator with plain layers {row['upstream']['seconds']}, "
            told += f"ratio {row['ratio']}, gradients of each layer within {row['gradients']:.1e}"
        yield f"LoRA step, {precision}, {row['batch']} clips, {row['layers']} layers: {told}."
        yield ""


def _media(name: str, row: Mapping[str, Any]) -> str:
    sides = [row.get(side, {}) for side in ("upstream", "ours")]
    missing = [f"{side['not run']}" for side in sides if "not run" in side]
    cells = [name]
    for key, ratio in (("seconds", "ratio"), ("above_gb", "memory_ratio")):
        cells += [_number(side.get(key)) for side in sides] + [_number(row.get(ratio))]
    if missing:
        cells[1] = f"not run: {missing[0]}"
    return f"| {' | '.join(cells)} |"


def _bars(result: Mapping[str, Any]) -> Iterator[str]:
    yield "| | measured | bar | |"
    yield "|---|---|---|---|"
    for key, what, sign, bar in BARS:
        value = lookup(result, key)
        if value is None:
            yield f"| {what} | not run | {sign} {bar:g} | - |"
            continue
        holds = value >= bar if sign == ">=" else value <= bar
        told = f"{value:.2f}" if bar > 0.01 else f"{value:.1e}"
        yield f"| {what} | {told} | {sign} {bar:g} | {'holds' if holds else 'falls short'} |"
    yield ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _error(side: Mapping[str, Any]) -> str:
    return f"{side['error']['max']:.1e}" if "error" in side else "-"
