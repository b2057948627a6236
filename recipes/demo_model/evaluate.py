"""Scores of trained parts on scenes they have not seen: what the model card reports.

Sounds are made in memory from rendered frames; the public benchmark, which goes through written videos, is
another tool. Every number is a measurement of the weights in the folder.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selva_audio.flow import SOLVERS, guided_velocity, latent_noise
from selva_audio.scenes import (
    CONTINUOUS,
    HEARD,
    HELD_OUT,
    MATERIALS,
    Scene,
    draw_scene,
    mixture,
    prompt,
    stem,
)

from .classifier import MaterialClassifier
from .data import CONFIG, mels
from .encoder_check import onset_scores
from .features import FeatureEncoder, as_read, scene_frames
from .griffin_lim import griffin_lim
from .onsets import FRAME, Match, detect_onsets, match_onsets, total
from .parts import load_part, part_path
from .vocoder import spectral_loss

WINDOWS = {"50ms": 0.05, "80ms": 0.08}
_IMPACTS = tuple(name for name in HEARD if not MATERIALS[name].continuous)


@dataclass(slots=True)
class Tally:
    """Counts over the clips of one row of the report."""

    matches: dict[str, list[Match]] = field(default_factory=lambda: {key: [] for key in WINDOWS})
    cross: list[Match] = field(default_factory=list)
    right: int = 0

    def add(self, mel: np.ndarray, scene: Scene, word: str, classifier: MaterialClassifier) -> None:
        """Score a clip's mel (M, F) as the sound of ``word``."""
        detected, target = detect_onsets(mel), scene.find(word)
        assert target is not None
        true = target.impacts
        for key, window in WINDOWS.items():
            self.matches[key].append(match_onsets(detected, true, window))
        heard = classifier.classify(mel, true)
        hit = [len(match_onsets(detected, np.array([time]), WINDOWS["50ms"]).offsets) > 0 for time in true]
        self.right += sum(is_hit and name == word for is_hit, name in zip(hit, heard, strict=True))
        for other in scene.objects:
            apart = np.array([time for time in other.impacts if _distance(time, true) > 2 * WINDOWS["50ms"]])
            if other is not target and len(apart):
                self.cross.append(match_onsets(detected, apart, WINDOWS["50ms"]))

    def numbers(self) -> dict[str, float]:
        """The row: fractions 0 to 1 over all impacts, and the median signed offset in milliseconds."""
        whole = {key: total(matches) for key, matches in self.matches.items()}
        near, cross = whole["50ms"], total(self.cross)
        row = {f"onset_f1_{key}": match.f1 for key, match in whole.items()}
        row["cross_hits"] = cross.matched / cross.true if cross.true else 0.0
        row["material_accuracy"] = self.right / near.true if near.true else 0.0
        row["median_offset_ms"] = 1000 * float(np.median(near.offsets)) if near.offsets else float("nan")
        return {key: round(value, 4) for key, value in row.items()}


class Demo:
    """The parts of a folder, as the main job runs them."""

    def __init__(self, folder: Path) -> None:
        self.encoder = FeatureEncoder(folder)
        self.generator = load_part(folder, "generator")
        self.vae = load_part(folder, "vae")
        self.vocoder = load_part(folder, "vocoder") if part_path(folder, "vocoder").is_file() else None

    @torch.no_grad()
    def generate(
        self,
        frames: np.ndarray,
        text: str,
        *,
        seed: int,
        steps: int = 25,
        cfg_strength: float = 4.5,
        null_sync: bool = False,
    ) -> Tensor:
        """Mel (1, M, F) for ``text``; ``null_sync`` leaves the encoder's features out."""
        duration = len(frames) / 25
        lengths = CONFIG.lengths(duration)
        generator = self.generator
        sync = self.encoder.sync(frames, [text])
        if null_sync:
            sync = generator.empty_sync(1, lengths.sync)
        clip = self.encoder.images(frames)
        states = self.encoder.clip.encode_text([text])
        wanted = generator.conditions(clip, sync, states, lengths.latent)
        empty = generator.conditions(
            generator.empty_clip(1, clip.shape[1]),
            generator.empty_sync(1, lengths.sync),
            generator.empty_text(1),
            lengths.latent,
        )
        noise = latent_noise(seed, 0, 0, lengths.latent, CONFIG.generator.latent_dim)[None]
        latent = SOLVERS["euler"](guided_velocity(generator, wanted, empty, cfg_strength), noise, steps, None)
        mel: Tensor = self.vae.decode(generator.unnormalize(latent))
        return mel

    @torch.no_grad()
    def heard(self, mel: Tensor) -> np.ndarray:
        """Mel (M, F) of the sound of a generated mel: through the vocoder where there is one."""
        if self.vocoder is None:
            return mel[0].numpy()
        return mels(self.vocoder(mel)[:, 0])[0].numpy()


