"""``selva sweep``: several trainings from one file."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from .console import print_json, progress_bar, say, show
from .settings import MODEL, ModelSettings

Json = Annotated[bool, Parameter(negative=(), help="Result as JSON on stdout.")]
Root = Annotated[Path, Parameter(help="Folder of the sweep: its output_root.")]

sweep = App(name="sweep", help="Run several trainings from one file, and compare them.")


@sweep.command
def run(
    plan: Annotated[Path, Parameter(help="JSON file: data_dir, base, experiments, grid, seeds.")],
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative=(), help="Show the experiments, and train nothing.")] = False,
    engine: Annotated[
        Literal["local", "ray"],
        Parameter(help="Train one after another here, or on the Ray cluster that RAY_ADDRESS names."),
    ] = "local",
    again: Annotated[
        bool, Parameter(negative=(), help="Take up experiments that were skipped in an earlier run.")
    ] = False,
    model: ModelSettings = MODEL,
    json: Json = False,
) -> int:
    """Train every experiment of a plan that is not done yet."""
    from ..options.sweep import experiments, read_plan

    found = read_plan(plan)
    if found.is_of_pack:
        say(
            "NOTE: The file has no `kind`, so that it has the defaults of the public pack: PiSSA, rsLoRA, "
            "attn.qkv."
        )
    if dry_run:
        planned = experiments(found)
        rows = [{"id": each.id, "config": each.options.model_dump(mode="json")} for each in planned]
        if json:
            print_json(
                {
                    "name": found.name,
                    "data_dir": found.data_dir,
                    "output_root": str(found.root),
                    "experiments": rows,
                }
            )
        else:
            for line in _differences(rows):
                show(line)
        say(f"{len(rows)} experiments on {found.data_dir} into {found.root}; nothing was trained.")
        return 0
    from ..tasks.generate import load_model
    from ..tasks.sweep import run_sweep

    settings = {**model.model_dump(), "models_dir": model.models_dir and model.models_dir.absolute()}
    with progress_bar("Loading") as on_progress:
        bundle = load_model(**settings, on_progress=on_progress)
    with progress_bar("Sweep") as on_progress:
        result = run_sweep(
            bundle,
            found,
            engine=engine,
            load=partial(load_model, **settings),
            again=again,
            on_progress=on_progress,
        )
    for note in result.notes:
        say(f"NOTE: {note}")
    failed = _tell(result.summary, json)
    say(f"Wrote {result.summary_path}")
    return 1 if failed else 0


@sweep.command
def skip(
    root: Root,
    /,
    *,
    experiment: Annotated[
        str | None, Parameter(help="Only if this one runs; default: the one that runs.")
    ] = None,
) -> int:
    """Have a running sweep leave the present experiment and go on with the next."""
    from ..tasks.sweep import skip_experiment

    skip_experiment(root, experiment)
    say(f"Asked the sweep in {root} to skip {experiment or 'what it runs'}; its state is saved.")
    return 0


@sweep.command
def status(root: Root, /, *, json: Json = False) -> int:
    """Tell what became of each experiment, and whether the sweep runs now."""
    from ..tasks.sweep import sweep_status

    found = sweep_status(root)
    _tell(found, json)
    say(f"The sweep {'runs' if found['running'] else 'does not run'} now.")
    return 0


@sweep.command
def schema(
    *, kind: Annotated[Literal["lora", "ti", "vocoder"], Parameter(help="What the files train.")] = "lora"
) -> int:
    """Print the JSON Schema of sweep files."""
    from ..options.sweep import plan_schema

    print_json(plan_schema(kind))
    return 0


def _tell(summary: Any, json: bool) -> int:
    """One line for each experiment; returns how many failed."""
    records = summary["experiments"]
    if json:
        print_json(summary)
    else:
        for record in records:
            loss = record.get("final_loss")
            told = [f"{record.get('steps', 0)} steps"] + ([f"loss {loss:.4f}"] if loss is not None else [])
            show(f"{record['id']}: {record['status']}, {', '.join(told)}")
        for name in summary["pending"]:
            show(f"{name}: pending")
    failed = [record for record in records if record["status"] == "failed"]
    for record in failed:
        say(f"Failed: {record['id']}: {record['error']}")
    return len(failed)


def _differences(rows: list[dict[str, Any]]) -> list[str]:
    """The experiments, each with the settings in which they differ, after those that all share."""
    first = rows[0]["config"]
    varied = [key for key in first if any(row["config"][key] != first[key] for row in rows)]
    shared = ", ".join(f"{key} {value}" for key, value in first.items() if key not in varied)
    lines = [f"all: {shared}"]
    for row in rows:
        own = ", ".join(f"{key} {row['config'][key]}" for key in varied)
        lines.append(f"{row['id']}: {own}" if own else row["id"])
    return lines
