"""What every audio tool gives back, and how one is run over all takes of a sound."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ...errors import InputError
from ...progress import Progress, ProgressFn, subtask
from ...records import Audio

Report = TypeVar("Report")


@dataclass(frozen=True, slots=True)
class Processed(Generic[Report]):
    """A sound that a tool has worked on.

    Attributes:
        audio: (B, C, L); its ``notes`` are sentences the user should see.
        reports: one per take, with a ``sentence`` that says it in words.
    """

    audio: Audio
    reports: tuple[Report, ...]


def for_each_take(
    audio: Audio,
    tool: Callable[[Tensor, ProgressFn], tuple[Tensor, Report, list[str]]],
    *,
    on_progress: ProgressFn,
    sample_rate: int | None = None,
) -> Processed[Report]:
    """Run ``tool`` on every take by itself, so that each is what it would be alone.

    Args:
        audio: B takes.
        tool: from a waveform (C, L) to the new one, its report, and notes.
        on_progress: progress and cancel.
        sample_rate: hertz of what ``tool`` gives; default: that of ``audio``.

    Raises:
        InputError: no samples, or a sample that is NaN or infinite.
    """
    waveform = audio.waveform.detach().cpu().float()
    if waveform.numel() == 0:
        raise InputError(f"The sound is empty: {tuple(waveform.shape)}. Give at least one sample.")
    if not bool(torch.isfinite(waveform).all()):
        raise InputError("The sound holds NaN or infinite samples. Make or export it again.")
    takes, reports, notes = [], [], list(audio.notes)
    for index, take in enumerate(waveform):
        share = subtask(on_progress, index / len(waveform), (index + 1) / len(waveform))
        share(Progress("processing", 0, 1))
        done, report, said = tool(take, share)
        share(Progress("processing", 1, 1))
        takes.append(done)
        reports.append(report)
        notes += [f"Take {index + 1}: {note}" if len(waveform) > 1 else note for note in said]
    rate = sample_rate or audio.sample_rate
    return Processed(Audio(torch.stack(takes), rate, notes=tuple(notes)), tuple(reports))


def finite_or_none(value: float) -> float | None:
    """``value`` as reports hold it: None for the -inf of silence, which JSON cannot say."""
    return value if math.isfinite(value) else None
