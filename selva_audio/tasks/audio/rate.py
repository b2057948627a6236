"""Another sample rate, with soxr at its very high quality. It needs no model."""

from dataclasses import dataclass

from torch import Tensor

from ...media.audio import resample
from ...options import ResampleOptions
from ...progress import ProgressFn, ignore_progress
from ...records import Audio
from .processed import Processed, for_each_take


@dataclass(frozen=True, slots=True)
class ResampleReport:
    """What resampling did.

    Attributes:
        rate_before: hertz.
        rate_after: hertz.
    """

    rate_before: int
    rate_after: int

    @property
    def sentence(self) -> str:
        """The report in words."""
        if self.rate_before == self.rate_after:
            return f"The sound has {self.rate_after} Hz already."
        return f"From {self.rate_before} to {self.rate_after} Hz."


def resample_audio(
    audio: Audio, options: ResampleOptions | None = None, *, on_progress: ProgressFn = ignore_progress
) -> Processed[ResampleReport]:
    """Bring a sound to a sample rate.

    Raises:
        InputError: an empty sound, or samples that are not finite.
    """
    wanted = (options or ResampleOptions()).target_sr

    def tool(take: Tensor, on_take: ProgressFn) -> tuple[Tensor, ResampleReport, list[str]]:
        report = ResampleReport(audio.sample_rate, wanted)
        notes = []
        if wanted > audio.sample_rate:
            notes.append(
                f"A higher rate adds nothing: there is no sound above {audio.sample_rate // 2} Hz in it."
            )
        return resample(take, audio.sample_rate, wanted), report, notes

    return for_each_take(audio, tool, on_progress=on_progress, sample_rate=wanted)
