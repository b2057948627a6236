"""The output normalizer: one target level per take, held under a true-peak ceiling."""

import math
from dataclasses import dataclass

from torch import Tensor

from ...media.loudness import (
    GATE_SECONDS,
    MAX_CHANNELS,
    is_silent,
    level,
    normalize,
    true_peak_dbtp,
)
from ...options import NormalizeOptions
from ...progress import Progress, ProgressFn, ignore_progress, subtask
from ...records import Audio
from .processed import Processed, finite_or_none, for_each_take

_UNITS = {"lufs": "LUFS", "rms": "dBFS RMS", "peak": "dBFS peak"}


@dataclass(frozen=True, slots=True)
class NormalizeReport:
    """What normalizing did; levels are None where they cannot be measured.

    Attributes:
        unit: of both levels: "LUFS", "dBFS RMS" or "dBFS peak".
        level_before: before.
        level_after: after.
        true_peak_dbtp: after; None for silence.
    """

    unit: str
    level_before: float | None
    level_after: float | None
    true_peak_dbtp: float | None

    @property
    def sentence(self) -> str:
        """The report in words."""
        if self.level_before is None or self.level_after is None:
            return "The level could not be measured, so the sound was left as it is."
        return (
            f"{self.level_before:.1f} {self.unit} before, {self.level_after:.1f} after "
            f"(true peak {self.true_peak_dbtp:.1f} dBTP)."
        )


def normalize_output(
    audio: Audio, options: NormalizeOptions | None = None, *, on_progress: ProgressFn = ignore_progress
) -> Processed[NormalizeReport]:
    """Bring each take to a level, then turn it down as a whole to the true-peak ceiling.

    A take whose level cannot be measured (silence; for LUFS under 0.4 s or over five channels too) passes
    unchanged, with a note.

    Raises:
        InputError: an empty sound, or samples that are not finite.
    """
    chosen = options or NormalizeOptions()
    rate, unit = audio.sample_rate, _UNITS[chosen.loudness]

    def tool(take: Tensor, on_take: ProgressFn) -> tuple[Tensor, NormalizeReport, list[str]]:
        before, unmeasurable = _measure(take, rate, chosen.loudness)
        if before is None:
            peak = true_peak_dbtp(take, on_progress=on_take)
            return take, NormalizeReport(unit, None, None, finite_or_none(peak)), [unmeasurable]
        on_take(Progress("normalizing", 1, 4))
        done, note = normalize(take, rate, chosen.loudness, chosen.target_lufs, chosen.true_peak_dbtp)
        on_take(Progress("normalizing", 2, 4))
        after = level(done, rate, chosen.loudness)
        peak = true_peak_dbtp(done, on_progress=subtask(on_take, 0.75, 1))
        return done, NormalizeReport(unit, before, after, peak), [note] if note else []

    return for_each_take(audio, tool, on_progress=on_progress)


def _measure(take: Tensor, sample_rate: int, mode: str) -> tuple[float | None, str]:
    """Level of a take, or None and why it has none."""
    if is_silent(take, sample_rate):
        return None, "The sound is silent, so it was left as it is."
    if mode == "lufs" and (take.shape[-1] < GATE_SECONDS * sample_rate or len(take) > MAX_CHANNELS):
        return None, (
            f"LUFS needs {GATE_SECONDS:g} s of sound in 1 to {MAX_CHANNELS} channels, not "
            f"{take.shape[-1] / sample_rate:.2f} s in {len(take)}, so the sound was left as it is. "
            "Use the mode rms."
        )
    measured = level(take, sample_rate, mode)
    if not math.isfinite(measured):
        return None, "The sound is too quiet to be measured, so it was left as it is. Use the mode rms."
    return measured, ""
