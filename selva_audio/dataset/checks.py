"""What can be wrong with the clips of a data set: checks that need no more than its files.

Letters: C channels, L samples, M mel bands, F mel frames.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import signal

from ..configs import get_config
from ..errors import CheckpointError, MediaError, MissingFileError
from ..features import load_features
from ..media.audio import read_audio, resample
from ..models.mel import mel_spectrogram
from ..records import Audio
from .record import Entry

Array = NDArray[np.float64]

# Loudest stretch of 50 ms under which a clip counts as silent.
_SILENCE_DBFS = -60.0
_BLOCK_SECONDS = 0.05
# Neighbouring samples of exactly one value near the peak: what is left of a wave cut off at a level.
_FLAT_RUN, _FLAT_SAMPLES, _FLAT_SHARE, _LEAST_PEAK = 4, 12, 1e-4, 0.25
# A codec or an upsampling ends the spectrum like a wall: decibels from below to above it.
_WALL_DB, _LEAST_WALL_HZ = 35.0, 3000.0
_MEL = get_config("small_16k").mel
_MEL_RANGE_DB = 60.0
# Copies that went through a lossy codec differ by about 1 dB, two takes of one steady noise by over 3.
_SAME_DB = 1.5
_FRAMES_APART, _PROFILE_SLACK_DB = 4, 1.0


@dataclass(frozen=True, slots=True)
class Picture:
    """The mel of a clip, by which copies are known again.

    Attributes:
        mel: (M, F) decibels below its peak, cut at -60.
        profile: (M,) its mean over time.
    """

    mel: NDArray[np.int8]
    profile: NDArray[np.float64]

    def is_copy_of(self, other: "Picture") -> bool:
        """Whether both are the same sound from the same moment on, at any level."""
        # No further apart in the mean of a band than they are in its cells, whose mean is wanted.
        if float(np.abs(self.profile - other.profile).mean()) > _SAME_DB + _PROFILE_SLACK_DB:
            return False
        lengths = self.mel.shape[1], other.mel.shape[1]
        if abs(lengths[0] - lengths[1]) > _FRAMES_APART:
            return False
        first, second = (each.mel[:, : min(lengths)].astype(np.float32) for each in (self, other))
        heard = np.maximum(first, second) > -_MEL_RANGE_DB
        return bool(heard.any()) and float(np.abs(first - second)[heard].mean()) < _SAME_DB


def check_entries(entries: Iterable[Entry], settings: Mapping[str, float]) -> Iterator[Entry]:
    """The entries, each with ``checks`` made anew from its files.

    Args:
        entries: any; a copy is found by comparison with those before it.
        settings: ``shortest`` seconds (0 = any) and ``sample_rate`` of the model (0 = not known).
    """
    pictures: list[tuple[str, Picture]] = []
    widths: tuple[int, int] | None = None
    for entry in entries:
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
            if not {"silence", "no_sound"} & checks.keys():
                picture = mel_picture(audio)
                twin = next((name for name, other in pictures if picture.is_copy_of(other)), None)
                if twin is not None:
                    checks["duplicate"] = f"This is the same sound as {twin}. Keep one of them."
                pictures.append((entry.id, picture))
        yield replace(entry, checks=checks)


def check_sound(audio: Audio, settings: Mapping[str, float]) -> dict[str, str]:
    """Findings in one sound, by the name of the check."""
    wave = audio.waveform[0].numpy()  # (C, L)
    if not np.isfinite(wave).all():
        return {"no_sound": "The sound holds NaN or infinite samples. Export it again."}
    checks = {}
    shortest, wanted = settings.get("shortest", 0.0), settings.get("sample_rate", 0.0)
    if audio.duration < shortest - 1e-2:
        checks["short"] = f"{audio.duration:.2f} s are under the {shortest:g} s that were asked for."
    level = _loudest(wave, audio.sample_rate)
    if level < _SILENCE_DBFS:
        checks["silence"] = f"The sound is silent: at its loudest {level:.0f} dBFS."
        return checks
    flat = _flat_samples(wave)
    if flat >= max(_FLAT_SAMPLES, _FLAT_SHARE * wave.shape[1]):
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
    return checks


def mel_picture(audio: Audio) -> Picture:
    """What ``Picture`` holds of a sound of any rate."""
    mono = audio.waveform[0].mean(dim=0)
    wave = resample(mono, audio.sample_rate, _MEL.sample_rate)
    wave = torch.nn.functional.pad(wave, (0, max(_MEL.n_fft - len(wave), 0)))
    decibels = 20 * mel_spectrogram(wave[None], _MEL)[0].numpy()
    levels = np.maximum(decibels - decibels.max(), -_MEL_RANGE_DB).round().astype(np.int8)
    return Picture(levels, levels.mean(axis=1))


def band_limit(wave: NDArray[np.float32], sample_rate: int) -> float | None:
    """Hertz at which a wide-band spectrum ends like a wall; None where it does not.

    A sound that has no more to say up there fades out, or stands in single lines with gaps between; only
    a filter ends a dense spectrum within a few hundred hertz.

    Args:
        wave: (L,).
        sample_rate: hertz.
    """
    size = 2048
    if len(wave) < 4 * size or sample_rate < 4 * _LEAST_WALL_HZ:
        return None
    hertz, power = signal.welch(wave.astype(np.float64), sample_rate, nperseg=size)
    levels = 10 * np.log10(power + 1e-20)
    step = hertz[1]
    reach, gap = round(1200 / step), round(200 / step)
    best: tuple[float, float] | None = None
    for place in range(round(_LEAST_WALL_HZ / step), len(levels) - round(600 / step)):
        below, above = levels[place - gap - reach : place - gap], levels[place + gap :]
        drop = float(np.percentile(below, 10) - above.max())
        if drop > _WALL_DB and (best is None or drop > best[0]):
            best = (drop, float(hertz[place]))
    return best[1] if best is not None else None


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


def _loudest(wave: NDArray[np.float32], sample_rate: int) -> float:
    """Level of the loudest block of 50 ms, in dBFS."""
    power = np.square(wave, dtype=np.float64).mean(axis=0)
    block = max(round(_BLOCK_SECONDS * sample_rate), 1)
    sums = np.add.reduceat(power, np.arange(0, len(power), block))
    return float(10 * np.log10(max(float(sums.max()) / min(block, len(power)), 1e-20)))


def _flat_samples(wave: NDArray[np.float32]) -> int:
    """Samples in runs of equal neighbours at the peak, over all channels."""
    count = 0
    for channel in np.abs(wave):
        peak = float(channel.max())
        if peak < _LEAST_PEAK:
            continue
        same = (np.diff(channel) == 0) & (channel[1:] >= 0.98 * peak)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], same.astype(np.int8), [0]))))
        runs = edges[1::2] - edges[::2] + 1
        count += int(runs[runs >= _FLAT_RUN].sum())
    return count
