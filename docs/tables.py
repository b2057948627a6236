"""Tables of the pages, made from the code they describe: ``python docs/tables.py`` writes them anew.

A page marks such a place with ``<!-- table: NAME -->`` and ``<!-- end of table -->``. A test compares every
marked place with what this file makes of the code.
"""

import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from cyclopts import App, Group
from cyclopts.argument import Argument

from selva_audio.cli.app import app
from selva_audio.configs import VARIANTS
from selva_audio.weights.components import expected_shapes
from selva_audio.weights.manifest import FILES, WeightFile, variant_files

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_RESULTS = ROOT / "benchmarks" / "results"
# What a row of that benchmark shows: heading and format.
_MEASURED = {
    "train_loss": ("training loss", ".2f"),
    "loss": ("validation loss", ".3f"),
    "ltas_distance": ("spectrum, dB", ".1f"),
    "mel_gram_distance": ("mel Gram", ".1f"),
    "onset_f1_50ms": ("onset F1", ".2f"),
    "loss_known": ("loss on known sounds", ".2f"),
}
# Rows of it that stand together: heading, and what the default settings are there.
_GROUPS = {
    "clips": ("Clips", "12"),
    "steps": ("Steps", "500"),
    "rank": ("Rank", "16"),
    "target": ("Target", "qkv conv"),
    "lr": ("Learning rate", "0.0019"),
    "batch": ("Batch", "4, steps 500"),
    "timesteps": ("Times", "logit_normal"),
    "no dropped": ("Conditions", "a tenth dropped"),
    "prompt": ("Prompt", "its own"),
    "strength": ("Strength", "1"),
    "guidance": ("Guidance", "4.5"),
}
_UNITS = {"MB": 1e6, "GB": 1e9}
_PLACE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def updated(page: str) -> str:
    """The text of a page with every marked table made anew.

    Raises:
        KeyError: a mark names a table that there is none of.
    """
    return _PLACE.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}", page)


def variants_table() -> str:
    """Every variant: family, size, rate, files, what they weigh, and their licences."""
    head = (
        "Variant",
        "Family",
        "Generator parameters",
        "Sound",
        "Files",
        "Download",
        "Licences of the files",
    )
    rows = []
    for name, config in VARIANTS.items():
        files = list(variant_files(name).values())
        shapes = expected_shapes("generator", config)
        millions = sum(math.prod(shape) for shape in shapes.values()) / 1e6
        rows.append(
            (
                f"`{name}`",
                {"selva": "SelVA", "mmaudio": "MMAudio"}[config.family],
                f"{millions:.2f} million",
                f"{config.sample_rate / 1000:g} kHz",
                _file_names(files),
                _size(sum(_bytes(file) for file in files)),
                "; ".join(dict.fromkeys(file.licence for file in files)),
            )
        )
    return _table(head, rows)


def files_table() -> str:
    """Every weight file: content, size and licence; those inside the package in one row."""
    head = ("File", "Content", "Size", "Licence")
    rows = [(f"`{file.name}`", file.role, file.reported_size, file.licence) for file in _published()]
    bundled = [file for file in FILES.values() if file.is_bundled]
    licences = "; ".join(dict.fromkeys(file.licence for file in bundled))
    return _table(
        head, [*rows, ("`demo_16k_*.safetensors`", "embedded demo model", bundled[0].reported_size, licences)]
    )


def sources_table() -> str:
    """Every published file: where it comes from, under which names, and its hash."""
    head = ("File", "Hub repository", "Names there", "Published md5")
    rows = [
        (
            f"`{file.name}`",
            f"`{file.repo}`",
            " and ".join(" or ".join(f"`{name}`" for name in names) for names in file.parts or (file.paths,)),
            f"`{file.md5}`" if file.md5 else "none",
        )
        for file in _published()
    ]
    return _table(head, rows)


def command_table(command: App) -> str:
    """Arguments and flags of one command, one table per group of its help."""
    groups: dict[str, list[Argument]] = {}
    for argument in command.assemble_argument_collection():
        if argument.show:
            group = "Parameters" if argument.index is not None else _group(argument)
            groups.setdefault(group, []).append(argument)
    parts = []
    for name, arguments in groups.items():
        head = (
            "Argument or flag" if name == "Parameters" else f"{name}: flag",
            "Value",
            "Default",
            "What it does",
        )
        rows = [
            (_flag(argument), _value(argument), _default(argument), _text(argument.parameter.help))
            for argument in arguments
        ]
        parts.append(_table(head, rows))
    return "\n\n".join(parts)


