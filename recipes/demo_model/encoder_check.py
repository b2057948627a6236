"""How well the encoder alone finds the impacts of the named object, by the read-outs of its training."""

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from selva_audio.evaluation.onsets import match_onsets, total
from selva_audio.media.transforms import to_sync
from selva_audio.scenes import MATERIALS, prompt

from .data import training_scene
from .encoder import EncoderStage
from .features import scene_frames

_FIRST_MOMENT = 0.16 + 0.02
_BIN = 0.04
_THRESHOLD = 0.35


@torch.no_grad()
def onset_scores(
    checkpoint: Path, *, num_scenes: int = 12, through_full_size: bool = False
) -> dict[str, float]:
    """Onset F1 on val scenes of two objects, and detections for absent materials; rounded to 4 digits."""
    stage = EncoderStage(segments=1)
    prefix = "average/"
    with safe_open(checkpoint, framework="pt") as file:
        state = {
            key.removeprefix(prefix): file.get_tensor(key)
            for key in file.keys()  # noqa: SIM118 - not a mapping
            if key.startswith(prefix)
        }
    stage.module.load_state_dict(state)
    near, wide, cross, absent, speeds = [], [], [], [], []
    for seed in range(num_scenes):
        scene = training_scene(seed, split="val", num_objects=2)
        names = [each.material.name for each in scene.objects]
        unnamed = next(name for name in MATERIALS if name not in names)
        words = [*names, unnamed]
        frames = to_sync(scene_frames(scene, through_full_size=through_full_size))
        states, mask = stage.encoder.t5.encode_text([prompt(word) for word in words])
        slots = stage.encoder.video_encoder.encode(
            frames[None].expand(len(words), -1, -1, -1, -1), states, mask
        )
        out = stage.heads.slot(slots)
        found = [_peaks(torch.sigmoid(row[:, 0]).numpy(), row[:, 3].numpy()) for row in out]
        for index, each in enumerate(scene.objects):
            if not len(each.impacts):
                times = _FIRST_MOMENT + _BIN * np.arange(out.shape[1])
                true = each.speeds(times)
                speeds.append(float(np.corrcoef(out[index, :, 9].numpy(), true)[0, 1]))
                continue
            near.append(match_onsets(found[index], each.impacts, 0.05))
            wide.append(match_onsets(found[index], each.impacts, 0.08))
            other = scene.objects[1 - index].impacts
            apart = [time for time in other if np.abs(each.impacts - time).min() > 0.1]
            cross.append(match_onsets(found[index], np.array(apart), 0.05))
        absent.append(len(found[-1]))
    crossed = total(cross)
    scores = {
        "f1_50ms": total(near).f1,
        "f1_80ms": total(wide).f1,
        "offset_ms": 1000 * float(np.median(total(near).offsets or (np.nan,))),
        "cross": crossed.matched / max(crossed.true, 1),
        "absent_detections": float(np.mean(absent)),
        "speed_correlation": float(np.mean(speeds)) if speeds else float("nan"),
    }
    return {key: round(value, 4) for key, value in scores.items()}


def _peaks(probability: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Times of local maxima over the threshold, refined by the predicted offset within a slot."""
    padded = np.pad(probability, 1)
    is_peak = (probability >= padded[:-2]) & (probability > padded[2:]) & (probability > _THRESHOLD)
    index = np.flatnonzero(is_peak)
    return _FIRST_MOMENT + _BIN * index + np.clip(offset[index], -0.4, 0.4) * 0.1
