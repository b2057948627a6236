"""``python -m benchmarks.style_sampling``: what steering vectors and DITTO do to the embedded model.

Clips of drawn scenes; spectra are compared with the true sounds of a material that is not the prompted one.
Every number has its control: random vectors of equal length, the best of as many random noises as the search
could have looked at. About a quarter of an hour on one core; ``--only`` does one half.
"""

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selva_audio.bundle import SelVAModel, load_model
from selva_audio.dataset.sounds import load_sounds
from selva_audio.evaluation.onsets import detect_onsets, match_onsets, total
from selva_audio.evaluation.sounds import level
from selva_audio.evaluation.spectra import long_term_spectrum, ltas_distance
from selva_audio.features import VideoFeatures, save_features
from selva_audio.flow import latent_noise
from selva_audio.flow.steering import Steering, SteeringVectors
from selva_audio.media.audio import write_audio
from selva_audio.options import (
    DittoOptions,
    FeatureOptions,
    GenerateOptions,
    SteeringExtractionOptions,
    SteeringOptions,
)
from selva_audio.records import Audio, Frames
from selva_audio.scenes import FPS, SAMPLE_RATE, draw_frames, draw_scene, prompt, stem
from selva_audio.tasks.ditto import ditto
from selva_audio.tasks.generate import extract_features, generate
from selva_audio.tasks.steer import extract_steering
from selva_audio.tasks.style import with_steering
from selva_audio.training.ditto import StyleSampler

from .results import write_result

