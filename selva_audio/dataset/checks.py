"""What can be wrong with the clips of a data set: checks that need no more than its files.

Letters: C channels, L samples.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch

from ..errors import CheckpointError, InputError, MediaError, MissingFileError
from ..features import load_features
from ..media.audio import read_audio
from ..media.loudness import GATE_SECONDS, MAX_CHANNELS, SILENCE_DBFS, block_levels, lufs
from ..progress import Progress, ProgressFn, ignore_progress, subtask
from ..records import Audio
from .likeness import Picture, mel_picture
from .measures import (
    background_snr,
    band_limit,
    dc_dbfs,
    flat_samples,
)
from .motion import find_cuts, see_motion, sound_offset
from .record import Entry
from .sources import variant_of

_FLAT_SAMPLES, _FLAT_SHARE = 12, 1e-4
_LEAST_SNR_DB = 15.0
_QUIET_LUFS = -45.0
# A constant part is worth a word from 1 % of full scale on.
_DC_DBFS = -40.0
_LOSSY = (".mp3", ".ogg", ".aac", ".m4a", ".opus")
_SEEN = ("picture", "cut", "sync")
# The estimate is good to two pictures of 25 per second.
_LEAST_OFFSET = 0.12


def check_entries(
    entries: Iterable[Entry],
    settings: Mapping[str, float],
    *,
    look_at: Collection[str] | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> Iterator[Entry]:
    """The entries, each with ``checks`` made anew from its files.

    Args:
        entries: any; a copy is found by comparison with those before it.
        settings: ``shortest`` seconds (0 = any) and ``sample_rate`` of the model (0 = not known).
        look_at: ids of the clips whose pictures are looked at, which takes the most time; the others keep
            what was found earlier. None = all.
        on_progress: progress and cancel.
    """
    entries = tuple(entries)
    pictures: list[tuple[str, Picture]] = []
    widths: tuple[int, int] | None = None
    first_rate = 0
    for place, entry in enumerate(entries):
        share = subtask(on_progress, place / len(entries), (place + 1) / len(entries))
        share(Progress("checking", 0, 1))
        checks, audio = _read_sound(entry)
        found, here = _check_features(entry)
        checks |= found
        widths = widths or here
        if here is not None and widths is not None and here != widths:
            checks["features"] = (
                f"The features are {here[0]} and {here[1]} wide, those of the clips before {widths[0]} and "
                f"{widths[1]}: they were made with another model. Prepare the clip again."
            )
        if audio is not None:
            checks |= check_sound(audio, settings)
            first_rate = first_rate or audio.sample_rate
            if not settings.get("sample_rate") and audio.sample_rate != first_rate:
                checks["rate"] = f"The sound has {audio.sample_rate} Hz, the first one {first_rate} Hz."
            if not {"silence", "no_sound"} & checks.keys():
                checks |= _check_likeness(entry, audio, pictures)
            if look_at is None or entry.id in look_at:
                checks |= _check_picture(entry, audio, share)
            else:
                checks |= {name: text for name, text in entry.checks.items() if name in _SEEN}
        yield replace(entry, checks=checks)
    on_progress(Progress("checking", len(entries), len(entries)))


def check_sound(audio: Audio, settings: Mapping[str, float]) -> dict[str, str]:
    """Findings in one sound, by the name of the check."""
    wave = audio.waveform[0].numpy()  # (C, L)
    if not wave.size:
        return {"no_sound": "The sound holds no samples. Export it again."}
    if not np.isfinite(wave).all():
        return {"no_sound": "The sound holds NaN or infinite samples. Export it again."}
    checks = {}
    shortest, wanted = settings.get("shortest", 0.0), settings.get("sample_rate", 0.0)
    if audio.duration < shortest - 1e-2:
        checks["short"] = f"{audio.duration:.2f} s are under the {shortest:g} s that were asked for."
    level = float(block_levels(wave, audio.sample_rate).max())
    if level < SILENCE_DBFS:
        checks["silence"] = f"The sound is silent: at its loudest {level:.0f} dBFS."
        return checks
    flat = clipped_samples(wave)
    if flat:
        checks["clipping"] = f"The sound is clipped: {flat} samples stand still at its peak."
    if audio.sample_rate < wanted:
        checks["rate"] = (
            f"The sound has {audio.sample_rate} Hz, the model {wanted:g} Hz: nothing above "
            f"{audio.sample_rate // 2} Hz can be learned from it."
        )
    limit = band_limit(wave.mean(axis=0), audio.sample_rate)
    if limit is not None:
        checks["band_limited"] = (
            f"The spectrum ends at {limit:.0f} Hz like a wall, as after lossy coding or a lower sample rate."
        )
    return checks | _check_level(audio)


def clipped_samples(wave: np.ndarray) -> int:
    """Samples (C, L) that stand still at the peak, where they are enough to be heard; else 0."""
    flat = flat_samples(wave)
    return flat if flat >= max(_FLAT_SAMPLES, _FLAT_SHARE * wave.shape[1]) else 0


def loudness_of(waveform: torch.Tensor, sample_rate: int) -> float | None:
    """LUFS of (C, L); None where it cannot be measured."""
    if waveform.shape[-1] < GATE_SECONDS * sample_rate or len(waveform) > MAX_CHANNELS:
        return None
    measured = lufs(waveform, sample_rate)
    return measured if np.isfinite(measured) else None


def _check_level(audio: Audio) -> dict[str, str]:
    checks = {}
    wave = audio.waveform[0].numpy()
    loudness = loudness_of(audio.waveform[0], audio.sample_rate)
    if loudness is not None and loudness < _QUIET_LUFS:
        checks["quiet"] = f"The sound is at {loudness:.0f} LUFS, far under what models are used to."
    constant = dc_dbfs(wave)
    if constant > _DC_DBFS:
        checks["dc"] = f"The wave has a constant part of {constant:.0f} dBFS, which is not heard but learned."
    snr = background_snr(wave, audio.sample_rate)
    if snr is not None and snr < _LEAST_SNR_DB:
        checks["noise"] = f"The sound is only {snr:.0f} dB above what is heard in its pauses."
    return checks


def _check_likeness(entry: Entry, audio: Audio, pictures: list[tuple[str, Picture]]) -> dict[str, str]:
    """Whether the sound is a copy, or was coded with loss; its picture joins those of the sounds before."""
    checks = {}
    picture = mel_picture(audio)
    # A variant of a clip at another level is no accident.
    others = [(name, other) for name, other in pictures if variant_of(name) != variant_of(entry.id)]
    twin = next((name for name, other in others if picture.is_copy_of(other)), None)
    if twin is not None:
        checks["duplicate"] = f"This is the same sound as {twin}. Keep one of them."
    pictures.append((entry.id, picture))
    if entry.audio is not None and entry.audio.suffix.lower() in _LOSSY:
        checks["lossy"] = f"{entry.audio.name} is coded with loss. Train on wav or flac if you can."
    return checks


def _check_picture(entry: Entry, audio: Audio, on_progress: ProgressFn) -> dict[str, str]:
    """What the picture tells: cuts in it, and a sound that is off its time. Nothing where there is none."""
    if entry.video is None:
        return {}
    try:
        motion = see_motion(entry.video, on_progress=on_progress)
    except (InputError, MediaError, MissingFileError):
        return {"picture": f"{entry.video.name} cannot be read. Prepare the clip again."}
    checks = {}
    cuts = find_cuts(motion)
    if cuts:
        times = ", ".join(f"{time:.2f}" for time in cuts[:3])
        checks["cut"] = f"The picture changes altogether at {times} s; each part should be a clip of its own."
    wave = audio.waveform[0].mean(dim=0).numpy()
    offset = sound_offset(motion, wave, audio.sample_rate)
    if offset is not None and abs(offset) >= _LEAST_OFFSET:
        side = "after" if offset > 0 else "before"
        checks["sync"] = f"The sound seems to come {abs(offset):.2f} s {side} the motion. Look at it."
    return checks


def _read_sound(entry: Entry) -> tuple[dict[str, str], Audio | None]:
    if entry.audio is None:
        return {"no_sound": f"There is no sound file beside the features of {entry.id}."}, None
    try:
        return {}, read_audio(entry.audio)
    except (MediaError, MissingFileError) as error:
        return {"no_sound": str(error)}, None


def _check_features(entry: Entry) -> tuple[dict[str, str], tuple[int, int] | None]:
    if entry.npz is None:
        return {"features": f"There is no feature file of {entry.id}."}, None
    try:
        features = load_features(entry.npz)
    except (CheckpointError, MissingFileError) as error:
        return {"features": str(error)}, None
    if not bool(torch.isfinite(features.sync).all() and torch.isfinite(features.clip).all()):
        return {"features": f"{entry.npz.name} holds NaN or infinite numbers. Extract it again."}, None
    return {}, (features.clip.shape[2], features.sync.shape[2])
