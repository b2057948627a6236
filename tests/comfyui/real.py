"""What only a real ComfyUI can show, run by hand: ``real.py --comfyui DIR --python PYTHON``.

Starts a checkout of ComfyUI on the CPU with a base directory of its own and this pack in it, and prints one
line per check. ``--vhs DIR`` adds a checkout of Video Helper Suite, whose nodes then run the workflow that
the public pack ships. ``--pictures DIR`` takes pictures of the example workflows after a run, in a headless
Chromium. Nothing of ComfyUI is part of this repository.
"""

import argparse
import asyncio
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[0] = str(ROOT / "tests")  # modules of tests are named from there

from browser import evaluate
from comfyui.inputs import CLIPS, WORDS, write_inputs
from comfyui.layouts import LAYOUTS, OPEN
from comfyui.server import Client, Refused, resident_mb, saved_videos, server, to_prompt

VIDEO_FILE = {
    "format": "video/h264-mp4",
    "pix_fmt": "yuv420p",
    "crf": 19,
    "save_metadata": True,
    "trim_to_audio": False,
    "save_output": True,
    "filename_prefix": "vhs/x",
    "loop_count": 0,
    "pingpong": False,
}
RECIPE = {"negative_prompt": "metal ball", "steps": 3, "cfg_strength": 3.5, "seed": 11}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def main_job(file: str = "clip.mp4", **sampling: Any) -> dict[str, Any]:
    """Loader, video, extractor, sampler: API form."""
    settings = {"prompt": "", "duration": 0.0, **RECIPE, **sampling}
    return {
        "model": node("SelvaModelLoader", variant="demo_16k", precision="fp32", offload_strategy="auto"),
        "video": node("LoadVideo", file=file),
        "features": node("SelvaFeatureExtractor", model=["model", 0], video=["video", 0], prompt=WORDS),
        "sound": node("SelvaSampler", model=["model", 0], features=["features", 0], **settings),
    }


def saved(prefix: str, sound: str = "sound", **settings: Any) -> dict[str, Any]:
    """A SelvaMux of the video and a sound."""
    usual = {"video": ["video", 0], "container": "mkv", "codec": "lossless"}
    return node("SelvaMux", **{**usual, "audio": [sound, 0], "filename_prefix": prefix, **settings})


async def examples(client: Client, base: Path) -> dict[str, Any]:
    """Must show 1: every example workflow; those with a video, from its file to a saved one with sound."""
    info, prompts = await client.get("/object_info"), {}
    for path in sorted((ROOT / "example_workflows").glob("*.json")):
        prompts[path.stem] = prompt = to_prompt(json.loads(path.read_text()), info)
        kinds = [each["class_type"] for each in prompt.values()]
        for each in prompt.values():
            each["inputs"] |= {"steps": 100} if each["class_type"] == "SelvaLoraTrainer" else {}
        history, seen = await client.run(prompt)
        told = "no video in it"
        if "LoadVideo" in kinds:
            (file,) = saved_videos(history)
            peak = np.abs(samples(place(base, file))).max()  # of AAC, so 1 is full scale
            assert peak > 0.1, (path.stem, peak)
            told = f"{check_length(base, file)}, peak {peak:.2f}"
            assert seen["progress"] > 5
            assert seen["pictures"] > 0
        print(f"{path.stem}: {seen['seconds']:.1f} s, {seen['progress']} progress events, "
              f"{seen['pictures']} live pictures, {told}")  # fmt: skip
    return prompts["selva_basic"]


async def cache_and_cancel(client: Client, basic: dict[str, Any]) -> None:
    """Must show 1: what runs again, and how soon a run stops."""
    sampler = next(key for key, each in basic.items() if each["class_type"] == "SelvaSampler")
    await client.run(basic)
    _, seen = await client.run(basic)
    assert seen["executed"] == []
    assert len(seen["cached"]) == len(basic)
    print(f"second run: all {len(basic)} nodes cached, {seen['seconds']:.2f} s")
    basic[sampler]["inputs"]["seed"] += 1
    _, seen = await client.run(basic)
    ran = [basic[each]["class_type"] for each in seen["executed"]]
    assert ran[0] == "SelvaSampler"
    assert not {"SelvaFeatureExtractor", "SelvaModelLoader"} & set(ran)
    print(f"another seed: only {', '.join(ran)} ran, {seen['seconds']:.1f} s")
    slow = json.loads(json.dumps(basic))
    slow[sampler]["inputs"]["steps"] = 200
    _, seen = await client.run(slow, cancel_at=300)
    assert 0 < seen["cancelled"] < 2
    print(f"interrupt: stopped after {seen['cancelled']:.2f} s")
    await client.run(basic)
    print("the run after an interrupt works")


