"""Whether a clip made for one object holds the sounds of that object, on time, and none of the others'.

Pure scoring of waveforms against drawn scenes; making the clips is the task's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..scenes import Scene, SceneObject
from .materials import count_right, nearest_onsets
from .onsets import Array, Match, detect_onsets, match_onsets, total

NEAR, WIDE = 0.05, 0.08
_ENVELOPE_HOP = 0.02
_ENVELOPE_WINDOW = 0.08


@dataclass(frozen=True, slots=True)
class ClipScore:
    """Counts of one clip.

    Attributes:
        near: onsets matched within 50 ms.
        wide: onsets matched within 80 ms.
        right: true impacts heard on time and as the right material.
        cross_hits: impacts of other objects at which something is heard.
        cross_true: impacts of other objects that lie apart from the object's own.
        own_hits: impacts of the object that lie apart from the others' and at which something is heard.
        own_true: how many those are.
    """

    near: Match
    wide: Match
    right: int
    cross_hits: int
    cross_true: int
    own_hits: int
    own_true: int


def score_clip(
    waveform: NDArray[np.float32], sample_rate: int, scene: Scene, target: SceneObject
) -> ClipScore:
    """Score a waveform (L,) as the sound of ``target``, one of the objects of ``scene`` that have impacts.

    Impacts of another object count as cross hits only where the target has none within 80 ms.
    """
    onsets, true = detect_onsets(waveform, sample_rate), target.impacts
    others = [each.impacts for each in scene.objects if each is not target]
    apart = np.concatenate([_apart(times, true) for times in others] or [np.zeros(0)])
    alone = _apart(true, np.concatenate(others or [np.zeros(0)]))
    return ClipScore(
        near=match_onsets(onsets, true, NEAR),
        wide=match_onsets(onsets, true, WIDE),
        right=count_right(waveform, sample_rate, onsets, true, target.material.name),
        cross_hits=len(nearest_onsets(onsets, apart, NEAR)),
        cross_true=len(apart),
        own_hits=len(nearest_onsets(onsets, alone, NEAR)),
        own_true=len(alone),
    )


def summarize(scores: Sequence[ClipScore]) -> dict[str, float | None]:
    """Fractions over the impacts of all clips together, and the median signed offset in milliseconds.

    A fraction of nothing is 0, a median of nothing None.
    """
    near, wide = (total([getattr(score, name) for score in scores]) for name in ("near", "wide"))
    return {
        "onset_f1_50ms": round(near.f1, 4),
        "onset_f1_80ms": round(wide.f1, 4),
        "cross_hits": _share(
            sum(score.cross_hits for score in scores), sum(score.cross_true for score in scores)
        ),
        "material_accuracy": _share(sum(score.right for score in scores), near.true),
        "median_offset_ms": round(1000 * near.median_offset, 2) if near.offsets else None,
    }


def own_share(scores: Sequence[ClipScore]) -> float:
    """Share of the objects' own separate impacts at which something is heard."""
    return _share(sum(score.own_hits for score in scores), sum(score.own_true for score in scores))


def speed_correlation(waveform: NDArray[np.float32], sample_rate: int, target: SceneObject) -> float:
    """Correlation of the RMS envelope of a waveform (L,) with the true speed of a turning object.

    A constant envelope, silence among them, correlates with nothing: 0.
    """
    size, hop = round(_ENVELOPE_WINDOW * sample_rate), round(_ENVELOPE_HOP * sample_rate)
    if len(waveform) < 2 * size:
        return 0.0
    power = np.concatenate([[0.0], np.cumsum(waveform.astype(np.float64) ** 2)])
    first = np.arange(0, len(waveform) - size + 1, hop)
    envelope = np.sqrt(np.maximum(power[first + size] - power[first], 0) / size)
    speed = target.speeds((first + size / 2) / sample_rate)
    if envelope.std() <= 1e-6 or speed.std() <= 1e-6:
        return 0.0
    return float(np.corrcoef(envelope, speed)[0, 1])


def _apart(times: Array, others: Array) -> Array:
    """Those of ``times`` that are more than 80 ms away from all ``others``."""
    if not len(others) or not len(times):
        return times
    return np.asarray(times[np.abs(times[:, None] - others[None]).min(axis=1) > WIDE])


def _share(count: int, of: int) -> float:
    return round(count / of, 4) if of else 0.0