# The played material is one that the generator never heard: its sound is undecided, and can go either way.
STYLE, CONTRAST, PLAYED = "metal", "wood", "glass"
STRENGTHS = (0.05, 0.1, 0.2)  # above these, random vectors decide the sound too
NEAR, WIDE = 0.05, 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One scene of two objects with the prompt for one of them.

    Attributes:
        features: of its video.
        sound: (L,) true sound of that object.
        onsets: seconds of its impacts.
    """

    features: VideoFeatures
    sound: np.ndarray
    onsets: np.ndarray


def main() -> None:
    """Measure what was asked for; both by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--clips", type=int, default=24, help="held-out clips of steering")
    parser.add_argument("--steps", type=int, default=25, help="solver steps of steered sounds")
    parser.add_argument("--duration", type=float, default=4.0, help="seconds of every clip")
    parser.add_argument("--only", choices=("steering", "ditto"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    model = load_model("demo_16k", device="cpu", precision="fp32")
    if arguments.only != "ditto":
        write_result("style_steering", steering(model, seeds, arguments))
    if arguments.only != "steering":
        write_result("style_ditto", noise(model, seeds, arguments.duration))


def steering(model: SelVAModel, seeds: Sequence[int], settings: argparse.Namespace) -> dict[str, Any]:
    """Spectrum distance of steered clips to the style, at the strength that is best on train clips."""
    rows = [_steering_row(model, seed, settings) for seed in seeds]
    return {
        "style": STYLE,
        "contrast": CONTRAST,
        "played": PLAYED,
        "clips": settings.clips,
        "steps": settings.steps,
        "duration": settings.duration,
        "strengths": list(STRENGTHS),
        "rows": rows,
        "holds": all(
            row["change"] <= -0.1 and row["change_reversed"] > 0 and abs(row["change_random"]) <= 0.05
            for row in rows
        ),
    }


def _steering_row(model: SelVAModel, seed: int, settings: argparse.Namespace) -> dict[str, Any]:
    seconds = settings.duration
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = {}
        for material in (STYLE, CONTRAST):
            sets[material] = list(clips(model, material, "train", 8, 100 * seed, seconds))
            write_set(folder / material, sets[material])
        file = folder / "vectors.pt"
        options = SteeringExtractionOptions(n_samples=8, seed=seed)
        report = extract_steering(model, folder / STYLE, file, options, contrast_dir=folder / CONTRAST)
        steered = with_steering(model, file).inputs.steering
        assert isinstance(steered, Steering)
        vectors = steered.vectors
    style = spectra(clip.sound for clip in sets[STYLE])
    train = list(clips(model, PLAYED, "train", 3, 100 * seed, seconds))
    held = list(clips(model, PLAYED, "test", settings.clips, 100 * seed, seconds))

    def distance(over: Sequence[Clip], found: SteeringVectors | None, strength: float) -> float:
        used = model
        if found is not None:
            chosen = SteeringOptions(steering_strength=strength)
            used = model.with_inputs(steering=Steering(found, chosen))
        made = [sound_of(used, clip, seed, settings.steps) for clip in over]
        return ltas_distance(spectra(made), style)

    on_train = {strength: distance(train, vectors, strength) for strength in STRENGTHS}
    best = min(on_train, key=lambda strength: on_train[strength])
    base = distance(held, None, 0.0)
    row = {
        "seed": seed,
        "strength": best,
        "train": {str(strength): round(value, 3) for strength, value in on_train.items()},
        "base": round(base, 3),
        "steered": round(distance(held, vectors, best), 3),
        "reversed": round(distance(held, vectors, -best), 3),
        "random": round(distance(held, equal_norm(vectors, seed), best), 3),
        "consistency": {path: round(each["consistency"], 3) for path, each in report["report"].items()},
    }
    for key in ("steered", "reversed", "random"):
        row["change" if key == "steered" else f"change_{key}"] = round(row[key] / base - 1, 4)
    print(row, flush=True)
    return row


def noise(model: SelVAModel, seeds: Sequence[int], duration: float) -> dict[str, Any]:
    """Style loss before and after DITTO, and of the best of many noises; timing before and after."""
    rows = [_noise_row(model, seed, duration) for seed in seeds]
    return {
        "style": STYLE,
        "played": CONTRAST,
        "duration": duration,
        "options": DittoOptions().model_dump(),
        "rows": rows,
        "holds": all(
            row["change"] <= -0.3
            and row["after"] < row["best_random"]
            and row["onset_f1_after"] >= row["onset_f1_before"] - 0.1
            and 0.9 <= row["norm"] <= 1.1
            for row in rows
        ),
    }


def _noise_row(model: SelVAModel, seed: int, duration: float) -> dict[str, Any]:
    (clip,) = clips(model, CONTRAST, "test", 1, 100 * seed, duration)
    sampling, options = GenerateOptions(seed=seed), DittoOptions()
    with tempfile.TemporaryDirectory() as name:
        write_set(Path(name), clips(model, STYLE, "train", 8, 100 * seed, duration))
        references = load_sounds(name)
        result = ditto(model, clip.features, name, options, sampling)
    found = result.found
    count = result.evaluations // sampling.steps
    dim = model.config.generator.latent_dim
    opened = StyleSampler.opened(model, clip.features, sampling, duration=clip.features.duration)
    with torch.no_grad(), opened as studio:
        target = studio.target([each.audio for each in references.sounds], options)
        losses = [
            studio.true_loss(latent_noise(10_000 + seed, take, 0, studio.total, dim), target, options)
            for take in range(count)
        ]
    plain = generate(model, clip.features, sampling)
    row = {
        "seed": seed,
        "before": found.before,
        "after": found.after,
        "change": found.after / found.before - 1,
        "best_step": found.step,
        "evaluations": result.evaluations,
        "random_noises": count,
        "best_random": min(losses),
        "onset_f1_before": _f1(plain, clip),
        "onset_f1_after": _f1(result.audio, clip),
        "norm": found.norm,
        "kurtosis": found.kurtosis,
    }
    row = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
    print(row, flush=True)
    return row


def clips(
    model: SelVAModel, material: str, split: str, count: int, seed: int, duration: float
) -> Iterable[Clip]:
    """Scenes in which one of two objects is of a material, with the prompt for it."""
    number = 0
    for _ in range(count):
        while True:
            scene = draw_scene(seed + number, split=split, num_objects=2, duration=duration)
            number += 1
            if (each := scene.find(material)) is not None:
                break
        frames = draw_frames(scene)
        pictures = Frames(frames, np.arange(len(frames)) / FPS)
        with tempfile.TemporaryDirectory() as cache:
            asked = FeatureOptions(prompt=prompt(material), cache_dir=Path(cache))
            features = extract_features(model, pictures, asked)
        yield Clip(features, stem(scene, scene.objects.index(each)), each.impacts)


def write_set(folder: Path, found: Iterable[Clip]) -> None:
    """Clips as pairs of features and sound."""
    folder.mkdir(exist_ok=True)
    for number, clip in enumerate(found):
        save_features(folder / f"clip{number}.npz", clip.features)
        write_audio(
            folder / f"clip{number}.wav", Audio(torch.from_numpy(clip.sound)[None, None], SAMPLE_RATE)
        )


def sound_of(model: SelVAModel, clip: Clip, seed: int, steps: int) -> np.ndarray:
    """(L,) what the model makes of a clip."""
    audio = generate(model, clip.features, GenerateOptions(seed=seed, steps=steps, normalize=False))
    return audio.waveform[0, 0].numpy()


def spectra(sounds: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Long-term spectra of sounds at one loudness."""
    return [long_term_spectrum(level(sound, SAMPLE_RATE), SAMPLE_RATE) for sound in sounds]


def equal_norm(vectors: SteeringVectors, seed: int) -> SteeringVectors:
    """Random directions with the lengths of the given ones."""
    random = torch.Generator().manual_seed(seed)
    drawn = {
        path: torch.nn.functional.normalize(torch.randn(each.shape, generator=random), dim=-1)
        * each.norm(dim=-1, keepdim=True)
        for path, each in vectors.vectors.items()
    }
    return replace(vectors, vectors=drawn)


def _f1(audio: Audio, clip: Clip) -> float:
    onsets = detect_onsets(audio.waveform[0, 0].numpy(), audio.sample_rate)
    return total([match_onsets(onsets, clip.onsets, WIDE)]).f1


if __name__ == "__main__":
    main()
