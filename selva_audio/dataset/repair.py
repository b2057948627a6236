"""What can be mended in a sound without moving anything in time: constant part, rate, level."""

from ..media.audio import resample
from ..media.loudness import normalize
from ..records import Audio
from .measures import dc_dbfs

TARGET_LUFS, CEILING_DBTP = -23.0, -1.0
_WORTH_SAYING_DBFS = -60.0


def repair_sound(audio: Audio, sample_rate: int) -> tuple[Audio, tuple[str, ...]]:
    """Take the constant part out, bring the sound down to a rate, and to -23 LUFS under -1 dBTP.

    A lower rate than ``sample_rate`` is kept: going up adds nothing. What is clipped, noisy or coded with
    loss stays so.

    Args:
        audio: one take.
        sample_rate: hertz of the model.

    Returns:
        The sound, and sentences about what was done besides level and rate.
    """
    wave = audio.waveform[0]
    notes = []
    constant = dc_dbfs(wave.numpy())
    if constant > _WORTH_SAYING_DBFS:
        notes.append(f"A constant part of {constant:.0f} dBFS was taken out.")
    wave = wave - wave.double().mean(dim=1, keepdim=True).float()
    rate = min(audio.sample_rate, sample_rate)
    wave = resample(wave, audio.sample_rate, rate)
    wave, note = normalize(wave, rate, "lufs", TARGET_LUFS, CEILING_DBTP)
    return Audio(wave[None], rate), (*notes, *([note] if note else []))
