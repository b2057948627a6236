"""Sounds judged one by one before they are trained on, with the numbers that the judgement stands on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..media.loudness import SILENCE_DBFS, is_silent, true_peak_dbtp
from ..options import InspectOptions
from ..progress import ProgressFn, ignore_progress, subtask
from ..records import Audio
from .checks import clipped_samples, loudness_of
from .measures import background_snr, band_limit, silence_fraction
from .sounds import SoundSet

_HEAD = ("name", "seconds", "Hz", "LUFS", "peak dBTP", "SNR dB", "silence", "verdict")


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of one sound.

    Attributes:
        name: of the sound.
        seconds: length.
        sample_rate: hertz.
        lufs: loudness; None where it cannot be measured.
        true_peak_dbtp: None for silence.
        snr_db: from what is heard in pauses to the loud parts; None where no background can be told apart.
        silence_fraction: share of it under -60 dBFS.
        band_limit_hz: where the spectrum ends like a wall; None where it does not.
        faults: sentences for which it is rejected, by name.
    """

    name: str
    seconds: float
    sample_rate: int
    lufs: float | None
    true_peak_dbtp: float | None
    snr_db: float | None
    silence_fraction: float
    band_limit_hz: float | None
    faults: Mapping[str, str]


def inspect_sounds(
    sounds: SoundSet, options: InspectOptions | None = None, *, on_progress: ProgressFn = ignore_progress
) -> tuple[SoundSet, tuple[Inspection, ...]]:
    """Judge every sound.

    Args:
        sounds: any number.
        options: what a sound is rejected for, and whether rejected ones are left out.
        on_progress: progress and cancel.

    Returns:
        The sounds that are kept, with a note about each rejected one; and what is known of all.
    """
    chosen = options or InspectOptions()
    found = []
    for place, sound in enumerate(sounds.sounds):
        share = subtask(on_progress, place / len(sounds), (place + 1) / len(sounds))
        found.append(inspect_sound(sound.name, sound.audio, chosen, on_progress=share))
    kept = [
        sound
        for sound, known in zip(sounds.sounds, found, strict=True)
        if not (chosen.skip_rejected and known.faults)
    ]
    notes = [f"{known.name}: {sentence}" for known in found for sentence in known.faults.values()]
    return SoundSet(tuple(kept), tuple(notes)), tuple(found)


def inspect_sound(
    name: str, audio: Audio, options: InspectOptions, *, on_progress: ProgressFn = ignore_progress
) -> Inspection:
    """Judge one sound, of which the first take is looked at."""
    take, rate = audio.waveform[0], audio.sample_rate
    wave = take.numpy()  # (C, L)
    if not wave.size or not np.isfinite(wave).all():
        problem = "holds NaN or infinite samples" if wave.size else "holds no samples"
        return Inspection(
            name, audio.duration, rate, None, None, None, 1.0, None, {"no_sound": f"It {problem}."}
        )
    silence = silence_fraction(wave, rate, under_dbfs=SILENCE_DBFS)
    silent = is_silent(take, rate)
    peak = true_peak_dbtp(take, on_progress=on_progress)
    snr = None if silent else background_snr(wave, rate)
    limit = None if silent else band_limit(wave.mean(axis=0), rate)
    faults = {}
    if silent:
        faults["silence"] = "It is silent."
    elif silence > options.max_silence_fraction:
        faults["silence"] = (
            f"{100 * silence:.0f} % of it is silence, over {100 * options.max_silence_fraction:.0f} %. "
            "Trim it, or loop what sounds."
        )
    if flat := clipped_samples(wave):
        faults["clipping"] = f"It is clipped: {flat} samples stand still at its peak."
    if snr is not None and snr < options.min_snr_db:
        faults["noise"] = f"It is {snr:.1f} dB above its background, under {options.min_snr_db:g} dB."
    if limit is not None and options.check_codec_artifacts:
        faults["codec"] = f"Its spectrum ends at {limit:.0f} Hz like a wall, as after lossy coding."
    return Inspection(
        name,
        audio.duration,
        rate,
        loudness_of(take, rate),
        peak if np.isfinite(peak) else None,
        snr,
        silence,
        limit,
        faults,
    )


def inspection_report(found: tuple[Inspection, ...]) -> str:
    """A line per sound in columns, and how many were rejected."""
    rows = [_HEAD, *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    rejected = sum(bool(known.faults) for known in found)
    return "\n".join([*lines, f"{len(found) - rejected} of {len(found)} sounds pass."])


def _row(known: Inspection) -> tuple[str, ...]:
    return (
        known.name,
        f"{known.seconds:.2f}",
        str(known.sample_rate),
        _shown(known.lufs),
        _shown(known.true_peak_dbtp),
        _shown(known.snr_db),
        f"{100 * known.silence_fraction:.0f} %",
        " ".join(known.faults.values()) or "passes",
    )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
