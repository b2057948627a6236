"""What the lesson of ``lora`` must show on every training seed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
_SPECTRA = ("ltas_distance", "mel_gram_distance")
_TIMING = "onset_f1_50ms"
_NEARER, _CLOSED, _RIGHT = 0.6, 0.6, 0.8


def bars(rows: Mapping[str, Sequence[Row]], real_diversity: float) -> dict[str, bool]:
    """Whether each bar holds on every seed; a bar whose arms were not all run is left out.

    Args:
        rows: arm -> its rows, one for each seed; "base" has one row, which is compared with all.
        real_diversity: of the recordings.
    """
    (base,) = rows["base"]

    def nearer(*keys: str) -> Callable[[Row, Row], bool]:
        return lambda row, _: all(row[key] <= _NEARER * base[key] for key in keys)

    def learned(row: Row, other: Row) -> bool:
        is_near = nearer(*_SPECTRA)(row, other)
        return is_near and row["gap_closed"] >= _CLOSED and row["material_accuracy"] >= _RIGHT

    def fails(row: Row, other: Row) -> bool:
        return not learned(row, other)

    def under_half(row: Row, other: Row) -> bool:
        return row["gap_closed"] < other["gap_closed"] / 2

    def share(least: float) -> Callable[[Row, Row], bool]:
        return lambda row, other: row["gap_closed"] >= least * other["gap_closed"]

    table: tuple[tuple[str, str, str, Callable[[Row, Row], bool]], ...] = (
        ("LoRA closes 60 % of the gap", "lora", "base", lambda row, _: row["gap_closed"] >= _CLOSED),
        ("LoRA closes 70 % of what full training does", "lora", "full", share(0.7)),
        ("long-term spectrum 40 % nearer", "lora", "base", nearer("ltas_distance")),
        ("mel Gram 40 % nearer", "lora", "base", nearer("mel_gram_distance")),
        ("material accuracy .8", "lora", "base", lambda row, _: row["material_accuracy"] >= _RIGHT),
        (
            "F1 at most .05 lower",
            "lora",
            "base",
            lambda row, _: row["onset_f1_50ms"] >= base["onset_f1_50ms"] - 0.05,
        ),
        ("copies under 10 % of the clips", "lora", "base", lambda row, _: row["copies"] < 0.1),
        (
            "diversity 60 % of the recordings'",
            "lora",
            "base",
            lambda row, _: row["clip_diversity"] >= 0.6 * real_diversity,
        ),
        (
            "preserve halves forgetting",
            "preserve",
            "lora",
            lambda row, other: row["forgetting"] <= other["forgetting"] / 2,
        ),
        ("preserve closes 90 % of what LoRA does", "preserve", "lora", share(0.9)),
        ("shuffled sounds close under half of what LoRA does", "shuffled", "lora", under_half),
        ("shuffled sounds fail", "shuffled", "base", fails),
        ("exchanged sounds close under half of what LoRA does", "exchanged", "lora", under_half),
        ("exchanged sounds fail", "exchanged", "base", fails),
        ("wrong class fails", "wrong_class", "base", fails),
    )
    found: dict[str, bool] = {}
    for bar, arm, beside, holds in table:
        if arm in rows and beside in rows:
            others = {row.get("seed"): row for row in rows[beside]}
            if beside == "base":
                others = dict.fromkeys((row["seed"] for row in rows[arm]), base)
            pairs = [(row, others[row["seed"]]) for row in rows[arm] if row["seed"] in others]
            if pairs:  # seeds that only one arm has so far tell nothing
                found[bar] = all(holds(row, other) for row, other in pairs)
    return found
