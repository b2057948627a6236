"""JSON files that say what is trained or compared: where it all is in ComfyUI's folders."""

from typing import TYPE_CHECKING

from ..errors import MissingFileError
from .folders import check_path, find, output_folder, reading_folders

if TYPE_CHECKING:
    from ..options import ComparisonOptions
    from ..options.sweep import SweepPlan


def find_sweep(typed: str) -> "SweepPlan":
    """The plan of ``experiments_file``: its data is looked for, its results go below the output folder.

    Raises:
        MissingFileError: no such file, or no such data.
        InputError: a file that is no plan, or folders that climb out.
    """
    from ..options.sweep import read_plan

    plan = read_plan(find(typed, "experiments_file", "models"), folders=reading_folders())
    check_path(plan.data_dir, "data_dir")
    return plan.model_copy(update={"output_root": str(output_folder(plan.output_root, "output_root"))})


def find_comparison(typed: str) -> "ComparisonOptions":
    """The plan of ``eval_file``: adapters and data are looked for, results go below the output folder.

    Raises:
        MissingFileError: no such file or data.
        InputError: a file that is no plan, or paths that climb out.
    """
    from ..tasks.evaluate_adapters import read_plan

    plan = read_plan(find(typed, "eval_file", "models"))
    adapters = tuple(each.model_copy(update={"path": _adapter(each.path, each.id)}) for each in plan.adapters)
    folders = {name: getattr(plan, name) for name in ("data_dir", "train_dir", "forgetting_dir")}
    found = {name: str(find(folder, name)) for name, folder in folders.items() if folder}
    output_dir = str(output_folder(plan.output_dir, "output_dir"))
    return plan.model_copy(update={"adapters": adapters, "output_dir": output_dir, **found})


def _adapter(path: str, owner: str) -> str:
    """Where an adapter is; one that is nowhere fails alone, when its turn comes."""
    if not path:
        return ""
    try:
        return str(find(path, f"path of {owner}", "base"))
    except MissingFileError:
        return path