async def memory(client: Client, basic: dict[str, Any], pid: int) -> None:
    """Must show 5: what twenty runs leave."""
    sampler = next(key for key, each in basic.items() if each["class_type"] == "SelvaSampler")
    resident = []
    for number in range(20):
        basic[sampler]["inputs"] |= {"seed": 100 + number, "steps": 5}
        await client.run(basic)
        resident.append(resident_mb(pid))
    ratio = resident[19] / resident[4]
    print(f"resident memory: {resident[4]} MB after run 5, {resident[19]} MB after run 20: {ratio:.3f}")
    assert ratio <= 1.05, resident


async def same_as_the_command_line(client: Client, base: Path, python: str) -> None:
    """Must show 2: the same recipe gives the same samples."""
    written = base / "command_line.mkv"
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in RECIPE.items()]
    command = [python, "-c", "from selva_audio.cli import main; main()", "generate"]
    command += [str(base / "input" / "clip.mp4"), "--output", str(written), "--prompt", WORDS, *flags]
    command += ["--variant=demo_16k", "--device=cpu", "--precision=fp32", "--codec=lossless"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    history, _ = await client.run({**main_job(), "save": saved("cli/node")})
    (file,) = saved_videos(history)
    mine, other = samples(written), samples(place(base, file))
    assert mine.shape == other.shape
    assert np.array_equal(mine, other)
    print(f"node and command line: {mine.shape[-1]} equal samples, peak {np.abs(mine / 2**31).max():.3f}")


async def every_rate_and_size(client: Client, base: Path) -> None:
    """Must show 3: sound as long as the picture, from pictures on a wire and from a file."""
    for name in CLIPS:
        fast = main_job(f"{name}.mp4", steps=1)
        fast["parts"] = node("GetVideoComponents", video=["video", 0])
        fast["features"]["inputs"] |= {"video": ["parts", 0], "fps": ["parts", 2]}
        fast["save"] = saved("rates/wire", video=["parts", 0], fps=["features", 1], container="mp4")
        foley = {"model": fast["model"], "video": fast["video"]}
        settings = {**RECIPE, "steps": 1, "prompt": WORDS}
        foley["foley"] = node("SelvaFoley", model=["model", 0], video=["video", 0], **settings)
        foley["save"] = node(
            "SaveVideo", video=["foley", 0], filename_prefix="rates/file", format="auto", codec="auto"
        )
        told = []
        for prompt in (fast, foley):
            history, _ = await client.run(prompt)
            (file,) = saved_videos(history)
            told.append(check_length(base, file))
        print(f"{name}: {'; '.join(told)}")


async def two_branches(client: Client, base: Path) -> None:
    """Must show 5: the base sounds the same before and after every node, in bits."""
    history, _ = await client.run({**main_job(), "save": saved("branches/before")})
    before = samples(place(base, saved_videos(history)[0]))
    job = main_job()
    sampling = job.pop("sound")["inputs"]
    job["one"] = node("SelvaLoraLoader", model=["model", 0], adapter_path="adapters/one.pt", strength=1.0)
    job["two"] = node("SelvaLoraLoader", model=["model", 0], adapter_path="adapters/two.pt", strength=-0.5)
    job["both"] = node("SelvaLoraLoader", model=["one", 0], adapter_path="adapters/two.pt", strength=0.5)
    job["vocoder"] = node("SelvaBigvganLoader", model=["model", 0], path="style/vocoder.pt")
    job["tokens"] = node("SelvaTextualInversionLoader", path="style/tokens.pt")
    job["vectors"] = node("SelvaActivationSteeringLoader", path="style/steering.pt")
    others = {name: {"model": [name, 0]} for name in ("one", "two", "both", "vocoder")}
    others["words"] = {"textual_inversion": ["tokens", 0], "ti_strength": 1.0}
    others["steered"] = {"steering_vectors": ["vectors", 0], "steering_strength": 1.0}
    for name, changed in others.items():
        job[f"{name} sound"] = node("SelvaSampler", **(sampling | changed))
        job[f"{name} save"] = saved(f"branches/{name}", f"{name} sound")
    tools = {
        "SelvaVaeRoundtrip": {"model": ["model", 0]},
        "SelvaHfSmoother": {"cutoff_hz": 4000.0, "blend": 0.7},
        "SelvaSpectralMatcher": {"mode": "16k", "strength": 0.8, "max_gain_db": 12.0},
        "SelvaHarmonicExciter": {"cutoff_hz": 3000.0, "drive": 2.0, "mix": 0.3},
        "SelvaOutputNormalizer": {"target_lufs": -20.0, "true_peak_dbtp": -1.0},
    }
    for name, settings in tools.items():
        job[name] = node(name, audio=["one sound", 0], **settings)
    search = {"n_opt_steps": 5, "opt_lr": 0.02, "n_ode_steps": 5, "n_grad_steps": 5, "style_weight": 0.1}
    search |= {"gram_weight": 0.0, "anchor_weight": 1.0, "reference_dir": "recordings"}
    job["search"] = node("SelvaDittoOptimizer", **sampling, **search)
    found = {"data_dir": "lora_clips", "output_path": "found.pt", "n_samples": 2, "seed": 1}
    job["find"] = node("SelvaActivationSteeringExtractor", model=["model", 0], **found)
    history, _ = await client.run(job)
    files = {file["filename"].split("_")[0]: place(base, file) for file in saved_videos(history)}
    different = {name: samples(path) for name, path in files.items()}
    assert set(different) == set(others)
    sounds = [before, *different.values()]
    assert not any(np.array_equal(a, b) for i, a in enumerate(sounds) for b in sounds[:i])
    history, seen = await client.run({**main_job(), "save": saved("branches/after")})
    assert "sound" in seen["executed"]
    assert "model" not in seen["executed"]
    assert np.array_equal(samples(place(base, saved_videos(history)[0])), before)
    print(f"two branches: base equal in bits after {len(job)} nodes with other adapters, styles and tools")


async def training(client: Client, base: Path) -> None:
    """Live losses, cancel within a step with the state kept, and a series of which one is skipped."""
    settings = {"rank": 4, "lr": 0.001, "sample_steps": 0, "val_fraction": 0.0, "data_dir": "lora_clips"}
    job = {"model": main_job()["model"]}
    job["train"] = node("SelvaLoraTrainer", model=["model", 0], output_dir="stopped", steps=2000, **settings)
    _, seen = await client.run(job, cancel_at=60)
    assert 0 < seen["cancelled"] < 2
    (kept,) = (base / "output" / "stopped").glob("adapter_cancelled_step*.pt")
    print(f"training: stopped after {seen['cancelled']:.2f} s, {seen['pictures']} live pictures, {kept.name}")
    plan = {
        "kind": "lora",
        "data_dir": "lora_clips",
        "base": {"rank": 2, "val_fraction": 0, "sample_steps": 0},
    }
    plan["experiments"] = [{"id": "long", "steps": 5000}, {"id": "short", "steps": 4}]
    (base / "models" / "plan.json").write_text(json.dumps(plan))
    job = {
        "model": job["model"],
        "all": node("SelvaLoraScheduler", model=["model", 0], experiments_file="plan.json"),
    }
    series = asyncio.create_task(client.run(job))
    log = base / "output" / "lora_sweeps" / "plan" / "long" / "metrics.jsonl"
    while not (log.is_file() and log.stat().st_size):
        await asyncio.sleep(0.2)
    async with client.http.post("/selva/skip", json={"experiments_file": "plan.json"}) as answer:
        assert answer.status == 200, await answer.text()
    history, _ = await series
    (text,) = history["outputs"]["all"]["text"]
    assert text.splitlines()[:2] == ["long: skipped", "short: done"], text
    print(f"series: {', '.join(text.splitlines()[:2])}")


async def old_layouts(client: Client, base: Path, chromium: str, *, with_vhs: bool) -> None:
    """Must show 6: every layout on the page of this server, and the public pack's wiring run."""
    script = OPEN % json.dumps([graph for graph, _, _ in LAYOUTS.values()])
    found = await asyncio.to_thread(evaluate, chromium, client.url, script, base / "profile", timeout=300)
    answers = dict(zip(LAYOUTS, json.loads(found), strict=True))
    for name, (_, kind, expected) in LAYOUTS.items():
        missing = [each for each in answers[name]["missing"] if with_vhs or not each.startswith("VHS_")]
        assert missing == [], (name, missing)
        (inputs,) = (
            each["inputs"] for each in answers[name]["prompt"].values() if each["class_type"] == kind
        )
        assert {key: inputs[key] for key in expected} == expected, name
    print(f"old layouts: {len(LAYOUTS)} open on the real page, each value on its widget")
    if not with_vhs:
        return
    prompt = answers["sampler, 11 values, newest"]["prompt"]
    set_here = {
        "SelvaModelLoader": {"variant": "demo_16k"},  # the weights of large_44k are not here
        "VHS_VideoCombine": VIDEO_FILE,  # their page gives the settings of a format, ours knows none
    }
    for each in prompt.values():
        each["inputs"] |= set_here.get(each["class_type"], {})
    history, _ = await client.run(prompt)
    (file,) = saved_videos(history)
    print(f"the public pack's wiring with VHS: {check_length(base, file)}")


def hostile_jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    """What was put where, and the prompt with it."""
    long, deep = "x" * 300, "/".join(["y" * 100] * 20)
    paths = ["../up", "a/../../up", "..\\up", "a\0b", long, deep, "CON", "nul.txt", "a/COM1", "what?"]
    job = main_job()
    for value in [*paths, "/etc/cron.d/x", "", "  "]:
        yield f"Mux.filename_prefix = {value[:30]!r}", {**job, "save": saved(value)}
    for value in [*paths, "/srv/../etc"]:
        changed = main_job()
        changed["features"]["inputs"]["cache_dir"] = value
        yield f"Extractor.cache_dir = {value[:30]!r}", changed
    for value in [*paths, "", "nowhere.pt", "/etc/passwd", "."]:
        load = node("SelvaLoraLoader", model=["model", 0], adapter_path=value, strength=1.0)
        use = {**job, "lora": load, "sound": node("SelvaSampler", **job["sound"]["inputs"])}
        use["sound"]["inputs"]["model"] = ["lora", 0]
        yield f"LoraLoader.adapter_path = {value[:30]!r}", use
    loaders = {"SelvaTextualInversionLoader": "textual_inversion", "SelvaBigvganLoader": "model"}
    for kind, socket in {**loaders, "SelvaActivationSteeringLoader": "steering_vectors"}.items():
        wires = {"model": ["model", 0]} if socket == "model" else {}
        for value in [*paths, "", "nowhere.pt", "/etc/passwd", "."]:
            sampling = {**job["sound"]["inputs"], socket: ["load", 0]}
            use = {"load": node(kind, path=value, **wires), "sound": node("SelvaSampler", **sampling)}
            yield f"{kind}.path = {value[:30]!r}", {**job, **use}
    numbers = [math.nan, math.inf, 1e300, -1e300, 10**30]
    for kind, inputs in {
        "features": ("fps", "duration", "mask_strength", "start"),
        "sound": ("duration", "steps", "cfg_strength", "seed", "target_lufs", "takes", "steering_strength"),
        "save": ("fps", "take", "original_gain_db", "duck_db", "bitrate_kbps"),
    }.items():
        for name in inputs:
            for value in numbers:
                changed = {**main_job(), "save": saved("hostile/x")}
                changed[kind]["inputs"][name] = value
                yield f"{changed[kind]['class_type']}.{name} = {value:g}", changed
    for name, value in {"name": long, "prompt": "x" * 100_000, "clip_conditioning": "rm -rf"}.items():
        changed = main_job()
        changed["features"]["inputs"][name] = value
        yield f"Extractor.{name} = {value[:30]!r}", changed
    for name in ("solver", "loudness"):
        changed = main_job()
        changed["sound"]["inputs"][name] = "../x"
        yield f"Sampler.{name} = '../x'", changed
    for name, value in {"variant": "../../etc", "precision": "fp64", "offload_strategy": "\0"}.items():
        changed = main_job()
        changed["model"]["inputs"][name] = value
        yield f"Loader.{name} = {value!r}", changed


async def hostile_values(client: Client, base: Path) -> None:
    """Must show 8: a sentence each, and no file made, changed or removed anywhere near."""
    await client.run(main_job())  # what follows fails after this, so its features are there already
    before, count = state(base), 0
    for what, prompt in hostile_jobs():
        try:
            await client.run(prompt)
        except Refused as refusal:
            sentence = str(refusal)
            assert 10 < len(sentence) < 700, (what, sentence)
            assert "Traceback" not in sentence, (what, sentence)
        else:
            raise AssertionError(f"{what} was taken")
        now = state(base)
        assert now == before, (what, sorted(set(now.items()) ^ set(before.items()))[:4])
        count += 1
    print(f"hostile values: {count} refused with a sentence, nothing touched")
    named = main_job()
    named["features"]["inputs"] |= {"cache_dir": "named", "name": "../../etc/dog\0"}
    await client.run(named)
    (feature_file,) = (base / "output" / "named").glob("*.npz")
    tagged = {**main_job("tagged.mp4", steps=1), "save": saved("tagged/x", container="auto")}
    history, _ = await client.run(tagged)
    made = sorted(path for path in set(state(base)) - set(before) if path.parent != feature_file.parent)
    assert {path.parent for path in made} <= {
        base / "output" / name for name in ("tagged", "selva/cache")
    } | {base / "temp"}, made
    assert saved_videos(history)[0]["subfolder"] == "tagged"
    print(f"a name that climbs became {feature_file.name}; paths in a video's tags had no effect")
    typed = main_job()
    typed["lora"] = node(
        "SelvaLoraLoader", model=["model", 0], adapter_path=str(base / "adapters" / "one.pt"), strength=1.0
    )
    typed["sound"]["inputs"]["model"] = ["lora", 0]
    await client.run(typed)
    print("an absolute path typed for reading works")


def state(base: Path) -> dict[Path, tuple[int, int]]:
    """Every file in and beside the base directory, but for previews, the server's own and the browser's."""
    own = ("server.log", "user", "profile", "temp")
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in base.parent.rglob("*")
        if path.is_file() and path.relative_to(base.parent).parts[1:2] not in [(name,) for name in own]
        and "custom_nodes" not in path.parts
    }  # fmt: skip


