"""Sounds of objects: decaying tones and short bursts for impacts, a hum for turning.

Everything is 16 kHz float32. A stem is exact: the mixture of a scene is the sum of its stems.

Every sound is an envelope on waves that repeat every ``PERIOD`` samples, one frame of the demo's log-mel, and
whose phase is that of the clip's clock. A small vocoder without noise answers a steady mel with a sound that
repeats every frame; so these are the sounds that it can hold, and a mel tells it the waveform itself.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .materials import Material
from .motion import TOP_SPEED, Turning

SAMPLE_RATE = 16000
PERIOD = 256
# Keeps silence off the floor of the logarithmic mel.
ROOM_TONE = 2e-4
_GAIN = 0.35
_ATTACK = 0.0008
_FADE = 0.01
_LONGEST = 0.9
_GLIDE_TIME = 0.02
_TURNING_GAIN = 0.12
_KNOT_SAMPLES = 64

Wave = NDArray[np.float32]


def impact(material: Material, loudness: float, pitch: float, rng: np.random.Generator, first: int) -> Wave:
    """One impact from its first sample on.

    Args:
        material: what hits.
        loudness: 0 to 1, a factor on the amplitude.
        pitch: factor on every frequency, before it is tuned.
        rng: draws small differences between impacts.
        first: the sample of the clip at which it begins.
    """
    longest = max([decay for _, _, decay in material.partials] + [material.noise[3]])
    count = int(min(_LONGEST, 7 * longest + 0.02) * SAMPLE_RATE)
    index = np.arange(count)
    times = index / SAMPLE_RATE
    # The pitch falls from glide to 1; its integral is the phase.
    lead = (material.glide - 1) * _GLIDE_TIME * (1 - np.exp(-times / _GLIDE_TIME))
    low, high, amplitude, decay = material.noise
    wave = amplitude * np.exp(-times / decay) * _texture(low, high)[(first + index) % PERIOD]
    for hertz, level, decay in material.partials:
        tone = _tone(hertz * pitch, first / SAMPLE_RATE + times + lead)
        wave += level * rng.uniform(0.8, 1.2) * np.exp(-times / decay) * tone
    ends = np.clip(times / _ATTACK, 0, 1) * np.clip((times[-1] - times) / _FADE, 0, 1)
    return np.asarray(_GAIN * loudness * ends * wave, dtype=np.float32)


def turning_sound(material: Material, motion: Turning, num_samples: int, pitch: float) -> Wave:
    """Steady tones whose amplitude is proportional to the speed."""
    knots = np.arange(0, num_samples + _KNOT_SAMPLES, _KNOT_SAMPLES)
    speed = np.interp(np.arange(num_samples), knots, motion.speed(knots / SAMPLE_RATE)) / TOP_SPEED
    times = np.arange(num_samples) / SAMPLE_RATE
    wave = np.zeros(num_samples)
    for hertz, level, _ in material.partials:
        wave += level * _tone(hertz * pitch, times)
    return np.asarray(_TURNING_GAIN * speed * wave, dtype=np.float32)


def room_tone(num_samples: int) -> Wave:
    """Hum of standard deviation ``ROOM_TONE`` with all harmonics of one period; the same in every stem."""
    return np.resize(_hum(), num_samples)


@lru_cache
def _hum() -> Wave:
    return (ROOM_TONE * _texture(0.0, SAMPLE_RATE / 2)).astype(np.float32)


@lru_cache
def _texture(low: float, high: float) -> NDArray[np.float64]:
    """One period of noise between two frequencies in hertz, of unit power."""
    hertz = np.arange(PERIOD // 2 + 1) * SAMPLE_RATE / PERIOD
    inside = (hertz > max(low, 0)) & (hertz < min(high, SAMPLE_RATE / 2))
    wave = np.fft.irfft(inside * np.exp(1j * _phases()))
    return np.asarray(wave / wave.std())


def _tone(hertz: float, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of the harmonic nearest to ``hertz``."""
    step = SAMPLE_RATE / PERIOD
    harmonic = max(1, round(hertz / step))
    return np.asarray(np.cos(2 * np.pi * harmonic * step * times + _phases()[harmonic]))


@lru_cache
def _phases() -> NDArray[np.float64]:
    """Phase of each harmonic, in radians; noise and tones share it."""
    return 2 * np.pi * np.random.default_rng(0).random(PERIOD // 2 + 1)
