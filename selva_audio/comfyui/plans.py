"""JSON files that say what is trained or compared: where it all is in ComfyUI's folders."""

import contextlib
from typing import TYPE_CHECKING, Any

from ..errors import InputError, MissingFileError
from .folders import Place, check_path, find, output_folder, reading_folders

if TYPE_CHECKING:
    from ..options import ComparisonOptions
    from ..options.sweep import Kind, SweepPlan

SCHEDULERS = {
    "lora": "SelVA LoRA Scheduler",
    "ti": "SelVA TI Scheduler",
    "vocoder": "SelVA BigVGAN Scheduler",
}
# Settings that are paths, and where a relative one is meant to be.
_FILES: dict[str, Place] = {
    "resume_path": "here",
    "prior_dir": "here",
    "lora_adapter": "base",
    "discriminator_path": "output",
}


def find_sweep(typed: str, kind: "Kind" = "lora") -> "SweepPlan":
    """The plan of ``experiments_file``: its data is looked for, its results go below the output folder.

    Args:
        typed: path of the file.
        kind: what is trained; a file that does not tell, as those of the public pack, is of it.

    Raises:
        MissingFileError: no such file, or no such data.
        InputError: a file that is no plan or one of another kind, or paths that climb out.
    """
    from ..options.sweep import read_plan

    place = find(typed, "experiments_file", "models")
    plan = read_plan(place, folders=reading_folders(), kind=kind)
    if plan.kind != kind:
        raise InputError(
            f"{place.name} says that it trains {plan.kind!r}, and this node trains {kind!r}. "
            f"Use {SCHEDULERS[plan.kind]}, or correct its kind."
        )
    check_path(plan.data_dir, "data_dir")
    changed: dict[str, Any] = {
        "output_root": str(output_folder(plan.output_root, "output_root")),
        "base": _found(plan.base),
        "experiments": tuple(map(_found, plan.experiments)),
    }
    if plan.grid:  # its presence tells a plan of ours from one of the public pack
        changed["grid"] = {
            name: tuple(_found({name: each})[name] for each in values) for name, values in plan.grid.items()
        }
    return plan.model_copy(update=changed)


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


def _found(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of trainings whose files are looked for; one that is nowhere fails alone, in its turn."""
    found = dict(settings)
    for name, place in _FILES.items():
        typed = settings.get(name)
        if isinstance(typed, str) and typed.strip():
            with contextlib.suppress(MissingFileError):
                found[name] = str(find(typed, name, place))
    return found


def _adapter(path: str, owner: str) -> str:
    """Where an adapter is; one that is nowhere fails alone, when its turn comes."""
    if not path:
        return ""
    try:
        return str(find(path, f"path of {owner}", "base"))
    except MissingFileError:
        return path