def place(base: Path, file: dict[str, str]) -> Path:
    return base / file["type"] / file["subfolder"] / file["filename"]


def samples(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=-1)


def check_length(base: Path, file: dict[str, str]) -> str:
    with av.open(str(place(base, file))) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        rate = picture.average_rate
        seconds = sum(1 for packet in container.demux(picture) if packet.size) / rate
        container.seek(0)
        length = sum(frame.samples for frame in container.decode(sound)) / sound.codec_context.sample_rate
        assert abs(length - seconds) <= 1 / rate, (file, length, float(seconds))
        size = f"{picture.width}x{picture.height}"
        return f"{size} at {float(rate):.5g} fps, picture {float(seconds):.3f} s, sound {length:.3f} s"


PICTURE = """(async (graph, offset) => {
  const until = async (ready) => { while (!ready()) await new Promise((go) => setTimeout(go, 100)); };
  await until(() => window.app?.graph && window.LiteGraph?.registered_node_types?.SelvaSampler);
  await new Promise((go) => setTimeout(go, 1500));
  await window.app.loadGraphData(graph);
  await new Promise((go) => setTimeout(go, 1000));
  const canvas = window.app.canvas;
  canvas.ds.scale = 1;
  const {left, top} = canvas.canvas.getBoundingClientRect();
  canvas.ds.offset = [offset[0] - left, offset[1] - top];
  canvas.setDirty(true, true);
  const done = new Promise((go) => {
    window.app.api.addEventListener("execution_success", () => go("done"));
    window.app.api.addEventListener("execution_error", (event) => go(event.detail.exception_message));
  });
  await window.app.queuePrompt(0);
  const refused = Object.values(window.app.lastNodeErrors ?? {});
  if (refused.length) return "refused: " + JSON.stringify(refused);
  const result = await done;
  const made = (node) => window.app.nodeOutputs?.[node.id]?.images ?? [];
  const pictured = (node) => made(node).some((each) => each.filename.endsWith("png"));
  const shown = () => window.app.graph._nodes.every((node) => !pictured(node) || node.imgs?.length) &&
    [...document.querySelectorAll("audio, video")].every((each) => each.readyState > 1);
  for (let wait = 0; wait < 300 && !shown(); wait++) await new Promise((go) => setTimeout(go, 200));
  await new Promise((go) => setTimeout(go, 3000));
  const covers = document.querySelectorAll(".minimap-main-container, .p-toast, .litegraph-minimap");
  covers.forEach((each) => each.remove());
  await new Promise((go) => setTimeout(go, 500));
  return result;
})(%s, %s)"""
# No dialog of the first start, and no tools of the page over the nodes.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Graph.CanvasMenu": False,
}
BARS, MARGIN = (60, 100), 30  # of the page, at its left and top; and around the nodes


