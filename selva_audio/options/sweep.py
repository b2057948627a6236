"""Plans of sweeps: several trainings on one data set, as a list, as a grid, or both.

Files of the public pack are plans too. One that uses no setting of ours means what it meant there, with the
defaults that it had there (``PACK_DEFAULTS``).
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from ..errors import InputError, MissingFileError, shown, unknown_name
from ..files import safe_name
from .base import Options
from .evaluate import ComparisonOptions
from .style import TextualInversionOptions, VocoderOptions
from .training import FitOptions, LoraOptions

Kind = Literal["lora", "ti", "vocoder"]
OPTIONS: dict[Kind, type[FitOptions]] = {
    "lora": LoraOptions,
    "ti": TextualInversionOptions,
    "vocoder": VocoderOptions,
}

# What the pack's trainer did where its file is silent.
PACK_DEFAULTS: dict[Kind, dict[str, Any]] = {
    "lora": {
        "steps": 2000,
        "rank": 16,
        "lr": 1e-4,
        "alpha": 0.0,
        "target": "attn.qkv",
        "batch_size": 4,
        "warmup_steps": 100,
        "grad_accum": 1,
        "save_every": 500,
        "seed": 42,
        "timestep_mode": "uniform",
        "logit_normal_sigma": 1.0,
        "curriculum_switch": 0.6,
        "lora_dropout": 0.0,
        "lora_plus_ratio": 1.0,
        "lr_schedule": "constant",
        "init_mode": "pissa",
        "use_rslora": True,
        "latent_mixup_alpha": 0.0,
        "latent_noise_sigma": 0.0,
    },
    "ti": {
        "space": "feature",
        "timestep_mode": "uniform",
        "lr_schedule": "constant",
        "n_tokens": 4,
        "lr": 2e-4,
        "steps": 3000,
        "batch_size": 4,
        "warmup_steps": 100,
        "seed": 42,
        "save_every": 1000,
        "init_text": "",
        "inject_mode": "suffix",
    },
    "vocoder": {
        "train_mode": "snake_alpha_only",
        "steps": 2000,
        "lr": 1e-4,
        "batch_size": 4,
        "segment_seconds": 2.0,
        "lambda_l2sp": 1e-3,
        "use_gafilter": True,
        "gafilter_kernel_size": 9,
        "lambda_phase": 1.0,
        "save_every": 500,
        "seed": 42,
        "discriminator_path": "",
        "lora_adapter": "",
    },
}
# Settings that name files whose content a result depends on.
PATHS = ("prior_dir", "lora_adapter", "discriminator_path")
FOLDERS: dict[Kind, str] = {"lora": "lora_sweeps", "ti": "ti_sweeps", "vocoder": "bigvgan_sweeps"}
# Files and folders of a sweep itself, beside those of its experiments.
RESERVED = ("experiment_summary.json", "comparison_curves.png", "skip_request.json", "skip_current.flag")
REPLACED = "replaced"
EVALUATION = "evaluation"
_FOLDERS = (REPLACED, EVALUATION, "prepared")
# Names that an evaluation gives to what is no experiment.
_EVALUATED = ("base", "reference")
_LONGEST_EVALUATED = 100

_OWN_KEYS = ("kind", "grid", "seeds", "eval", "on_error")
_TOLD = ("id", "description", "group")
_RESUME = "resume_path"
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Experiment:
    """One training of a sweep.

    Attributes:
        id: name of its folder.
        options: all settings of the training.
        description: free text.
        group: free text.
        resume: checkpoint to go on from, where the plan names one; else "".
    """

    id: str
    options: FitOptions
    description: str = ""
    group: str = ""
    resume: str = ""


def _of_comparison(name: str) -> Any:
    """A field of ``ComparisonOptions`` as it is declared there."""
    return ComparisonOptions.model_fields[name]


class SweepEvaluation(Options):
    """How base and results are compared when all experiments have ended."""

    data_dir: str = Field(
        default="", description="Data set with the reference clips; empty: that of the sweep."
    )
    split: Literal["", "train", "val"] = _of_comparison("split")
    max_clips: int = _of_comparison("max_clips")
    steps: int = _of_comparison("steps")
    cfg_strength: float = _of_comparison("cfg_strength")
    seed: int = _of_comparison("seed")
    takes: int = _of_comparison("takes")
    train_dir: str = _of_comparison("train_dir")
    forgetting_dir: str = _of_comparison("forgetting_dir")


class SweepPlan(Options):
    """What a sweep file says."""

    name: str = Field(default="", max_length=100, description="Name of the sweep; default: that of its file.")
    description: str = Field(default="", description="Free text.")
    kind: Kind = Field(default="lora", description="What is trained.")
    data_dir: str = Field(min_length=1, description="Folder of clips that all experiments are trained on.")
    output_root: str = Field(
        default="", description="Folder of the results; default: lora_sweeps/ and the name."
    )
    base: dict[str, Any] = Field(default={}, description="Settings of all experiments.")
    experiments: tuple[dict[str, Any], ...] = Field(
        default=(), description="Settings of each experiment, over those of base, and its id."
    )
    grid: dict[str, tuple[Any, ...]] = Field(
        default={}, description="Settings with several values: each experiment is run with all combinations."
    )
    seeds: tuple[int, ...] = Field(default=(), description="Seeds: all of the above is run with each.")
    eval: SweepEvaluation | None = Field(
        default=None, description="Compare the base and all results at the end, with these settings."
    )
    on_error: Literal["continue", "stop"] = Field(
        default="continue", description="What happens after an experiment that failed."
    )

    _source: str = PrivateAttr(default="")

    @model_validator(mode="before")
    @classmethod
    def _drop_remarks(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {key: value for key, value in values.items() if key != "group" and not _is_remark(key)}

    @property
    def is_of_pack(self) -> bool:
        """Whether nothing in it tells it from a file of the public pack."""
        return not self.model_fields_set & set(_OWN_KEYS)

    @property
    def source(self) -> str:
        """File that it was read from; "" if none."""
        return self._source

    @property
    def root(self) -> Path:
        """Folder of the results."""
        return Path(self.output_root or f"{FOLDERS[self.kind]}/{safe_name(self.name or 'sweep')}")


def read_plan(path: str | Path, *, folders: Sequence[Path] = (Path(),), kind: Kind = "lora") -> SweepPlan:
    """A plan from its file, with a name, and with paths that are found.

    Args:
        path: JSON file.
        folders: where a relative ``data_dir`` is looked for, in order, and last beside the file; a relative
            ``output_root`` is in the first of them.
        kind: what a file trains that does not tell, as those of the public pack.

    Raises:
        MissingFileError: no such file, or no such data.
        InputError: no JSON, unknown keys (with the nearest name), or values out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"There is no sweep file {path}. Give a .json file; `selva sweep schema` tells its form."
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not JSON: {error}. Correct it; `selva sweep schema` tells its form."
        ) from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds {shown(values)} where an object is needed. See `selva sweep schema`.")
    plan = parse_plan(values, source=str(path), kind=kind)
    name = plan.name or path.stem
    places = [folder / plan.data_dir for folder in (*folders, path.parent)]
    data_dir = next((place for place in places if place.is_dir()), None)
    if data_dir is None:
        looked = ", ".join(dict.fromkeys(str(place.absolute()) for place in places))
        raise MissingFileError(f"{path}: there is no folder {plan.data_dir}. Looked for: {looked}.")
    plan = plan.model_copy(update={"name": name, "data_dir": str(data_dir)})
    plan = plan.model_copy(update={"output_root": str(folders[0] / plan.root)})
    plan._source = str(path)
    return plan