def settings_table(group: str) -> str:
    """Rows of the benchmark of LoRA settings whose names begin with a word, beside base and defaults."""
    rows = _result("lora_settings")["rows"]
    heading, usual = _GROUPS[group]
    chosen = {
        name.removeprefix(group).strip(" '"): row for name, row in rows.items() if name.startswith(group)
    }
    columns = {key: each for key, each in _MEASURED.items() if any(key in row for row in chosen.values())}
    shown = {"base, untrained": rows["base"], f"{usual} (default)": rows["defaults"], **chosen}
    lines = [
        (name, *(f"{row[key]:{form}}" if key in row else "" for key, (_, form) in columns.items()))
        for name, row in shown.items()
    ]
    return _table((heading, *(told for told, _ in columns.values())), lines)


def costs_table() -> str:
    """What a round of each way to sound like a reference costs at full size, a variant beside another."""
    rows = _result("style_costs")["rows"]
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    found = {(row["tool"], row["variant"]): row for row in rows}
    lines = []
    for tool in dict.fromkeys(row["tool"] for row in rows):
        each = [found[tool, variant] for variant in variants]
        cost = (f"{row['cpu_seconds']:.1f} s, {row['peak_gb']:.1f} GB" for row in each)
        kept = f"{each[0]['bytes'] / 1e6:.2f} MB" if each[0]["bytes"] else "the noise beside the sound"
        lines.append((tool, kept, *cost))
    return _table(("", f"file, {variants[0]}", *(f"`{variant}`" for variant in variants)), lines)


def styles_table() -> str:
    """What each way to sound like a reference did to the embedded model, beside its control; all seeds."""
    lora, inversion, steering = _result("lora"), _result("style_inversion"), _result("style_steering")
    vocoder, ditto = _result("style_vocoder"), _result("style_ditto")
    base = lora["rows"]["base"][0]

    def lesson(arm: str) -> str:
        loss = _change(row["loss"] / lora["base_loss"] for row in lora["rows"][arm])
        spectrum = _change(row["ltas_distance"] / base["ltas_distance"] for row in lora["rows"][arm])
        return f"loss {loss}, spectrum distance {spectrum}"

    def tokens(case: str) -> str:
        return f"loss {_change(1 + row[case]['percent'] / 100 for row in inversion['rows'])}"

    def steered(key: str) -> str:
        return _change(1 + row[key] for row in steering["rows"])

    def tuned(case: str) -> str:
        return f"mel distance {_change(1 + row[case]['percent'] / 100 for row in vocoder['rows'])}"

    def onsets(key: str) -> str:
        return _span((row[key] for row in ditto["rows"]), ".2f")

    found = _change(row["after"] / row["before"] for row in ditto["rows"])
    drawn = _change(row["best_random"] / row["before"] for row in ditto["rows"])
    noises = _span((row["random_noises"] for row in ditto["rows"]), "d")
    rows = [
        (
            "LoRA",
            f"{lora['material']}, never heard: {lora['train_clips']} clips, {lora['steps']} steps",
            lesson("lora"),
            f"clips of another material: {lesson('wrong_class')}",
        ),
        (
            "Textual inversion",
            f"{inversion['material']}, never heard: {inversion['train_clips']} clips, "
            f"{inversion['tokens']} words, {inversion['steps']} steps",
            tokens("token"),
            f"random words: {tokens('token_random')}; LoRA: {tokens('lora')}",
        ),
        (
            "Steering",
            f"{steering['played']} towards {steering['style']}, against {steering['contrast']}",
            f"spectrum distance {steered('change')}",
            f"reversed {steered('change_reversed')}; random directions {steered('change_random')}",
        ),
        (
            "Vocoder",
            f"a colour, from {vocoder['sounds']} sounds, {vocoder['steps']} steps",
            tuned("tuned"),
            f"endless pull to the start: {tuned('endless_pull')}",
        ),
        (
            "DITTO",
            f"{ditto['played']} towards {ditto['style']}",
            f"style loss {found}; onset F1 {onsets('onset_f1_after')}, was {onsets('onset_f1_before')}",
            f"best of {noises} random noises: {drawn}",
        ),
    ]
    return _table(("Tool", "Lesson", "On what it was not made from", "Beside it"), rows)


