"""The parallel compressor: what is loud turned down, mixed with the sound as it was. It needs no model."""

from dataclasses import dataclass

from torch import Tensor

from ...media import dynamics
from ...media.loudness import rms_dbfs
from ...options import CompressOptions
from ...progress import ProgressFn, ignore_progress
from ...records import Audio
from .processed import Processed, finite_or_none, for_each_take


@dataclass(frozen=True, slots=True)
class CompressReport:
    """What compressing did.

    Attributes:
        deepest_gain_db: of the compressed part before it is mixed, 0 or less.
        level_change_db: RMS level after less before; None for silence.
    """

    deepest_gain_db: float
    level_change_db: float | None

    @property
    def sentence(self) -> str:
        """The report in words."""
        if self.deepest_gain_db == 0 or self.level_change_db is None:
            return "Nothing was above the threshold, or nothing mixed in: the sound is as it was."
        return (
            f"Turned down by up to {-self.deepest_gain_db:.1f} dB before mixing; the level fell by "
            f"{-self.level_change_db:.1f} dB."
        )


def compress(
    audio: Audio, options: CompressOptions | None = None, *, on_progress: ProgressFn = ignore_progress
) -> Processed[CompressReport]:
    """Turn down what is above a level, the same in all channels, and mix it with the sound as it was.

    Nothing gets louder; bring the result to a level with ``normalize_output``.

    Raises:
        InputError: an empty sound, or samples that are not finite.
    """
    chosen = options or CompressOptions()

    def tool(take: Tensor, on_take: ProgressFn) -> tuple[Tensor, CompressReport, list[str]]:
        done, deepest = dynamics.compress(
            take,
            audio.sample_rate,
            threshold_db=chosen.threshold_db,
            ratio=chosen.ratio,
            attack_ms=chosen.attack_ms,
            release_ms=chosen.release_ms,
            mix=chosen.mix,
            on_progress=on_take,
        )
        change = finite_or_none(rms_dbfs(done) - rms_dbfs(take)) if bool(take.any()) else None
        return done, CompressReport(deepest, change), []

    return for_each_take(audio, tool, on_progress=on_progress)