def parse_plan(values: Mapping[str, Any], *, source: str = "The plan", kind: Kind = "lora") -> SweepPlan:
    """A plan from loose values; ``kind`` is that of one that does not tell.

    Raises:
        InputError: one sentence on what is wrong with it, beginning with ``source``.
    """
    try:
        evaluation = values.get("eval")
        if isinstance(evaluation, Mapping):
            known = {key: value for key, value in evaluation.items() if not _is_remark(key)}
            values = {**values, "eval": SweepEvaluation.parse(**known)}
        plan = SweepPlan.parse(**{"kind": kind, **values})
        if "kind" not in values:
            plan.model_fields_set.discard("kind")  # it still has the defaults of the pack
        experiments(plan)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except TypeError:
        raise InputError(f"{source}: a key is no text.") from None
    return plan


def experiments(plan: SweepPlan) -> tuple[Experiment, ...]:
    """All experiments of a plan, in order: each of the list, at each point of the grid, with each seed.

    Raises:
        InputError: none, too many, two of one id, an id that is no file name, unknown settings (with the
            nearest name), or settings out of range.
    """
    _check(plan)
    listed: Sequence[Mapping[str, Any]] = plan.experiments or ([{}] if plan.grid or plan.seeds else [])
    points = list(itertools.product(*plan.grid.values()))
    seeds = plan.seeds or (None,)
    count = len(listed) * len(points) * len(seeds)
    if not 0 < count <= _MOST:
        raise InputError(
            f"The plan has {count} experiments. Give at least one in experiments, grid or seeds"
            f"{f', and at most {_MOST}' if count else ''}."
        )
    found = [
        _experiment(plan, settings, dict(zip(plan.grid, point, strict=True)), seed)
        for settings in listed
        for point in points
        for seed in seeds
    ]
    taken: dict[str, str] = {}
    for each in found:
        key = each.id.casefold()
        if key in taken:
            raise InputError(
                f"Two experiments would be {each.id!r} and {taken[key]!r}. Give each an id of its own."
            )
        taken[key] = each.id
        if plan.eval is not None and (key in _EVALUATED or len(key) > _LONGEST_EVALUATED):
            raise InputError(
                f"With an evaluation, no experiment can be called {each.id!r}: "
                f"{' and '.join(_EVALUATED)} are names of its own, and a name has at most "
                f"{_LONGEST_EVALUATED} characters."
            )
    return tuple(found)


