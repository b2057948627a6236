"""The tools that change the colour of a sound: smoother, matcher, exciter. None needs a model.

Each keeps rate, length, channels and number of takes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...media import exciter, filters, matching
from ...media.loudness import guard_peak, rms_dbfs
from ...options import ExciteOptions, MatchOptions, SmoothOptions
from ...progress import ProgressFn, ignore_progress, subtask
from ...records import Audio
from .processed import Processed, for_each_take

# What a tool raises stays under this, as in everything this project writes.
_PEAK_CEILING_DBTP = -1.0


@dataclass(frozen=True, slots=True)
class SmoothReport:
    """What smoothing did.

    Attributes:
        high_gain_db: gain above the cutoff; None is total.
        removed_db: level of what was taken away, relative to the sound; None where nothing was.
        peak_guard_db: gain of the whole sound, 0 or less, that kept its true peak in bounds.
    """

    high_gain_db: float | None
    removed_db: float | None
    peak_guard_db: float

    @property
    def sentence(self) -> str:
        """The report in words."""
        if self.removed_db is None:
            return "Nothing was taken away."
        gain = "silenced" if self.high_gain_db is None else f"turned down by {-self.high_gain_db:.1f} dB"
        return (
            f"What lies above the cutoff was {gain}; what was taken away is {-self.removed_db:.1f} dB below "
            "the sound."
        )


@dataclass(frozen=True, slots=True)
class MatchReport:
    """What matching did; distances are in standard deviations of the training sounds, None for silence.

    Attributes:
        mode: whose training sounds, "44k" or "16k".
        distance_before: root mean square distance over bands, before.
        distance_after: the same, after.
        colour_before: the same with the level left aside, before.
        colour_after: the same with the level left aside, after.
        peak_guard_db: gain of the whole sound, 0 or less, that kept its true peak in bounds.
        bands_hz: (M,) centre of each band.
        gains_db: (M,) gain there.
    """

    mode: str
    distance_before: float | None
    distance_after: float | None
    colour_before: float | None
    colour_after: float | None
    peak_guard_db: float
    bands_hz: tuple[float, ...]
    gains_db: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """The report in words."""
        if self.distance_before is None:
            return "Silence has no spectrum to match."
        return (
            f"Distance to the {self.mode} training sounds: {self.distance_before:.2f} before, "
            f"{self.distance_after:.2f} after (without the level: {self.colour_before:.2f} and "
            f"{self.colour_after:.2f}); gains from {min(self.gains_db):+.1f} to {max(self.gains_db):+.1f} dB."
        )


@dataclass(frozen=True, slots=True)
class ExciteReport:
    """What the exciter did.

    Attributes:
        added_db: level of what was added, relative to the sound; None where nothing was.
        peak_guard_db: gain of the whole sound, 0 or less, that kept its true peak in bounds.
    """

    added_db: float | None
    peak_guard_db: float

    @property
    def sentence(self) -> str:
        """The report in words."""
        if self.added_db is None:
            return "Nothing was added."
        return f"What was added is {-self.added_db:.1f} dB below the sound."


def smooth_hf(
    audio: Audio, options: SmoothOptions | None = None, *, on_progress: ProgressFn = ignore_progress
) -> Processed[SmoothReport]:
    """Turn high frequencies down without moving anything in time.

    Raises:
        InputError: an empty sound, or samples that are not finite.
    """
    chosen = options or SmoothOptions()
    rate = audio.sample_rate

    def tool(take: Tensor, on_take: ProgressFn) -> tuple[Tensor, SmoothReport, list[str]]:
        smooth = filters.smooth_hf(
            take[None],
            rate,
            cutoff_hz=chosen.cutoff_hz,
            blend=chosen.blend,
            transition_hz=chosen.transition_hz,
            on_progress=subtask(on_take, 0, 0.7),
        )[0]
        removed = _difference_db(smooth, take)
        smooth, guard = guard_peak(
            smooth, _PEAK_CEILING_DBTP, original=take, on_progress=subtask(on_take, 0.7, 1)
        )
        gain = 20 * math.log10(1 - chosen.blend) if chosen.blend < 1 else None
        notes = _beyond(chosen.cutoff_hz, rate) + _turned_down(guard)
        return smooth, SmoothReport(gain, removed, guard), notes

    return for_each_take(audio, tool, on_progress=on_progress)


def match_spectrum(
    audio: Audio, options: MatchOptions | None = None, *, on_progress: ProgressFn = ignore_progress
) -> Processed[MatchReport]:
    """Bring the long-term spectrum of each take towards that of a VAE's training sounds.

    Raises:
        InputError: a sound that is empty, not finite, or shorter than one analysis window.
    """
    chosen = options or MatchOptions()
    target = matching.spectrum_target(chosen.mode)

    def distance(levels: matching.SpectrumLevels | None, *, with_level: bool) -> float | None:
        return None if levels is None else matching.spectrum_distance(levels, target, with_level=with_level)

    def tool(take: Tensor, on_take: ProgressFn) -> tuple[Tensor, MatchReport, list[str]]:
        matched = matching.match_spectrum(
            take,
            audio.sample_rate,
            target,
            strength=chosen.strength,
            max_gain_db=chosen.max_gain_db,
            keep_level=chosen.keep_level,
            peak_ceiling=_PEAK_CEILING_DBTP,
            on_progress=on_take,
        )
        report = MatchReport(
            mode=chosen.mode,
            distance_before=distance(matched.before, with_level=True),
            distance_after=distance(matched.after, with_level=True),
            colour_before=distance(matched.before, with_level=False),
            colour_after=distance(matched.after, with_level=False),
            peak_guard_db=matched.guard_db,
            bands_hz=tuple(target.frequencies.tolist()),
            gains_db=tuple(matched.gains_db.tolist()),
        )
        silent = ["The sound is silent, so it was left as it is."] if matched.before is None else []
        return matched.waveform, report, silent + _turned_down(matched.guard_db)

    return for_each_take(audio, tool, on_progress=on_progress)


def excite(
    audio: Audio, options: ExciteOptions | None = None, *, on_progress: ProgressFn = ignore_progress
) -> Processed[ExciteReport]:
    """Add overtones of what lies above a frequency.

    Raises:
        InputError: an empty sound, or samples that are not finite.
    """
    chosen = options or ExciteOptions()
    rate = audio.sample_rate

    def tool(take: Tensor, on_take: ProgressFn) -> tuple[Tensor, ExciteReport, list[str]]:
        excited = exciter.excite(
            take[None],
            rate,
            cutoff_hz=chosen.cutoff_hz,
            drive=chosen.drive,
            mix=chosen.mix,
            on_progress=subtask(on_take, 0, 0.7),
        )[0]
        added = _difference_db(excited, take)
        excited, guard = guard_peak(
            excited, _PEAK_CEILING_DBTP, original=take, on_progress=subtask(on_take, 0.7, 1)
        )
        return excited, ExciteReport(added, guard), _beyond(chosen.cutoff_hz, rate) + _turned_down(guard)

    return for_each_take(audio, tool, on_progress=on_progress)


def _difference_db(processed: Tensor, original: Tensor) -> float | None:
    """Level of what changed, relative to the original; None where nothing did."""
    if torch.equal(processed, original):
        return None
    return rms_dbfs(processed - original) - rms_dbfs(original)


def _beyond(cutoff_hz: float, sample_rate: int) -> list[str]:
    if cutoff_hz < sample_rate / 2:
        return []
    return [
        f"Sound at {sample_rate} Hz holds nothing above {sample_rate / 2:g} Hz, so a cutoff of {cutoff_hz:g} "
        "Hz changes nothing. Give a lower one."
    ]


def _turned_down(guard_db: float) -> list[str]:
    if guard_db > -0.05:
        return []
    return [
        f"The sound was turned down by {-guard_db:.1f} dB to keep its true peak at {_PEAK_CEILING_DBTP:g} "
        "dBTP, or where it was."
    ]
