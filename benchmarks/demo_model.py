"""``python -m benchmarks.demo_model``: the full selectivity table of the embedded model.

64 test scenes with three generation seeds and all controls (about 25 minutes on one core); then, over fewer
scenes, what precision, steps and guidance cost and give; and the time for 8 seconds of sound.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from selva_audio.bundle import load_model
from selva_audio.media.encode import write_video
from selva_audio.options import FeatureOptions, GenerateOptions, SelectivityOptions
from selva_audio.scenes import FPS, draw_frames, draw_scene, prompt
from selva_audio.tasks.evaluate import evaluate_selectivity
from selva_audio.tasks.run import run_video
from selva_audio.weights.places import BUNDLED

from .results import say_progress, write_result

_DEFAULTS = GenerateOptions()
_PRECISIONS = ("bf16", "fp32")
_STEPS = (8, 16, 25)
_GUIDANCE = (1.0, 2.0, 3.0, 4.5, 6.0)


def main() -> None:
    """Measure what was asked for; all of it by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--seeds", default="0,1,2", help="generation seeds")
    parser.add_argument(
        "--setting-scenes", type=int, default=12, help="scenes per row of the table of settings"
    )
    parser.add_argument("--only", choices=("selectivity", "settings"), help="one of the two tables")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.only != "settings":
        options = SelectivityOptions(scenes=arguments.scenes, seed=0, generation_seeds=arguments.seeds)
        model = load_model("demo_16k", device="cpu")
        result = evaluate_selectivity(model, options, on_progress=say_progress("selectivity"))
        write_result("demo_selectivity", {key: value for key, value in result.items() if key != "clips"})
    if arguments.only != "selectivity":
        write_result("demo_settings", settings(arguments.setting_scenes))


def settings(num_scenes: int) -> dict[str, Any]:
    """Scores and CPU seconds per 8 s clip of each precision, number of steps and guidance."""
    choices = [(precision, _DEFAULTS.steps, _DEFAULTS.cfg_strength) for precision in _PRECISIONS]
    choices += [(_PRECISIONS[0], steps, _DEFAULTS.cfg_strength) for steps in _STEPS]
    choices += [(_PRECISIONS[0], _DEFAULTS.steps, guidance) for guidance in _GUIDANCE]
    rows = []
    for precision, steps, guidance in dict.fromkeys(choices):
        model = load_model("demo_16k", device="cpu", precision=precision)
        options = SelectivityOptions(scenes=num_scenes, steps=steps, cfg_strength=guidance, controls=False)
        scores = evaluate_selectivity(
            model, options, on_progress=say_progress(f"{precision} {steps} {guidance}")
        )
        row = {"precision": precision, "steps": steps, "cfg_strength": guidance}
        row |= {"cpu_seconds": cpu_seconds(precision, steps, guidance)}
        rows.append(row | {key: scores[key] for key in scores["worst"]})
    size = sum(path.stat().st_size for path in BUNDLED.glob("*.safetensors"))
    return {"scenes": num_scenes, "rows": rows, "bytes": size}


def cpu_seconds(precision: str, steps: int, guidance: float, repeats: int = 3) -> float:
    """CPU seconds from a video of 8 s to the video with sound, models loaded; the least of a few runs."""
    model = load_model("demo_16k", device="cpu", precision=precision)
    scene = draw_scene(0, split="test", num_objects=2)
    word = prompt(scene.objects[0].material.name)
    spent = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = write_video(draw_frames(scene, 128), FPS, folder / "clip.mp4")
        for number in range(repeats + 1):
            features = FeatureOptions(prompt=word, cache_dir=folder / f"cache{number}")
            options = GenerateOptions(steps=steps, cfg_strength=guidance, seed=number)
            started = time.process_time()
            run_video(model, clip, folder / "result.mp4", features, options)
            spent.append(time.process_time() - started)
    return round(min(spent[1:]), 2)


if __name__ == "__main__":
    main()
