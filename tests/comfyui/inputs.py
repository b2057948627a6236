"""Files for the checks on a real ComfyUI: clips of every kind, a mask, recordings, data, adapters, styles."""

import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from comfyui.style_files import write_style
from small_generator import moved

from selva_audio.adapters import Adapter, write_adapter
from selva_audio.media.audio import write_audio
from selva_audio.media.encode import write_video
from selva_audio.options import FeatureOptions
from selva_audio.records import Audio
from selva_audio.scenes import FPS, SAMPLE_RATE, Scene, draw_frames, draw_scene, stem
from selva_audio.tasks.adapter import load_generator
from selva_audio.tasks.generate import extract_features, load_model

WORDS = "rubber ball"
CLIPS = {
    "16": (16, 64, 48),
    "24_portrait": (24, 54, 96),
    "25_odd": (25, 51, 37),
    "29.97_odd": (Fraction(30000, 1001), 97, 55),
    "60_portrait_odd": (60, 35, 53),
}
METADATA = {
    "title": "../../climbed",
    "comment": "/etc/passwd",
    "encoder": "C:\\\\CON",
    "filename": "../../x.mp4",
}


def write_inputs(base: Path, clip: Path | None) -> None:
    """A drawn clip, clips of other rates and sizes, one with paths in its tags, a mask, adapters."""
    folder = base / "input"
    if clip is None:
        scene = draw_scene(1, split="test", materials=("rubber", "metal"), num_objects=2, duration=4.0)
        write_video(draw_frames(scene, 256), FPS, folder / "clip.mp4")
    else:
        shutil.copy(clip, folder / "clip.mp4")
    for name, (rate, width, height) in CLIPS.items():
        write_bar(folder / f"{name}.mp4", Fraction(rate), width, height)
    write_bar(folder / "tagged.mp4", Fraction(24), 48, 36, METADATA)
    with av.open(str(folder / "mask.png"), "w", format="image2") as picture:
        stream = picture.add_stream("png")
        stream.width = stream.height = 64
        stream.pix_fmt = "rgb24"
        half = np.zeros((64, 64, 3), np.uint8)
        half[:, :32] = 255
        picture.mux(stream.encode(av.VideoFrame.from_ndarray(half, format="rgb24")))
    (folder / "recordings").mkdir()
    scenes = (draw_scene(number, split="train", duration=4.0) for number in range(100))
    scene = next(each for each in scenes if each.find("fan"))
    place = [each.material.name for each in scene.objects].index("fan")
    fan = torch.from_numpy(stem(scene, place)).float()[None, None]
    write_recording(folder / "recordings", "fan", scene, fan, "fan")
    too_loud = Audio((30 * fan).clamp(-1, 1), SAMPLE_RATE)
    write_audio(folder / "recordings" / "too_loud.wav", too_loud)
    write_clips(base / "output" / "lora_clips")
    write_style(load_model("demo_16k", device="cpu", precision="fp32"), base / "style")
    generator = load_generator("demo_16k")
    (base / "adapters").mkdir()
    for seed, name in enumerate(("one", "two")):
        made = moved(generator, seed=seed, amount=0.3)
        told = {
            **made.meta,
            "variant": "demo_16k",
            "clip_conditioning": "on",
            "resume_path": "../../etc/passwd",
        }
        write_adapter(base / "adapters" / f"{name}.pt", Adapter(made.deltas, told))


def write_clips(folder: Path) -> None:
    """A data set of four recordings, as SelVA Feature Extractor and a sound editor leave it."""
    for number in range(4):
        scene = draw_scene(number, split="train", materials=("rubber",), num_objects=1, duration=2.0)
        sound = torch.from_numpy(stem(scene, 0)).float()[None, None]
        write_recording(folder, f"ball{number}", scene, sound, WORDS)


def write_recording(folder: Path, name: str, scene: Scene, sound: torch.Tensor, words: str) -> None:
    """NAME_001.npz, features of the scene's picture, and NAME_001.wav."""
    model = load_model("demo_16k", device="cpu", precision="fp32")
    with tempfile.TemporaryDirectory() as place:
        clip = write_video(draw_frames(scene, 96), FPS, Path(place) / "clip.mp4")
        extract_features(model, clip, FeatureOptions(prompt=words, cache_dir=folder, name=name))
    write_audio(folder / f"{name}_001.wav", Audio(sound, SAMPLE_RATE))


def write_bar(
    path: Path, rate: Fraction, width: int, height: int, tags: dict[str, str] | None = None
) -> None:
    """A moving bar of 1.5 s; odd sizes stay odd."""
    with av.open(str(path), "w") as container:
        container.metadata.update(tags or {})
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        for index in range(round(1.5 * rate)):
            picture = np.zeros((height, width, 3), np.uint8)
            picture[:, : 1 + index * width // round(1.5 * rate)] = 180
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