def plan_schema(kind: Kind = "lora") -> dict[str, Any]:
    """JSON Schema of sweep files of one kind, made of the options of the training."""
    options = OPTIONS[kind].model_json_schema()
    settings: dict[str, Any] = {
        **options["properties"],
        _RESUME: {"type": "string", "description": "Checkpoint to go on from."},
    }
    told = {key: {"type": "string"} for key in _TOLD[1:]}
    remarks: dict[str, Any] = {"^_": {}}
    schema = SweepPlan.model_json_schema()
    schema["properties"]["base"] |= {
        "properties": settings | told,
        "patternProperties": remarks,
        "additionalProperties": False,
    }
    schema["properties"]["experiments"]["items"] = {
        "type": "object",
        "properties": {"id": {"type": "string"}} | told | settings,
        "patternProperties": remarks,
        "additionalProperties": False,
        "required": ["id"],
    }
    schema["properties"]["grid"] |= {
        "properties": {
            key: {"type": "array", "minItems": 1, "items": each}
            for key, each in options["properties"].items()
        },
        "patternProperties": remarks,
        "additionalProperties": False,
    }
    schema["properties"]["group"] = {"type": "string"}
    schema["properties"]["kind"] = {"const": kind, "description": SweepPlan.model_fields["kind"].description}
    if kind == "lora":
        schema["properties"]["kind"]["default"] = kind
    else:
        del schema["properties"]["eval"]  # compares adapters
    schema["patternProperties"] = remarks
    if "$defs" in options:
        schema["$defs"] = options["$defs"] | schema.get("$defs", {})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _check(plan: SweepPlan) -> None:
    """Refuse what nobody could mean."""
    if plan.eval is not None and plan.kind != "lora":
        raise InputError(
            f"An evaluation compares adapters, and this sweep is of kind {plan.kind!r}. Leave it out."
        )
    known = (*OPTIONS[plan.kind].model_fields, _RESUME)
    for place, settings in _places(plan):
        for key in settings:
            if key not in known and key not in _TOLD[1:] and not _is_remark(key):
                raise InputError(f"In {place}: {unknown_name('setting', str(key), known)}")
    for key, values in plan.grid.items():
        if not values:
            raise InputError(f"The grid has no value for {key!r}. Give one at least.")
        if any(key in each for each in plan.experiments):
            raise InputError(f"{key!r} is in the grid and in an experiment. Leave it out of one of them.")
    if plan.seeds and any("seed" in settings for _, settings in _places(plan)):
        raise InputError("There are seeds, and a seed as well. Leave one of them out.")
    for place, given in (("seeds", plan.seeds), *plan.grid.items()):
        if len({json.dumps(value) for value in given}) < len(given):
            raise InputError(f"A value is twice in {place}: {shown(list(given))}. Leave one of them out.")


