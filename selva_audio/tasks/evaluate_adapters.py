"""Adapters beside each other and beside the base: the same clips, the same noise, the metrics of each.

Everything lies in one folder: ``reference/CLIP.wav``, ``ID/CLIP.wav`` for each adapter,
``eval_summary.json``, ``metric_comparison.png``. What a number means is left to ``evaluation``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle import SelVAModel
from ..errors import InputError, MissingFileError, os_error_sentence
from ..evaluation.adapter_figure import comparison_figure
from ..evaluation.table import differences
from ..options import ComparisonOptions
from ..plots import save_figure
from ..progress import ProgressFn, ignore_progress, subtask
from .comparison_bench import Bench, Result, adapter_row, now
from .evaluate_folder import write_report

SUMMARY, FIGURE = "eval_summary.json", "metric_comparison.png"
_MAX_BYTES = 2**24
_READING_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out.

    Attributes:
        summary: the content of ``eval_summary.json``.
        summary_path: the file.
        figure_path: picture of the numbers; None where nothing could be compared.
        failures: a sentence for each clip and adapter that failed.
    """

    summary: dict[str, Any]
    summary_path: Path
    figure_path: Path | None
    failures: tuple[str, ...]


def read_plan(path: str | Path) -> ComparisonOptions:
    """A comparison from its JSON file.

    What it reads may be given relative to the current folder or to that of the file; what it writes, to the
    current folder.

    Raises:
        MissingFileError: no such file.
        InputError: no JSON, an unknown key, or a value out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}. Give a JSON file that lists the adapters.")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than {_MAX_BYTES >> 20} MB; that is no list of adapters.")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(os_error_sentence(error)) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({error}). Correct it and try again.") from error
    plan = ComparisonOptions.read(content)

    def found(text: str) -> str:
        beside = path.parent / text
        return str(beside) if text and not Path(text).exists() and beside.exists() else text

    return plan.model_copy(
        update={
            "name": plan.name or path.stem,
            "adapters": tuple(each.model_copy(update={"path": found(each.path)}) for each in plan.adapters),
            **{name: found(getattr(plan, name)) for name in ("data_dir", "train_dir", "forgetting_dir")},
        }
    )


def evaluate_adapters(
    model: SelVAModel, plan: ComparisonOptions, *, on_progress: ProgressFn = ignore_progress
) -> Comparison:
    """Make the sound of the same clips with each adapter, and measure them.

    One adapter or clip that fails does not stop the rest: it is listed with its reason. The summary on disk
    is whole at any moment, and names what is still running.

    Args:
        model: bundle of ``load_model``; the base of the comparison, with whatever is in it.
        plan: of ``read_plan``, or made in the program.
        on_progress: one bar over all sounds; cancels by raising.

    Raises:
        MissingFileError: no data set, or no clip with features in it.
        InputError: a data set that cannot be read.
        OutputError: the folder cannot be written.
    """
    bench = Bench(model, plan, Path(plan.output_dir))
    bench.read(subtask(on_progress, 0, _READING_SHARE))
    summary = bench.summary()
    path = bench.folder / SUMMARY
    rows: list[dict[str, Any]] = summary["adapters"]
    write_report(summary, path)
    results: list[Result] = []
    for number, candidate in enumerate(plan.adapters):
        first, last = (
            _READING_SHARE + (1 - _READING_SHARE) * place / len(plan.adapters)
            for place in (number, number + 1)
        )
        rows.append(adapter_row(candidate, {"status": "running"}))
        write_report(summary, path)
        result = bench.run(candidate, subtask(on_progress, first, last))
        results.append(result)
        rows[-1] = result.row
        _compare_with_base(results)
        write_report(summary, path)
    summary["completed_at"] = now()
    write_report(summary, path)
    figure = comparison_figure(summary)
    shown = None if figure is None else save_figure(figure, bench.folder / FIGURE)
    return Comparison(summary, path, shown, tuple(_failures(summary)))


def _compare_with_base(results: Sequence[Result]) -> None:
    """Put differences from the base into the newest row, or into all rows where the base is the newest."""
    base = next((each for each in results if not each.row["path"] and each.metrics), None)
    if base is None:
        return
    for result in results if results[-1] is base else results[-1:]:
        if result is not base:
            result.row["versus_base"] = differences(result.metrics, base.metrics)


def _failures(summary: Mapping[str, Any]) -> list[str]:
    told = [f"{row['clip']}: {row['error']}" for row in summary["reference_clips"] if "error" in row]
    for adapter in summary["adapters"]:
        if adapter["status"] == "failed":
            told.append(f"{adapter['id']}: {adapter['error']}")
            continue
        told += [
            f"{adapter['id']}, {row['clip']}: {row['error']}" for row in adapter["clips"] if "error" in row
        ]
    return told