async def pictures(client: Client, base: Path, chromium: str, folder: Path, only: str) -> None:
    """Must show 4: each example after a run, to be looked at; or the one whose name ends in ``only``."""
    folder.mkdir(parents=True, exist_ok=True)
    async with client.http.post("/settings", json=SETTINGS) as answer:
        assert answer.status == 200
    for path in sorted((ROOT / "example_workflows").glob(f"*{only}.json")):
        # A node whose result is kept would not show its text again.
        async with client.http.post("/free", json={"unload_models": True, "free_memory": True}) as answer:
            assert answer.status == 200
        nodes, target = json.loads(path.read_text())["nodes"], folder / f"{path.stem}.jpg"
        corner = [min(node["pos"][axis] for node in nodes) - MARGIN for axis in (0, 1)]
        corner[1] -= 60  # title and badge
        far = [max(node["pos"][axis] + node["size"][axis] for node in nodes) + MARGIN for axis in (0, 1)]
        offset = [bar - place for bar, place in zip(BARS, corner, strict=True)]
        width, height = (place + shift for place, shift in zip(far, offset, strict=True))
        result = await asyncio.to_thread(
            evaluate,
            chromium,
            client.url,
            PICTURE % (path.read_text(), json.dumps(offset)),
            base / "profile" / path.stem,
            timeout=300,
            picture=target,
            size=(width, height),
            part=BARS,
        )
        assert result == "done", f"{path.stem}: {result}"
        print(f"{path.stem}: {target.name}, {target.stat().st_size // 1000} kB")


