"""A sound through the model's VAE and vocoder and back: what of it the model can say at all.

Letters: C channels, L samples, M mel bands, F mel frames.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ...bundle import SelVAModel
from ...configs import TRAINED_DURATION
from ...errors import GenerationError
from ...evaluation.comparison import (
    Loss,
    centroid_hz,
    find_lag,
    mel_loss,
    shifted,
    spectral_distances,
)
from ...flow.windows import join_windows, plan_windows
from ...media.audio import resample
from ...media.loudness import rms_dbfs
from ...models.bigvgan import vocode_in_chunks
from ...options import RoundtripOptions
from ...progress import Progress, ProgressFn, ignore_progress, subtask
from ...records import Audio
from ...synthesis import MIN_DURATION
from .processed import Processed, for_each_take


@dataclass(frozen=True, slots=True)
class RoundtripReport:
    """What one take lost on its way.

    Attributes:
        sample_rate: hertz of the result and of everything measured.
        whole: VAE and vocoder together.
        vae: the mel before and after the VAE; None unless asked for.
        vocoder: the sound's own mel through the vocoder, the best that any latent could give; None unless
            asked for.
        centroid_before_hz: median spectral centroid before; None for silence.
        centroid_after_hz: the same, after.
        centroid_shift_octaves: between them.
        level_change_db: RMS level after less before; None for silence.
        lag_seconds: how late the vocoder's sound was; it has been moved back by that.
    """

    sample_rate: int
    whole: Loss
    vae: Loss | None
    vocoder: Loss | None
    centroid_before_hz: float | None
    centroid_after_hz: float | None
    centroid_shift_octaves: float | None
    level_change_db: float | None
    lag_seconds: float

    @property
    def sentence(self) -> str:
        """The report in words."""
        lines = [_words("Round trip", self.whole)]
        if self.vae is not None and self.vocoder is not None:
            lines += [_words("VAE alone", self.vae), _words("vocoder alone", self.vocoder)]
        if self.level_change_db is not None:
            lines.append(f"level {self.level_change_db:+.1f} dB")
        if self.centroid_shift_octaves is not None:
            lines.append(f"brightness {self.centroid_shift_octaves:+.2f} octaves")
        return "; ".join(lines) + "."


@torch.no_grad()
def roundtrip(
    model: SelVAModel,
    audio: Audio,
    options: RoundtripOptions | None = None,
    *,
    on_progress: ProgressFn = ignore_progress,
) -> Processed[RoundtripReport]:
    """Encode (at the mode of the latents), decode and vocode a sound, and measure what that lost.

    Nothing is normalized: length and level of the result are the model's own. Each channel goes its own
    way. Long sounds go in overlapping windows, as in generation.

    Returns:
        (B, C, round(L * rate / sample_rate)) at the model's rate.

    Raises:
        InputError: an empty sound, or samples that are not finite.
        GenerationError: the model's numbers are not finite.
    """
    chosen = options or RoundtripOptions()
    rate = model.config.sample_rate

    def tool(take: Tensor, on_take: ProgressFn) -> tuple[Tensor, RoundtripReport, list[str]]:
        original = resample(take, audio.sample_rate, rate)
        made, report = _measured(model, original, split=chosen.split, on_progress=on_take)
        return made, report, []

    result = for_each_take(audio, tool, on_progress=on_progress, sample_rate=rate)
    if audio.sample_rate <= rate:
        return result
    note = (
        f"The model works at {rate} Hz, so what the sound of {audio.sample_rate} Hz held above "
        f"{rate / 2:g} Hz was left out, and nothing was measured there."
    )
    return replace(result, audio=replace(result.audio, notes=(*result.audio.notes, note)))


def _measured(
    model: SelVAModel, original: Tensor, *, split: bool, on_progress: ProgressFn
) -> tuple[Tensor, RoundtripReport]:
    """The sound (C, L) after the round trip, aligned, and the account of it."""
    rate, mel_config = model.config.sample_rate, model.config.mel
    on_vocoder = subtask(on_progress, 0.3, 0.6 if split else 0.9)
    with model.policy.on_device(model.vae, model.vocoder):
        mel, decoded = _through_vae(model, original, on_progress=subtask(on_progress, 0, 0.3))
        made = _vocode(model, decoded, original.shape[-1], on_progress=on_vocoder)
        ceiling = None
        if split:
            ceiling = _vocode(model, mel, original.shape[-1], on_progress=subtask(on_progress, 0.6, 0.9))
    lag = find_lag(original, made, rate)
    made = shifted(made, lag)
    on_progress(Progress("measuring", 95, 100))
    before, after = centroid_hz(original, mel_config), centroid_hz(made, mel_config)
    is_heard = bool(original.any()) and bool(made.any())
    report = RoundtripReport(
        sample_rate=rate,
        whole=_waveform_loss(model, original, mel, made),
        vae=mel_loss(mel.cpu(), decoded.cpu(), mel_config) if split else None,
        vocoder=_waveform_loss(model, original, mel, shifted(ceiling, lag)) if ceiling is not None else None,
        centroid_before_hz=before,
        centroid_after_hz=after,
        centroid_shift_octaves=math.log2(after / before) if before and after else None,
        level_change_db=rms_dbfs(made) - rms_dbfs(original) if is_heard else None,
        lag_seconds=lag / rate,
    )
    return made, report


def _through_vae(model: SelVAModel, waveform: Tensor, *, on_progress: ProgressFn) -> tuple[Tensor, Tensor]:
    """Log-mel (C, M, F) of ``waveform`` (C, L), padded to whole latents, before and after the VAE."""
    config = model.config
    duration = max(waveform.shape[-1] / config.sample_rate, MIN_DURATION)
    windows, total = plan_windows(duration, config), config.lengths(duration)
    samples = 2 * config.mel.hop_length
    padded = functional.pad(waveform, (0, total.samples - waveform.shape[-1]))
    before, after = [], []
    for row in range(len(padded)):
        mels, decoded = [], []
        for index, window in enumerate(windows):
            on_progress(Progress("encoding", row * len(windows) + index, len(padded) * len(windows)))
            stretch = padded[row : row + 1, window.first * samples : window.stop * samples]
            mel = model.mel(stretch.to(model.policy.device))
            mels.append((window, mel))
            decoded.append((window, model.vae.decode(model.vae.encode(mel).mean)))
        before.append(join_windows(mels, total.latent, per_latent=2))
        after.append(join_windows(decoded, total.latent, per_latent=2))
    return torch.cat(before), torch.cat(after)


def _vocode(model: SelVAModel, mel: Tensor, length: int, *, on_progress: ProgressFn) -> Tensor:
    """Waveform (C, L) of mels (C, M, F), cut to ``length``."""
    chunk = round(TRAINED_DURATION * model.config.sample_rate / model.config.mel.hop_length)
    channels = []
    for row in range(len(mel)):
        on_channel = subtask(on_progress, row / len(mel), (row + 1) / len(mel))
        channels.append(
            vocode_in_chunks(model.vocoder, mel[row : row + 1], chunk, on_channel)[0].float().cpu()
        )
    waveform = torch.cat(channels)[:, :length]
    if not bool(waveform.isfinite().all()):
        raise GenerationError(
            f"The round trip gave values that are not finite (precision {model.policy.precision}). "
            "Try --precision fp32, or check the weights with `selva models verify`."
        )
    return waveform


def _waveform_loss(model: SelVAModel, original: Tensor, mel: Tensor, made: Tensor) -> Loss:
    """Loss between two sounds (C, L), given the mel of the first."""
    mel_config = model.config.mel
    padded = functional.pad(made, (0, mel.shape[-1] * mel_config.hop_length - made.shape[-1]))
    distance, octaves = spectral_distances(original, made, mel_config)
    loss = mel_loss(mel.cpu(), _mel_in_pieces(model, padded), mel_config)
    return replace(loss, lsd_db=distance, lsd_per_octave_db=octaves)


def _mel_in_pieces(model: SelVAModel, waveform: Tensor) -> Tensor:
    """Log-mel (C, M, F) of (C, L), made piece by piece, so that memory stays flat."""
    piece = round(TRAINED_DURATION * model.config.latent_rate) * 2 * model.config.mel.hop_length
    starts = range(0, max(waveform.shape[-1] - piece // 2, 1), piece)
    stops = [*starts[1:], waveform.shape[-1]]
    return torch.cat(
        [model.mel(waveform[:, begin:stop]) for begin, stop in zip(starts, stops, strict=True)], dim=-1
    )


def _words(stage: str, loss: Loss) -> str:
    distance = "" if loss.lsd_db is None else f", log-spectral distance {loss.lsd_db:.1f} dB"
    return f"{stage}: mel L1 {loss.mel_l1:.3f}, long-term mel {loss.long_term_mel_db:.1f} dB{distance}"