def report(folder: Path, *, num_scenes: int = 16, split: str = "test", seed: int = 0) -> dict[str, Any]:
    """Score the parts in ``folder``, print the table and write ``report.json`` beside them."""
    demo, classifier = Demo(folder), MaterialClassifier()
    result: dict[str, Any] = {"split": split, "scenes": num_scenes, "seed": seed}
    result |= selectivity(demo, classifier, num_scenes=num_scenes, split=split, seed=seed)
    result["held_out"] = held_out(
        demo, classifier, num_scenes=max(num_scenes // 2, 1), split=split, seed=seed
    )
    result["continuous"] = continuous(demo, num_scenes=max(num_scenes // 2, 1), split=split, seed=seed)
    checkpoint = folder / "refine.checkpoint.safetensors"
    if checkpoint.is_file():
        result["encoder"] = onset_scores(checkpoint, through_full_size=True)
    if demo.vocoder is not None:
        result["vocoder"] = vocoder_scores(demo, classifier, num_scenes=num_scenes, split=split)
    print(json.dumps(result, indent=1), flush=True)
    (folder / "report.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def selectivity(
    demo: Demo, classifier: MaterialClassifier, *, num_scenes: int, split: str, seed: int
) -> dict[str, Any]:
    """Prompted sounds of two- and three-object scenes, with controls that must fail or succeed."""
    rows = {
        name: Tally()
        for name in ("generated", "exchanged", "null_sync", "ground_truth", "coded", "mixture", "other_scene")
    }
    swapped, quiet = [], []
    for index in range(num_scenes):
        scene = draw_scene(index, split=split, materials=_IMPACTS, num_objects=2 + index % 2)
        other = draw_scene(10_000 + index, split=split, materials=_IMPACTS, num_objects=2)
        frames = as_read(scene_frames(scene, through_full_size=True))
        words = [each.material.name for each in scene.objects][:2]
        made = {word: demo.heard(demo.generate(frames, prompt(word), seed=seed)) for word in words}
        for word, rival in zip(words, reversed(words), strict=True):
            real = mels(torch.from_numpy(stem(scene, _index(scene, word)))[None])
            rows["generated"].add(made[word], scene, word, classifier)
            rows["exchanged"].add(made[rival], scene, word, classifier)
            true = scene.find(rival)
            assert true is not None
            swapped.append(match_onsets(detect_onsets(made[rival]), true.impacts, WINDOWS["50ms"]))
            rows["ground_truth"].add(real[0].numpy(), scene, word, classifier)
            with torch.no_grad():
                rows["coded"].add(
                    demo.heard(demo.vae.decode(demo.vae.encode(real).mean)), scene, word, classifier
                )
            mixed = mels(torch.from_numpy(mixture(scene))[None])[0].numpy()
            rows["mixture"].add(mixed, scene, word, classifier)
            rows["other_scene"].add(
                mels(torch.from_numpy(stem(other, 0))[None])[0].numpy(), scene, word, classifier
            )
        rows["null_sync"].add(
            demo.heard(demo.generate(frames, prompt(words[0]), seed=seed, null_sync=True)),
            scene, words[0], classifier,
        )  # fmt: skip
        absent = next(name for name in _IMPACTS if scene.find(name) is None)
        onsets = detect_onsets(demo.heard(demo.generate(frames, prompt(absent), seed=seed)))
        quiet.append(len(onsets) == 0)
    controls = {name: tally.numbers() for name, tally in rows.items() if name != "generated"}
    rival = total(swapped)
    controls["exchanged"]["hits_on_named"] = round(rival.matched / max(rival.true, 1), 4)
    controls["absent"] = {"silent_clips": round(float(np.mean(quiet)), 4)}
    return rows["generated"].numbers() | {"controls": controls}


def held_out(
    demo: Demo, classifier: MaterialClassifier, *, num_scenes: int, split: str, seed: int
) -> dict[str, float]:
    """Prompts that name materials whose sound the generator never heard, beside one it knows."""
    tally = Tally()
    for index in range(num_scenes):
        word = HELD_OUT[index % len(HELD_OUT)]
        scene = _scene_with(word, 20_000 + index, split)
        frames = as_read(scene_frames(scene, through_full_size=True))
        tally.add(demo.heard(demo.generate(frames, prompt(word), seed=seed)), scene, word, classifier)
    return tally.numbers()


def continuous(demo: Demo, *, num_scenes: int, split: str, seed: int) -> dict[str, float]:
    """Correlation of generated loudness with the true speed of a turning object."""
    values = []
    for index in range(num_scenes):
        scene = _scene_with(CONTINUOUS[0], 30_000 + index, split)
        frames = as_read(scene_frames(scene, through_full_size=True))
        mel = demo.heard(demo.generate(frames, prompt(CONTINUOUS[0]), seed=seed))
        target = scene.find(CONTINUOUS[0])
        assert target is not None
        speed = target.speeds((np.arange(mel.shape[1]) + 0.5) * FRAME)
        values.append(float(np.corrcoef((10.0**mel).mean(axis=0), speed)[0, 1]))
    return {"correlation": round(float(np.mean(values)), 4), "worst": round(min(values), 4)}


@torch.no_grad()
def vocoder_scores(
    demo: Demo, classifier: MaterialClassifier, *, num_scenes: int, split: str
) -> dict[str, dict[str, float]]:
    """The vocoder against Griffin-Lim on the same mels of held-out stems, straight and through the VAE."""
    assert demo.vocoder is not None
    vocoders = {"vocoder": lambda mel: demo.vocoder(mel)[:, 0], "griffin_lim": griffin_lim}
    sums: dict[str, dict[str, list[float]]] = {}
    for index in range(num_scenes):
        scene = draw_scene(40_000 + index, split=split, materials=_IMPACTS, num_objects=1)
        wave = torch.from_numpy(stem(scene, 0))[None]
        target, mel = scene.objects[0], mels(wave)
        for source, given in (("", mel), ("_coded", demo.vae.decode(demo.vae.encode(mel).mean))):
            for name, vocode in vocoders.items():
                made = vocode(given)
                length = min(made.shape[1], wave.shape[1])
                _, distance = spectral_loss(made[:, :length], wave[:, :length])
                again = mels(made)[0].numpy()
                right = [each == target.material.name for each in classifier.classify(again, target.impacts)]
                row = sums.setdefault(name + source, {})
                for key, value in {
                    "mel_l1": float((mels(made) - given).abs().mean()),
                    "stft": distance["stft"],
                    "material_accuracy": float(np.mean(right)),
                    "onset_f1_50ms": match_onsets(detect_onsets(again), target.impacts, 0.05).f1,
                }.items():
                    row.setdefault(key, []).append(value)
    return {
        name: {key: round(float(np.mean(values)), 4) for key, values in row.items()}
        for name, row in sums.items()
    }


def _scene_with(word: str, seed: int, split: str) -> Scene:
    """The first scene from ``seed`` on, in strides, that shows ``word`` beside one impact material."""
    materials = (word, *_IMPACTS)
    while True:
        scene = draw_scene(seed, split=split, materials=materials, num_objects=2)
        if scene.find(word) is not None:
            return scene
        seed += 1_000_000


def _index(scene: Scene, word: str) -> int:
    return [each.material.name for each in scene.objects].index(word)


def _distance(time: float, others: np.ndarray) -> float:
    return float(np.abs(others - time).min()) if len(others) else float("inf")