async def checks(arguments: argparse.Namespace, url: str, pid: int, base: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    async with Client(url) as client:
        if arguments.pictures:
            assert chromium, "pictures need a Chromium"
            await pictures(client, base, chromium, arguments.pictures, arguments.only)
            return
        basic = main_job()
        if arguments.only in ("", "examples"):
            basic = await examples(client, base)
            await cache_and_cancel(client, basic)
        if arguments.only in ("", "sound"):
            await same_as_the_command_line(client, base, arguments.python)
            await every_rate_and_size(client, base)
            await two_branches(client, base)
        if arguments.only in ("", "training"):
            await training(client, base)
        if arguments.only in ("", "layouts"):
            assert chromium, "old layouts need a Chromium"
            await old_layouts(client, base, chromium, with_vhs=arguments.vhs is not None)
        if arguments.only in ("", "hostile"):
            await hostile_values(client, base)
        if arguments.only in ("", "memory"):
            await memory(client, basic, pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", required=True, type=Path, help="checkout, 0.3.64 or newer")
    parser.add_argument("--python", required=True, help="its Python")
    parser.add_argument("--clip", type=Path, help="video for Load Video; default: a drawn one")
    parser.add_argument("--vhs", type=Path, help="checkout of Video Helper Suite")
    parser.add_argument("--pictures", type=Path, help="only take pictures of the example workflows, into DIR")
    parser.add_argument(
        "--only",
        default="",
        help="examples, sound, training, layouts, hostile or memory; with --pictures, one example",
    )
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the server and of the command line: one sum, one sound
    packs = [arguments.vhs] if arguments.vhs else []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        base.mkdir()
        with server(arguments.comfyui, arguments.python, base, *packs) as (url, pid):
            write_inputs(base, arguments.clip)
            asyncio.run(checks(arguments, url, pid, base))


if __name__ == "__main__":
    main()
