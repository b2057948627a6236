"""A vocoder as ``fit`` tunes it: some of its parameters, on stretches of recordings.

All of it is float32. Letters: B batch, L samples, M mel bands, F mel frames.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapters.vocoder import (
    TunedVocoder,
    prepare,
    tune,
    vocoder_content,
    vocoder_digest,
    vocoder_of,
    write_vocoder,
)
from ..bundle import SelVAModel
from ..errors import CheckpointError
from ..models.bigvgan import BigVGAN
from ..models.mel import mel_spectrogram
from ..options.style import VocoderOptions
from ..progress import Progress, ProgressFn
from .corpus import Corpus, segment, split_corpus
from .discriminators import Discriminators
from .keyed import ClipOrder, Rng
from .recompute import Recomputed
from .vocoder_losses import mel_distance, multi_mel_distance, phase_distance, stft_distance

NAME = "vocoder"
BETAS = (0.8, 0.99)
_FEATURES_WEIGHT, _MEL_BESIDE_FEATURES = 2.0, 0.1
_HEARD_SECONDS = 8.0
_FILTER = ".gafilter."


class VocoderTrainable:
    """Parameters of a vocoder and their loss on recordings; the trainable of ``fit``.

    Args:
        model: the bundle; the variant's own vocoder is tuned, whatever it was tuned with, and nothing of it
            is changed.
        corpus: the sounds.
        options: the settings.
        discriminators: for the loss "feature_matching".

    Raises:
        InputError: the vocoder has no parameters of the mode.
    """

    name = NAME
    scales_loss = False

    def __init__(
        self,
        model: SelVAModel,
        corpus: Corpus,
        options: VocoderOptions,
        discriminators: Discriminators | None = None,
    ) -> None:
        self.config, self.options = model.config, options
        self.device = model.policy.device
        self.training, self.validation = split_corpus(corpus, options.val_fraction, options.seed)
        self.data = corpus.fingerprint
        base: BigVGAN = model.base_vocoder().exact("vocoder").requires_grad_(False)
        self.base_sha256 = vocoder_digest(base)
        self.base = base.to(self.device)
        self.vocoder, self.tuned = prepare(self.base, options.train_mode, options.kernel_size)
        self._start = {name: value.detach().clone() for name, value in self.tuned.items()}
        if options.grad_checkpoint:
            _recompute(self.vocoder)
        self.discriminators = discriminators.to(self.device) if discriminators else None
        self.identity: Mapping[str, Any] = {
            "variant": model.config.name,
            "train_mode": options.train_mode,
            "gafilter_kernel_size": options.kernel_size,
            "base_sha256": self.base_sha256,
        }
        self._hop = model.config.mel.hop_length
        self._frames = max(1, round(options.segment_seconds * model.config.sample_rate / self._hop))
        self._order = ClipOrder(len(self.training), options.batch_size * options.grad_accum, options.seed)

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(value.numel() for value in self.tuned.values())

    def parameters(self, lr: float) -> list[dict[str, Any]]:
        """See ``Trainable``."""
        return [{"params": list(self.tuned.values()), "lr": lr, "betas": BETAS}]

    def loss(self, step: int, rng: Rng) -> Iterator[Tensor]:
        """See ``Trainable``.

        With the weight w of the distance to the start, it is (data + w * distance) / (1 + w): that is the
        same as without the divisor for small w, and for the largest w nothing moves.
        """
        chosen = self._order.batch(step)
        size, count = self.options.batch_size, len(chosen)
        pull = self.options.lambda_l2sp / (1 + self.options.lambda_l2sp)
        for first in range(0, count, size):
            indices = chosen[first : first + size]
            slots = range(first, first + len(indices))
            shares = [float(torch.rand((), generator=rng("place", slot))) for slot in slots]
            mel, real = self._batch(self.training, indices, shares)
            made = self.vocoder(mel)
            data = self._distance(made, real)
            yield (data * (1 - pull) + self.anchor() * pull) * (len(indices) / count)

    def constrain(self) -> None:
        """See ``Trainable``; there is nothing to do."""

    def anchor(self) -> Tensor:
        """Sum of the squared distances of parameters to where they started; filters are free.

        Source: L2-SP (arXiv:1802.01483).
        """
        parts = [
            (value - self._start[name]).square().sum()
            for name, value in self.tuned.items()
            if _FILTER not in name
        ]
        return torch.stack(parts).sum()

    def anchor_account(self) -> dict[str, float]:
        """The distance to the start as it is now: its sum, and the mean that modes can be compared by."""
        count = sum(value.numel() for name, value in self.tuned.items() if _FILTER not in name)
        total = float(self.anchor().detach())
        return {"sum": total, "mean": total / count}

    def validate(self, on_progress: ProgressFn) -> dict[str, float]:
        """See ``Trainable``: distances on sounds that are not trained on, and how far the parameters went."""
        if not len(self.validation):
            return {}
        mels, spectra = self.judge(self.validation, on_progress)
        drift = math.sqrt(float(self.anchor().detach()))
        return {"val_loss": mels, "val_stft": spectra, "drift": drift}

    @torch.no_grad()
    def judge(self, corpus: Corpus, on_progress: ProgressFn) -> tuple[float, float]:
        """Mean mel and STFT distance of sounds to what the vocoder makes of them."""
        mels, spectra = [], []
        for index in range(len(corpus)):
            made, real = self._whole(corpus, index)
            mels.append(float(mel_distance(made, real, self.config.mel)))
            spectra.append(float(stft_distance(made, real)))
            on_progress(Progress("validating", index + 1, len(corpus)))
        return sum(mels) / len(mels), sum(spectra) / len(spectra)

    @torch.no_grad()
    def sample(self) -> tuple[Tensor, Tensor]:
        """What the vocoder makes of one sound, and that sound: (L,) each, on the CPU."""
        made, real = self._whole(self.validation if len(self.validation) else self.training, 0)
        return made[0].cpu(), real[0].cpu()

    def result(self, step: int) -> TunedVocoder:
        """The tuned parameters as they are now."""
        options = self.options
        meta = {
            "variant": self.config.name,
            "steps": step,
            "seed": options.seed,
            "lr": options.lr,
            "loss": options.effective_loss,
            "lambda_l2sp": options.lambda_l2sp,
            "parameters": self.num_parameters,
            "data_fingerprint": self.data,
        }
        state = {name: value.detach().float().cpu().clone() for name, value in self.tuned.items()}
        return TunedVocoder(
            state, options.train_mode, options.kernel_size, self.config.sample_rate, self.base_sha256, meta
        )

    def state_dict(self, step: int) -> dict[str, Any]:
        """See ``Trainable``."""
        return vocoder_content(self.result(step))

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """See ``Trainable``; also from a whole vocoder of the same layout, whose parameters are taken."""
        found = vocoder_of(Path("The checkpoint"), content)
        fitting = tune(self.base, found)
        values = {name: value for name, value in fitting.named_parameters() if name in self.tuned}
        if values.keys() != self.tuned.keys() or found.kernel_size != self.options.kernel_size:
            raise CheckpointError(
                f"The checkpoint was trained as {found.mode} with {found.kernel_size} taps, not as "
                f"{self.options.train_mode} with {self.options.kernel_size}. Use the settings of that run."
            )
        with torch.no_grad():
            for name, value in values.items():
                self.tuned[name].copy_(value)

    def export(self, path: Path, step: int) -> Path:
        """See ``Trainable``; a .safetensors file is written beside it."""
        result = self.result(step)
        write_vocoder(path.with_suffix(".safetensors"), result)
        return write_vocoder(path, result)

    def _batch(self, corpus: Corpus, indices: list[int], shares: list[float]) -> tuple[Tensor, Tensor]:
        """Mels (B, M, F) and waveforms (B, L) of stretches."""
        parts = [
            segment(corpus, index, self._frames, self._hop, share)
            for index, share in zip(indices, shares, strict=True)
        ]
        real = torch.stack([wave for wave, _ in parts]).to(self.device)
        given = [mel for _, mel in parts if mel is not None]
        mel = torch.stack(given).to(self.device) if given else mel_spectrogram(real, self.config.mel)
        return mel, real

    def _whole(self, corpus: Corpus, index: int) -> tuple[Tensor, Tensor]:
        """What the vocoder makes of a sound, at most 8 s of it, and the sound: (1, L) each."""
        rate, hop = self.config.sample_rate, self._hop
        frames = min(int(_HEARD_SECONDS * rate), corpus.waves[index].shape[0]) // hop
        if corpus.mels:
            frames = min(frames, corpus.mels[index].shape[1])
        # A sound of a few frames is shorter than the analysis windows.
        frames = max(frames, math.ceil(self.config.mel.n_fft * 2 / hop))
        part, mel = segment(corpus, index, frames, hop, 0.0)
        real = part[None].to(self.device)
        given = mel_spectrogram(real, self.config.mel) if mel is None else mel[None].to(self.device)
        return self.vocoder(given)[:, 0], real

    def _distance(self, made: Tensor, real: Tensor) -> Tensor:
        """Of (B, 1, L) to (B, L)."""
        options, wave = self.options, made[:, 0]
        loss = options.effective_loss
        if loss == "multi_mel":
            total = multi_mel_distance(wave, real, self.config.sample_rate)
        else:
            total = mel_distance(wave, real, self.config.mel)
        if loss == "feature_matching":
            assert self.discriminators is not None
            heard = self.discriminators.distance(made, real[:, None])
            total = _FEATURES_WEIGHT * heard + _MEL_BESIDE_FEATURES * total
        if options.lambda_stft:
            total = total + options.lambda_stft * stft_distance(wave, real)
        if options.lambda_phase:
            total = total + options.lambda_phase * phase_distance(wave, real)
        return total


def _recompute(vocoder: BigVGAN) -> None:
    """Have every residual block keep its input alone: activations at high rates are most of the memory."""
    for place, block in enumerate(vocoder.resblocks):
        vocoder.resblocks[place] = Recomputed(block)
    vocoder.activation_post = Recomputed(vocoder.activation_post)  # type: ignore[assignment]
