"""The demo: a drawn clip, the sound of each of its two objects, and a picture of what came out."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..bundle import load_model
from ..media.audio import read_audio_track
from ..media.encode import write_video
from ..options import FeatureOptions, GenerateOptions
from ..plots import save_figure, takes_figure
from ..progress import ProgressFn, ignore_progress, subtask
from ..scenes import bouncing_balls
from .generate import PLACEHOLDER_WARNING
from .run import run_video

_DURATION = 4.0


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo wrote; ``warning`` is empty when its sound means something."""

    clip: Path
    videos: tuple[Path, ...]
    picture: Path
    warning: str


def run_demo(folder: str | Path, *, seed: int = 0, on_progress: ProgressFn = ignore_progress) -> DemoResult:
    """Write ``clip.mp4``, one video with sound per object, and their spectrograms into ``folder``.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    scene = bouncing_balls(_DURATION)
    clip = write_video(scene.pixels, scene.fps, folder / "clip.mp4")
    model = load_model("demo_16k", device="cpu", precision="fp32")
    rate = model.config.sample_rate
    videos, rows = [], []
    with tempfile.TemporaryDirectory() as cache:
        for index, (name, impacts) in enumerate(scene.impacts.items()):
            video = folder / f"{name.replace(' ', '_')}.mp4"
            share = subtask(on_progress, index / len(scene.impacts), (index + 1) / len(scene.impacts))
            features = FeatureOptions(prompt=name, cache_dir=Path(cache))
            run_video(model, clip, video, features, GenerateOptions(seed=seed), on_progress=share)
            videos.append(video)
            sound = read_audio_track(video)
            assert sound is not None
            rate = sound.sample_rate
            rows.append((f"prompt: {name}", sound.waveform[0, 0], impacts.tolist()))
    picture = folder / "demo.png"
    title = "Sound per prompt; dashed: impacts in the picture"
    save_figure(takes_figure(rows, rate, title=title), picture)
    return DemoResult(clip, tuple(videos), picture, PLACEHOLDER_WARNING if model.placeholder else "")