def _change(ratios: Iterable[float]) -> str:
    return f"{_span((100 * (ratio - 1) for ratio in ratios), '+.1f')} %"


def _span(values: Iterable[float], form: str) -> str:
    """Least to most; one number where they are told alike."""
    ordered = sorted(values)
    ends = dict.fromkeys((f"{ordered[0]:{form}}", f"{ordered[-1]:{form}}"))
    return " to ".join(ends)


def _result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_RESULTS / f"{name}.json").read_text())
    return found


def layers() -> str:
    """The import layers of pyproject.toml, topmost first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    found = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    lines = [re.sub(r"[()]", "", layer) for layer in found]
    return "\n".join(("```text", *lines, "```"))


def _commands(parent: App, prefix: str) -> dict[str, Callable[[], str]]:
    found: dict[str, Callable[[], str]] = {}
    for name in parent:
        if name.startswith("-"):
            continue
        command, path = parent[name], f"{prefix} {name}"
        found |= _commands(command, path)
        if command.default_command is not None and command_table(command):
            found[path] = partial(command_table, command)
    return found


def _published() -> list[WeightFile]:
    return [file for file in FILES.values() if not file.is_bundled]


def _file_names(files: Iterable[WeightFile]) -> str:
    names = [f"`{file.name}`" for file in files if not file.is_bundled]
    return ", ".join(names) or "inside the package"


def _bytes(file: WeightFile) -> float:
    """Of the download: exact where the table has it, else as reported."""
    if file.is_bundled:
        return 0.0
    number, unit = file.reported_size.split()
    return file.size_bytes or float(number) * _UNITS[unit]


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count else "none"


def _group(argument: Argument) -> str:
    """Heading under which the help shows a flag."""
    (group,) = cast(tuple[Group], argument.parameter.group)
    return group.name


def _flag(argument: Argument) -> str:
    is_many = argument.index is not None and typing.get_origin(argument.hint) is tuple
    first = f"{argument.names[0]}..." if is_many else argument.names[0]
    return ", ".join(f"`{name}`" for name in (first, *argument.names[1:]))


def _value(argument: Argument) -> str:
    choices = argument.get_choices()
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    kinds = _kinds(argument.hint)
    if kinds == {bool}:
        return ""
    name = next(
        word
        for kind, word in ((Path, "path"), (int, "whole number"), (float, "number"), (str, "text"))
        if kind in kinds
    )
    return f"{name}{_range(argument.field_info.hint)}"


def _kinds(hint: Any) -> set[Any]:
    """The plain types in a hint, without None."""
    inner = typing.get_args(hint) if isinstance(hint, types.UnionType) or typing.get_origin(hint) else (hint,)
    return {kind for kind in inner if kind not in (type(None), ...)}


def _range(hint: Any) -> str:
    limits = {type(limit): limit for limit in getattr(hint, "__metadata__", ())}
    if MaxLen in limits:
        return f", up to {limits[MaxLen].max_length} characters"
    low = limits[Ge].ge if Ge in limits else limits[Gt].gt if Gt in limits else None
    if low is None or not {Le, Lt} & limits.keys():
        return ""
    high = _number(limits[Le].le) if Le in limits else f"under {_number(limits[Lt].lt)}"
    return f", {_number(low)} to {high}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _default(argument: Argument) -> str:
    value = argument.field_info.default
    if argument.required:
        return "required"
    if isinstance(value, bool):
        return ("on" if value else "off") if argument.negatives else ""
    if value is None or value is argument.field_info.empty or value in ("", ()):
        return ""
    return f"`{_number(value) if isinstance(value, (int, float)) else value}`"


def _text(text: str | None) -> str:
    return (text or "").replace("|", r"\|")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "variants": variants_table,
    "files": files_table,
    "sources": sources_table,
    "layers": layers,
    "measured styles": styles_table,
    "measured costs of styles": costs_table,
    **{f"measured {group}": partial(settings_table, group) for group in _GROUPS},
    **_commands(app, "selva"),
}

if __name__ == "__main__":
    for page in PAGES:
        page.write_text(updated(page.read_text(encoding="utf-8")), encoding="utf-8")
