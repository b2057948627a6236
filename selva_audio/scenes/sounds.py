"""Sounds of objects: decaying tones and bursts of noise for impacts, filtered noise for turning.

Everything is 16 kHz float32. A stem is exact: the mixture of a scene is the sum of its stems.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from .materials import Material
from .motion import TOP_SPEED, Turning

SAMPLE_RATE = 16000
# Keeps silence off the floor of the logarithmic mel.
ROOM_TONE = 2e-4
_GAIN = 0.35
_ATTACK = 0.0008
_LONGEST = 0.9
_GLIDE_TIME = 0.02
_TURNING_GAIN = 0.12
_KNOT_SAMPLES = 64

Wave = NDArray[np.float32]


def impact(material: Material, loudness: float, pitch: float, rng: np.random.Generator) -> Wave:
    """One impact from its first sample on.

    Args:
        material: what hits.
        loudness: 0 to 1, a factor on the amplitude.
        pitch: factor on every frequency.
        rng: draws phases, small differences between impacts, and noise.
    """
    longest = max([decay for _, _, decay in material.partials] + [material.noise[3]])
    count = int(min(_LONGEST, 7 * longest + 0.02) * SAMPLE_RATE)
    times = np.arange(count) / SAMPLE_RATE
    # The pitch falls from glide to 1; its integral is the phase.
    warped = times + (material.glide - 1) * _GLIDE_TIME * (1 - np.exp(-times / _GLIDE_TIME))
    wave = np.zeros(count)
    for hertz, amplitude, decay in material.partials:
        phase, level = rng.uniform(0, 2 * np.pi), amplitude * rng.uniform(0.8, 1.2)
        wave += level * np.exp(-times / decay) * np.sin(2 * np.pi * hertz * pitch * warped + phase)
    low, high, amplitude, decay = material.noise
    burst = sosfilt(_band(low, high), rng.standard_normal(count))
    wave += amplitude * np.exp(-times / decay) * burst
    attack = np.clip(times / _ATTACK, 0, 1)
    return (_GAIN * loudness * attack * wave).astype(np.float32)


def turning_sound(
    material: Material, motion: Turning, num_samples: int, pitch: float, rng: np.random.Generator
) -> Wave:
    """Noise and hum whose amplitude is proportional to the speed."""
    knots = np.arange(0, num_samples + _KNOT_SAMPLES, _KNOT_SAMPLES)
    speed = np.interp(np.arange(num_samples), knots, motion.speed(knots / SAMPLE_RATE)) / TOP_SPEED
    low, high, amplitude, _ = material.noise
    noise = sosfilt(_band(low, high), rng.standard_normal(num_samples))
    wave = amplitude * noise
    for hertz, level, _ in material.partials:
        phase = np.cumsum(2 * np.pi * hertz * pitch * (0.6 + 0.8 * speed) / SAMPLE_RATE)
        wave = wave + level * np.sin(phase + rng.uniform(0, 2 * np.pi))
    turning: Wave = (_TURNING_GAIN * speed * wave).astype(np.float32)
    return turning


def room_tone(num_samples: int, rng: np.random.Generator) -> Wave:
    """White noise of standard deviation ``ROOM_TONE``."""
    return (ROOM_TONE * rng.standard_normal(num_samples, dtype=np.float32)).astype(np.float32)


@lru_cache
def _band(low: float, high: float) -> NDArray[np.float64]:
    """Second-order band-pass, scaled to unit power for white noise."""
    sections = np.array(butter(2, (low, high), "bandpass", fs=SAMPLE_RATE, output="sos"))
    response = sosfilt(sections, np.eye(1, 4096)[0])
    sections[0, :3] /= np.sqrt(np.sum(response**2))
    return sections
