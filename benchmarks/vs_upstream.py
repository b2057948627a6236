"""``python -m benchmarks.vs_upstream --selva-dir DIR``: upstream's own modules and ours, in turn.

Both are in one process, its interpreter made of ``benchmarks/requirements.txt``. ``DIR`` is a checkout of
SelVA; nothing of it is in this repository. Both sides read the same weight files, made once by a rule in
``--work`` (7.6 GB).
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import torch  # noqa: E402

from selva_audio.configs import TRAINED_DURATION  # noqa: E402
from selva_audio.files import write_text  # noqa: E402
from selva_audio.runtime import describe_system  # noqa: E402

from .results import metadata  # noqa: E402
from .speed import files, fresh, launches, media, stages, training  # noqa: E402
from .speed.clips import write_clip  # noqa: E402
from .speed.ours import Ours  # noqa: E402
from .speed.report import lines  # noqa: E402
from .speed.upstream import NOTES, Upstream, open_checkout  # noqa: E402

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    """Measure, print the account, and write it."""
    asked = _arguments()
    asked.work.mkdir(parents=True, exist_ok=True)
    # Caches of models and digests are those of the benchmark, not the user's.
    os.environ["HF_HUB_CACHE"] = str(asked.work / "hub")
    os.environ["XDG_DATA_HOME"] = os.environ["XDG_CACHE_HOME"] = str(asked.work / "user")
    torch.set_num_threads(1)
    if asked.selva_dir is not None:
        open_checkout(asked.selva_dir)
    files.write_weights(asked.work)
    result = measure(asked)
    _keep(asked, result)
    print("\n".join(lines(result)))


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    result: dict[str, Any] = {
        "measured": metadata(),
        "device": device,
        "gpu": describe_system()["gpu_name"],
        "steps": stages.STEPS,
        "duration": asked.duration,
        "stages": {},
        "notes": list(NOTES) if asked.selva_dir else ["No --selva-dir was given: ours alone was measured."],
    }
    # First: a process shares what this one has mapped, and cannot let go of it.
    _measure_processes(asked, result)
    chosen = [name for name in stages.STAGES if name in asked.only]
    chosen += ["whole"] if "whole" in asked.only else []
    if chosen:
        _measure_stages(asked, chosen, device, result)
    if "launches" in asked.only:
        result["launches"] = _count_launches(asked, device)
        _say("launches", result["launches"])
        _keep(asked, result)
    for precision in asked.precision if "training" in asked.only else ():
        dtype = PRECISIONS[precision]
        upstream = Upstream(asked.work, device, dtype, TRAINED_DURATION) if asked.selva_dir else None
        row = training.measure_training(upstream, asked.work, dtype, repeats=asked.repeats or 2)
        result.setdefault("training", {})[precision] = row
        _say(f"{precision} training", row)
        _keep(asked, result)
    if "media" in asked.only:
        result["media"] = media.measure_media(asked.work, asked.video, asked.duration, asked.selva_dir)
        _say("media", result["media"])
        _keep(asked, result)
    return result


def _measure_stages(
    asked: argparse.Namespace, chosen: list[str], device: str, result: dict[str, Any]
) -> None:
    exact: dict[str, torch.Tensor] = {}
    inputs = None
    for precision in asked.precision:
        ours = Ours(asked.work, precision, device, asked.duration)
        theirs = (
            Upstream(asked.work, device, PRECISIONS[precision], asked.duration) if asked.selva_dir else None
        )
        inputs = inputs or stages.make_inputs(asked.work, next(iter(asked.video), None), asked.duration)
        rows = result["stages"].setdefault(precision, {})
        for name in chosen:
            # What is counted is the same in both; the last is the default of both sides.
            count = asked.count and precision == asked.precision[-1] and name != "whole"
            row = stages.measure(
                name, theirs, ours, inputs, exact, repeats=asked.repeats, count=count, profile=asked.profile
            )
            rows[name] = row
            _say(f"{precision} {name}", row)
            _keep(asked, result)
    if "fp32" not in asked.precision and asked.selva_dir:
        result["notes"].append("Errors are against upstream in bf16, because fp32 was not run.")


def _count_launches(asked: argparse.Namespace, device: str) -> dict[str, Any]:
    precision = asked.precision[-1]
    ours = Ours(asked.work, precision, device, asked.duration)
    upstream = None
    if asked.selva_dir:
        upstream = Upstream(asked.work, device, PRECISIONS[precision], asked.duration)
    inputs = stages.make_inputs(asked.work, next(iter(asked.video), None), asked.duration)
    return launches.measure_launches(upstream, ours, inputs)


def _measure_processes(asked: argparse.Namespace, result: dict[str, Any]) -> None:
    """Cold starts, peak memory and length."""
    rows: dict[str, Any] = {}
    short, usual = (write_clip(asked.work, seconds, still=True) for seconds in (1.2, 8.2))
    plan: list[tuple[str, str, Path, dict[str, Any]]] = []
    sides = ("upstream", "ours") if asked.selva_dir else ("ours",)
    if "cold_start" in asked.only:
        plan += [(f"{side}, 1 s, 1 step", side, short, {"steps": 1, "duration": 1.0}) for side in sides]
    if "memory" in asked.only:
        plan += [(f"{side}, 8 s", side, usual, {}) for side in sides]
    if "long" in asked.only:
        plan += [("ours, 64 s", "ours", write_clip(asked.work, 64.2, still=True), {"duration": 64.0})]
    for name, side, video, more in plan:
        if side == "ours" and name.endswith("step"):
            # Digests of weights are remembered from a first run on, and the page cache is warm.
            fresh.start(side, asked.work, video, **more)
        rows[name] = fresh.start(side, asked.work, video, checkout=asked.selva_dir, **more)
        _say(name, rows[name])
        result["processes"] = rows
        _keep(asked, result)


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    """The figures of the bars, as far as they were measured."""
    found: dict[str, Any] = {"end_to_end": {}}
    for precision, key in (("fp32", "fp32_ratio"), ("bf16", "default_ratio")):
        row = result["stages"].get(precision, {}).get("whole", {})
        if "ratio" in row:
            found["end_to_end"][key] = row["ratio"]
    rows = result["stages"].get("bf16") or result["stages"].get("fp32") or {}
    if "ratio" in rows.get("vocoder", {}):
        found["vocoder_ratio"] = rows["vocoder"]["ratio"]
    reading_and_writing = result.get("media", {}).get(media.CAMERA, {})
    if "ratio" in reading_and_writing:
        found["media_ratio"] = reading_and_writing["ratio"]
        found["media_memory_ratio"] = reading_and_writing["memory_ratio"]
    counted = [row for name, row in rows.items() if row.get("upstream", {}).get("launched")]
    if counted and len(counted) >= len(stages.STAGES) - 1:
        found["dispatch_ratio"] = round(
            sum(row["upstream"]["launched"] for row in counted)
            / sum(row["ours"]["launched"] for row in counted),
            2,
        )
    if "ratio" in result.get("launches", {}):
        found["launch_ratio"] = result["launches"]["ratio"]
    processes = {name: row for name, row in result.get("processes", {}).items() if "to_audio" in row}
    pair = [processes.get(f"{side}, 1 s, 1 step") for side in ("upstream", "ours")]
    if all(pair):
        found["cold_start_ratio"] = round(pair[0]["to_audio"] / pair[1]["to_audio"], 2)
    if "ours, 8 s" in processes:
        usual = processes["ours, 8 s"]
        found["peak_gb"] = usual["peak_gb"]
        if "ours, 64 s" in processes:
            long = processes["ours, 64 s"]
            found["long_cost"] = round(long["to_end"] / 8 / usual["to_end"], 3)
            found["long_memory"] = round(long["peak_gb"] / usual["peak_gb"], 3)
    rows = result.get("training", {})
    if "ratio" in rows.get("bf16", {}):
        found["training_ratio"] = rows["bf16"]["ratio"]
    if "gradients" in rows.get("fp32", {}):
        found["training_gradients"] = rows["fp32"]["gradients"]
    return found


def _keep(asked: argparse.Namespace, result: dict[str, Any]) -> None:
    """What is known so far, into the file: a whole run takes most of an hour."""
    result.update(_summary(result))
    if asked.json is not None:
        write_text(asked.json, json.dumps(result, indent=1) + "\n")


def _say(name: str, row: dict[str, Any]) -> None:
    print(f"{name}: {json.dumps(row)}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    known = [*stages.STAGES, "whole", "media", "cold_start", "memory", "long", "launches", "training"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--selva-dir", type=Path, help="checkout of SelVA; without it, ours alone")
    parser.add_argument("--work", type=Path, default=Path("speed_work"), help="weights and clips, kept")
    parser.add_argument(
        "--video",
        type=Path,
        nargs="+",
        default=[],
        help="your videos, cut or looped to the length: the first for the stages and the whole, "
        "all of them for media; default: drawn ones",
    )
    parser.add_argument("--only", nargs="+", choices=known, default=known)
    parser.add_argument("--precision", nargs="+", choices=list(PRECISIONS), default=list(PRECISIONS))
    parser.add_argument("--duration", type=float, default=TRAINED_DURATION, help="seconds; fewer are quicker")
    parser.add_argument("--profile", action="store_true", help="tell which of our operations take most")
    parser.add_argument("--no-count", dest="count", action="store_false", help="count no operations")
    parser.add_argument("--repeats", type=int, default=0, help="of each stage; 0: as suits it")
    parser.add_argument("--json", type=Path, help="file for the result")
    asked = parser.parse_args()
    asked.video = [video.absolute() for video in asked.video]
    for name in ("selva_dir", "work", "json"):
        if getattr(asked, name) is not None:
            setattr(asked, name, getattr(asked, name).absolute())
    return asked


if __name__ == "__main__":
    main()