def _places(plan: SweepPlan) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every object that holds settings, and how to name it."""
    yield "base", plan.base
    yield "grid", plan.grid
    for number, each in enumerate(plan.experiments):
        name = each.get("id", f"number {number + 1}")
        yield f"experiment {name}", {key: value for key, value in each.items() if key != "id"}


def _experiment(
    plan: SweepPlan, listed: Mapping[str, Any], point: Mapping[str, Any], seed: int | None
) -> Experiment:
    varied = {key: value for key, value in point.items() if len(plan.grid[key]) > 1}
    parts = [_part(key, value) for key, value in varied.items()]
    if len(plan.seeds) > 1:
        parts.append(f"seed{seed}")
    name = listed.get("id")
    if plan.experiments and (not isinstance(name, str) or not name):
        raise InputError(f"An experiment has the id {shown(name)}. Each needs one of its own: a text.")
    own_id = "_".join([*([str(name)] if name else []), *parts]) or "run"
    _check_id(own_id)
    values = {**plan.base, **point, **listed} | ({} if seed is None else {"seed": seed})
    told = {key: str(values.get(key, "")) for key in _TOLD[1:]}
    settings = {key: value for key, value in values.items() if key not in _TOLD and not _is_remark(key)}
    resume = settings.pop(_RESUME, "")
    try:
        options = OPTIONS[plan.kind].parse(**_settings(plan, settings))
    except InputError as error:
        raise InputError(f"experiment {own_id}: {error}") from None
    return Experiment(own_id, options, told["description"], told["group"], str(resume or ""))


def _settings(plan: SweepPlan, settings: dict[str, Any]) -> dict[str, Any]:
    """The values of one experiment under our names, with the meaning that they have in their file."""
    if isinstance(settings.get("target"), list):
        settings = {**settings, "target": " ".join(map(str, settings["target"]))}
    if not plan.is_of_pack:
        return settings
    settings = PACK_DEFAULTS[plan.kind] | settings
    if plan.kind == "lora" and settings["alpha"] == 0 and isinstance(settings["rank"], int):
        settings["alpha"] = 2.0 * settings["rank"]
    return settings


def _check_id(name: str) -> None:
    if safe_name(name) != name or name.startswith("."):
        raise InputError(f"The id {shown(name)} cannot be a folder's name. Use letters, digits, '-' and '_'.")
    if name.casefold() in (*RESERVED, *_FOLDERS):
        raise InputError(f"The id {name!r} is a name that the sweep itself uses. Choose another.")


def _part(key: str, value: Any) -> str:
    """Piece of an id: ``rank8``, ``lr0.0001``, ``init_mode_pissa``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{key}{value:.12g}"
    text = value.lower() if isinstance(value, str) else json.dumps(value)
    return f"{key}_{safe_name(text.replace(' ', '-'))}"


def _is_remark(key: Any) -> bool:
    return isinstance(key, str) and key.startswith("_")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key!r} stands twice in one object")
        values[key] = value
    return values
