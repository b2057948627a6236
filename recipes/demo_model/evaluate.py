"""Scores of a finished run on the "test" split, for its card; what is scored are the files it wrote."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from selva_audio.bundle import PARTS, Part, SelVAModel
from selva_audio.evaluation.distances import log_mel_l1, multi_resolution_stft
from selva_audio.evaluation.griffin_lim import griffin_lim
from selva_audio.evaluation.materials import IMPACT_MATERIALS, count_right
from selva_audio.evaluation.onsets import Match, detect_onsets, match_onsets, total
from selva_audio.evaluation.selectivity import NEAR
from selva_audio.files import write_text
from selva_audio.options import SelectivityOptions
from selva_audio.runtime import RuntimePolicy
from selva_audio.scenes import SAMPLE_RATE, SceneObject, draw_scene, stem
from selva_audio.tasks.evaluate import evaluate_selectivity

from .data import CONFIG, mels
from .parts import load_part, part_path

REPORT = "report.json"
_STEMS_OF_MATERIAL = 4


def report(folder: Path, *, num_scenes: int) -> dict[str, object]:
    """Score the parts in ``folder`` as ``selva evaluate selectivity`` does, and the vocoder apart."""
    model = bundle(folder)
    result = evaluate_selectivity(model, SelectivityOptions(scenes=num_scenes))
    result["vocoder"] = vocoder_scores(model)
    write_text(folder / REPORT, json.dumps(result, indent=1) + "\n")
    return result


def bundle(folder: Path) -> SelVAModel:
    """The model made of the parts in ``folder``."""
    parts = {
        name: Part(partial(load_part, folder, name), partial(str, part_path(folder, name))) for name in PARTS
    }
    return SelVAModel(CONFIG, RuntimePolicy.resolve("cpu", "fp32"), parts | {"image_clip": parts["clip"]})


@torch.no_grad()
def vocoder_scores(model: SelVAModel, count: int = _STEMS_OF_MATERIAL) -> dict[str, dict[str, float]]:
    """The vocoder and Griffin-Lim on the same mels of stems that nothing was trained on.

    Both distances are to the true stem; "coded" mels went through the VAE, as in use.
    """
    vocoders: Mapping[str, Callable[[Tensor], Tensor]] = {
        "vocoder": lambda mel: model.vocoder(mel)[:, 0],
        "griffin_lim": lambda mel: griffin_lim(mel, CONFIG.mel),
    }
    tallies: dict[str, _VocoderTally] = {}
    for material in IMPACT_MATERIALS:
        for seed in range(count):
            scene = draw_scene(seed, split="test", materials=(material,), num_objects=1)
            wave = torch.from_numpy(stem(scene, 0))[None]
            mel = mels(wave)
            for suffix, given in (("", mel), ("_coded", model.vae.decode(model.vae.encode(mel).mean))):
                for name, vocode in vocoders.items():
                    tally = tallies.setdefault(name + suffix, _VocoderTally())
                    tally.add(vocode(given)[:, : wave.shape[1]], wave, scene.objects[0])
    return {name: tally.numbers() for name, tally in tallies.items()}


class _VocoderTally:
    """Sums over stems."""

    def __init__(self) -> None:
        self.mel: list[float] = []
        self.stft: list[float] = []
        self.matches: list[Match] = []
        self.right = 0

    def add(self, made: Tensor, real: Tensor, source: SceneObject) -> None:
        """Score one waveform (1, L) against the stem."""
        self.mel.append(float(log_mel_l1(made, real, CONFIG.mel)))
        self.stft.append(float(multi_resolution_stft(made, real)))
        heard = made[0].numpy()
        onsets = detect_onsets(heard, SAMPLE_RATE)
        self.matches.append(match_onsets(onsets, source.impacts, NEAR))
        self.right += count_right(heard, SAMPLE_RATE, onsets, source.impacts, source.material.name)

    def numbers(self) -> dict[str, float]:
        """Means over stems, and shares of all impacts."""
        onsets = total(self.matches)
        return {
            "mel_l1": round(float(np.mean(self.mel)), 4),
            "stft": round(float(np.mean(self.stft)), 4),
            "material_accuracy": round(self.right / onsets.true, 4),
            "onset_f1_50ms": round(onsets.f1, 4),
        }
