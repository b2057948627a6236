"""Levels: RMS, loudness, true peak, and bringing a sound to a target.

Source: ITU-R BS.1770-5 for loudness and true peak (4 times oversampled).
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import pyloudnorm
import torch
from numpy.typing import NDArray
from scipy import signal

from ..errors import GenerationError, InputError
from ..progress import Progress, ProgressFn, ignore_progress, subtask

if TYPE_CHECKING:
    from torch import Tensor

# Loudest stretch of 50 ms under which a sound counts as silent. The rounding of bf16 is at -67.
SILENCE_DBFS = -60.0
BLOCK_SECONDS = 0.05
GATE_SECONDS = 0.4
MAX_CHANNELS = 5
_NOTHING_DBFS = -200.0
_WORTH_SAYING = 0.05
_OVERSAMPLING = 4
_BLOCK = 2**19
# Covers the half length (40 samples at 4 times) of scipy's default interpolation filter.
_MARGIN = 64


def normalize(
    waveform: "Tensor", sample_rate: int, mode: str, target: float, ceiling: float
) -> tuple["Tensor", str | None]:
    """Bring a sound to a target level, then turn it down as a whole to the true-peak ceiling.

    Args:
        waveform: (C, L) float32.
        sample_rate: hertz.
        mode: what ``target`` means: "rms" (dBFS), "lufs", "peak" (dBFS of the largest sample), or "none".
        target: level to reach.
        ceiling: highest true peak, dBTP.

    Returns:
        The scaled waveform and a sentence to show, or None. Silence and mode "none" come back unchanged.

    Raises:
        GenerationError: a sample is NaN or infinite.
        InputError: an unknown mode.
    """
    if mode not in ("rms", "lufs", "peak", "none"):
        raise InputError(f"Unknown loudness mode {mode!r}. Use rms, lufs, peak or none.")
    if not bool(torch.isfinite(waveform).all()):
        raise GenerationError(
            "The sound holds NaN or infinite samples, so it has no level. Try precision fp32 or another seed."
        )
    if mode == "none":
        return waveform, None
    loudness, note = _level(waveform, sample_rate, mode)
    if is_silent(waveform, sample_rate) or not math.isfinite(loudness):
        return waveform, (
            f"The sound is silent ({_shown(rms_dbfs(waveform))} dBFS RMS), so its level was left as it is. "
            "Try another prompt or seed."
        )
    gain = target - loudness
    peak = true_peak_dbtp(waveform) + gain
    if peak > ceiling:
        gain -= peak - ceiling
    if peak - ceiling > _WORTH_SAYING:
        note = (
            f"The sound was turned down by {peak - ceiling:.1f} dB to keep its true peak at {ceiling:g} "
            f"dBTP, so it is below the target of {target:g}."
        )
    return waveform * 10 ** (gain / 20), note


def guard_peak(
    waveform: "Tensor", ceiling: float, *, original: "Tensor", on_progress: ProgressFn = ignore_progress
) -> tuple["Tensor", float]:
    """Turn a processed sound down as a whole where processing took its true peak past a ceiling.

    Args:
        waveform: (C, L) float32.
        ceiling: highest true peak, dBTP; a sound that came in above it may stay as high as it was.
        original: (C, L) what ``waveform`` was made from.
        on_progress: progress and cancel.

    Returns:
        The waveform, itself where nothing had to be done, and the gain in dB, 0 or less.
    """
    peak = true_peak_dbtp(waveform, on_progress=subtask(on_progress, 0, 0.5))
    if peak <= ceiling:
        return waveform, 0.0
    excess = peak - max(ceiling, true_peak_dbtp(original, on_progress=subtask(on_progress, 0.5, 1)))
    if excess <= 0:
        return waveform, 0.0
    return waveform * 10 ** (-excess / 20), -excess


def level(waveform: "Tensor", sample_rate: int, mode: str) -> float:
    """Level of (C, L) in the unit of ``mode``: "rms", "lufs" or "peak"; -inf where there is none."""
    if mode == "lufs":
        return lufs(waveform, sample_rate)
    return peak_dbfs(waveform) if mode == "peak" else rms_dbfs(waveform)


def is_silent(waveform: "Tensor", sample_rate: int) -> bool:
    """Whether no 50 ms of (C, L) reach -60 dBFS RMS: steady rounding noise is silence, one click is not."""
    if not waveform.numel():
        return True
    return float(block_levels(waveform.detach().cpu().numpy(), sample_rate).max()) < SILENCE_DBFS


def block_levels(wave: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """RMS level of every 50 ms in dBFS, all channels together; -200 for digital silence."""
    power = np.square(wave, dtype=np.float64).mean(axis=0)
    block = max(round(BLOCK_SECONDS * sample_rate), 1)
    starts = np.arange(0, len(power), block)
    counts = np.diff(np.append(starts, len(power)))
    means = np.add.reduceat(power, starts) / counts
    # A last block of a few samples would count as much as a whole one.
    if len(means) > 1 and counts[-1] < block / 2:
        means = means[:-1]
    return np.asarray(10 * np.log10(np.maximum(means, 10 ** (_NOTHING_DBFS / 10))))


def rms_dbfs(waveform: "Tensor") -> float:
    """Root mean square over all channels and samples, dB relative to 1.0; -inf for digital silence."""
    return _decibels(float(waveform.double().square().mean().sqrt()) if waveform.numel() else 0.0)


def peak_dbfs(waveform: "Tensor") -> float:
    """Largest sample, dB relative to 1.0; -inf for digital silence."""
    return _decibels(float(waveform.abs().max()) if waveform.numel() else 0.0)


def lufs(waveform: "Tensor", sample_rate: int) -> float:
    """Integrated loudness; -inf if everything is below the gate.

    Args:
        waveform: (C, L), at most 5 channels.
        sample_rate: hertz.

    Raises:
        InputError: shorter than one 0.4 s block, or more than 5 channels.

    Source: ITU-R BS.1770-5, by pyloudnorm.
    """
    channels, length = waveform.shape
    if length < GATE_SECONDS * sample_rate or channels > MAX_CHANNELS:
        raise InputError(
            f"Loudness needs {GATE_SECONDS} s of sound in 1 to {MAX_CHANNELS} channels, not "
            f"{length / sample_rate:.2f} s in {channels}. Use the mode rms instead."
        )
    if not bool(waveform.any()):
        return -math.inf
    meter = pyloudnorm.Meter(sample_rate)
    return float(meter.integrated_loudness(waveform.double().T.numpy()))


def true_peak_dbtp(waveform: "Tensor", *, on_progress: ProgressFn = ignore_progress) -> float:
    """Largest value of the waveform between its samples, dB relative to 1.0; -inf for digital silence.

    Args:
        waveform: (C, L).
        on_progress: called every few seconds of sound.
    """
    samples = waveform.float().numpy()
    largest = float(np.abs(samples).max()) if samples.size else 0.0
    for begin in range(0, samples.shape[-1], _BLOCK):
        on_progress(Progress("measuring the peak", begin, samples.shape[-1]))
        first = max(begin - _MARGIN, 0)
        block = samples[:, first : begin + _BLOCK + _MARGIN]
        upsampled = signal.resample_poly(block, _OVERSAMPLING, 1, axis=-1)
        inner = upsampled[:, (begin - first) * _OVERSAMPLING :][:, : _BLOCK * _OVERSAMPLING]
        largest = max(largest, float(np.abs(inner).max()))
    return _decibels(largest)


def _level(waveform: "Tensor", sample_rate: int, mode: str) -> tuple[float, str | None]:
    seconds = waveform.shape[-1] / sample_rate
    if mode == "lufs" and seconds < GATE_SECONDS:
        return rms_dbfs(waveform), (
            f"{seconds:.2f} s are too short to measure LUFS (0.4 s at least); the RMS level was used instead."
        )
    # The absolute gate of LUFS leaves out blocks of a quiet sound that count once it is raised: measured at
    # full scale, the level does not depend on the gain that it is measured for.
    peak = float(waveform.abs().max()) if waveform.numel() else 0.0
    scale = peak if mode == "lufs" and peak > 0 else 1.0
    return level(waveform / scale, sample_rate, mode) + _decibels(scale), None


def _decibels(value: float) -> float:
    return 20 * math.log10(value) if value > 0 else -math.inf


def _shown(level: float) -> str:
    return f"{level:.0f}" if math.isfinite(level) else "-inf"
