"""Variants of sounds: other levels, pitches and lengths, each a function of (seed, name, number) alone."""

import hashlib
from dataclasses import replace

import numpy as np

from ..media.loudness import guard_peak
from ..media.stretch import shift_pitch, stretch_time
from ..options import AugmentOptions
from ..progress import ProgressFn, ignore_progress, subtask
from ..records import Audio
from .sounds import SoundClip, SoundSet, free_name

_CEILING_DBTP = -1.0


def augment_sounds(
    sounds: SoundSet, options: AugmentOptions | None = None, *, on_progress: ProgressFn = ignore_progress
) -> SoundSet:
    """Each sound, if it is kept, and its variants ``NAME_aug00``, ``NAME_aug01``, ...

    What a variant gets does not depend on the other sounds, nor on their order. Level and pitch leave events
    at their times, so that the features of the origin fit; a stretched variant carries its ``stretch``, by
    which it is known that they do not.

    Args:
        sounds: any number.
        options: how many variants, and how far they may go.
        on_progress: progress and cancel.
    """
    chosen = options or AugmentOptions()
    steps = len(sounds) * chosen.variants_per_clip
    names = [sound.name for sound in sounds.sounds]
    made: list[SoundClip] = []
    for place, sound in enumerate(sounds.sounds):
        if chosen.keep_originals:
            made.append(sound)
        for number in range(chosen.variants_per_clip):
            done = place * chosen.variants_per_clip + number
            share = subtask(on_progress, done / steps, (done + 1) / steps)
            name = free_name(f"{sound.name}_aug{number:02d}", names)
            names.append(name)
            made.append(_variant(sound, number, name, chosen, share))
    return SoundSet(tuple(made), _notes(chosen))


def _variant(
    sound: SoundClip, number: int, name: str, options: AugmentOptions, on_progress: ProgressFn
) -> SoundClip:
    # One draw of each kind whatever the ranges, so that a wider one changes that kind alone.
    gain_db, semitones, growth = _stream(options.seed, sound.name, number).uniform(-1, 1, 3)
    audio, rate = sound.audio, sound.audio.sample_rate
    before = audio.waveform[0].float()
    wave = shift_pitch(
        before,
        rate,
        float(semitones) * options.pitch_range_semitones,
        on_progress=subtask(on_progress, 0, 0.4),
    )
    factor = 1 + float(growth) * options.time_stretch_range
    wave = stretch_time(wave, rate, factor, on_progress=subtask(on_progress, 0.4, 0.8))
    wave = wave * 10 ** (float(gain_db) * options.gain_range_db / 20)
    wave, _ = guard_peak(wave, _CEILING_DBTP, original=before, on_progress=subtask(on_progress, 0.8, 1))
    return replace(
        sound,
        audio=Audio(wave[None], rate),
        name=name,
        origin_name=sound.origin,
        stretch=sound.stretch * factor,
    )


def _stream(seed: int, name: str, number: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}/{number}/{name}".encode(errors="surrogatepass")).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)))


def _notes(options: AugmentOptions) -> tuple[str, ...]:
    notes = []
    if options.time_stretch_range:
        notes.append(
            "Stretched variants have their events at other times than the picture: the features of their "
            "origins do not fit them, and are not saved with them."
        )
    if not (options.gain_range_db or options.pitch_range_semitones or options.time_stretch_range):
        notes.append("All ranges are 0, so every variant is a copy.")
    return tuple(notes)
