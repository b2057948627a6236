"""Textual inversion as ``fit`` trains it: learned tokens alone, in a model that stays bit for bit as it is.

Letters: B batch, K learned tokens, N positions of text, W its width.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.inject import share
from ..adapters.textual_inversion import (
    TextualInversion,
    check_width,
    encode_with_tokens,
    file_content,
    inversion_of,
    replace_rows,
    token_table,
    word_embeddings,
    write_inversion,
)
from ..bundle import SelVAModel
from ..errors import CheckpointError, InputError
from ..flow import interpolate
from ..flow.timesteps import TimestepLaw, draw_timesteps
from ..options.style import TextualInversionOptions
from ..progress import ProgressFn
from .clips import Clips
from .keyed import ClipOrder, Rng, keyed
from .objective import check_scale, clip_rows, masked_error, normalized
from .recompute import recompute_blocks
from .validation import ValidationLosses, fixed_noise_loss

NAME = "embeddings"
# Norms of learned tokens, in units of the mean norm of CLIP's own.
_SHORTEST, _LONGEST = 0.5, 1.5
_SPREAD = 0.01
_ROUNDING = 1e-6  # a norm this near to a bound is at it: what was brought to it is left alone


class TextualInversionTrainable:
    """Learned tokens and their loss on clips; the trainable of ``fit``.

    CLIP and the generator must be on the policy's device while it is used.

    Args:
        model: the bundle, of which nothing is changed.
        clips: all clips; those of the split "val" are for validation.
        options: the settings.

    Raises:
        InputError: clips that do not look like the generator's or lack CLIP frames that are asked for, or
            ``init_text`` without a word.
        CheckpointError: more tokens than a prompt has room for.
    """

    name = NAME

    def __init__(self, model: SelVAModel, clips: Clips, options: TextualInversionOptions) -> None:
        self.model, self.options = model, options
        self.training, self.validation = clips.of("train"), clips.of("val")
        self.data = clips.fingerprint
        self.identity: Mapping[str, Any] = {
            "variant": model.config.name,
            "n_tokens": options.n_tokens,
            "space": options.space,
            "inject_mode": options.inject_mode,
            "template": options.template,
            "generator": model.identity("generator"),
            "clip": model.identity("clip"),
        }
        if options.clip_conditioning == "on" and not bool(clips.has_clip.all()):
            missing = clips.names[int(clips.has_clip.long().argmin())]
            raise InputError(
                f"clip_conditioning is on, but the features of {missing} hold no CLIP frames. Prepare the "
                "clips with clip_conditioning on as well."
            )
        self.scales_loss = model.policy.precision == "fp16"
        self.uses_clip = options.clip_conditioning == "on" or (
            options.clip_conditioning == "auto" and model.config.clip_conditioning
        )
        self.generator = share(model.generator)
        if options.grad_checkpoint:
            recompute_blocks(self.generator)
        self._mean, self._std = normalized(model.generator, self.training.mean, self.training.std)
        check_scale(self._mean, self.training.valid)
        self._norm = float(token_table(model.clip).float().norm(dim=1).mean())
        self.embeddings = nn.Parameter(self._start().to(model.policy.device))
        check_width(self.inversion(0), clips.text.shape[1], clips.text.shape[2])
        self.constrain()
        self._order = ClipOrder(len(self.training), options.batch_size * options.grad_accum, options.seed)
        self.law = TimestepLaw(options.timestep_mode)

    def parameters(self, lr: float) -> list[dict[str, Any]]:
        """See ``Trainable``."""
        return [{"params": [self.embeddings], "lr": lr}]

    def loss(self, step: int, rng: Rng) -> Iterator[Tensor]:
        """See ``Trainable``; plain flow matching, with all conditions."""
        options, device = self.options, self.model.policy.device
        chosen = torch.tensor(self._order.batch(step))
        count = len(chosen)
        times = draw_timesteps(self.law, count, rng("t"), stratified=True)
        for slots in torch.split(torch.arange(count), options.batch_size):
            indices, t = chosen[slots], times[slots]
            x1 = self._mean[indices] + self._std[indices] * self._noise(rng, "posterior", slots)
            x0 = self._noise(rng, "noise", slots)
            predicted = self.generator(
                interpolate(x0, x1, t).to(device),
                clip_rows(self.generator, self.training, indices, self.uses_clip).to(device),
                self.training.sync[indices].to(device),
                self.texts(self.training, indices.tolist()),
                t.to(device),
            )
            errors = masked_error(
                predicted.float(), (x1 - x0).to(device), self.training.valid[indices].to(device)
            )
            yield errors.sum() / count

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep norms where text has them: near those of CLIP's table, or 1 among the features it gives."""
        norms = self.embeddings.norm(dim=1, keepdim=True)
        bounds = (
            (self._norm * _SHORTEST, self._norm * _LONGEST) if self.options.space == "token" else (1.0, 1.0)
        )
        wanted = norms.clamp(*bounds)
        is_off = (norms - wanted).abs() > _ROUNDING * wanted
        scale = torch.where(is_off, wanted / norms.clamp(min=1e-12), torch.ones_like(norms))
        self.embeddings.mul_(scale)

    def validate(self, on_progress: ProgressFn) -> dict[str, float]:
        """See ``Trainable``; with the same noise every time."""
        if not len(self.validation):
            return {}
        return {"val_loss": self.losses(self.validation, on_progress).mean}

    @torch.no_grad()
    def losses(self, clips: Clips, on_progress: ProgressFn) -> ValidationLosses:
        """Fixed-noise losses of clips with the tokens as they are now."""
        text = torch.cat([self.texts(clips, [index]).float().cpu() for index in range(len(clips))])
        return fixed_noise_loss(
            self.model.generator,
            replace(clips, text=text),
            law=self.law,
            clip_conditioning=self.uses_clip,
            batch_size=self.options.batch_size,
            on_progress=on_progress,
        )

    def texts(self, clips: Clips, indices: Sequence[int]) -> Tensor:
        """(B, N, W) text features of clips with the tokens in them; gradients reach the tokens."""
        if self.options.space == "feature":
            plain = clips.text[list(indices)].to(self.embeddings.device)
            return replace_rows(plain, self.embeddings, self.options.inject_mode)
        prompts = [clips.prompts[index] for index in indices]
        unique = list(dict.fromkeys(prompts))
        made = encode_with_tokens(self.model.clip, unique, self.embeddings, self.options.template)
        return made[[unique.index(prompt) for prompt in prompts]]

    def inversion(self, step: int) -> TextualInversion:
        """The tokens as they are now."""
        options = self.options
        return TextualInversion(
            self.embeddings.detach().float().cpu().clone(),
            options.space,
            options.inject_mode,
            options.template,
            self.model.config.name,
            self.model.identity("clip"),
            options.init_text,
            step,
            {
                "seed": options.seed,
                "lr": options.lr,
                "batch_size": options.batch_size,
                "data_fingerprint": self.data,
                "base": self.identity["generator"],
                "clip_conditioning": "on" if self.uses_clip else "off",
            },
        )

    def state_dict(self, step: int) -> dict[str, Any]:
        """See ``Trainable``."""
        return file_content(self.inversion(step))

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """See ``Trainable``."""
        found = inversion_of(Path("The checkpoint"), content)
        if found.embeddings.shape != self.embeddings.shape or found.space != self.options.space:
            raise CheckpointError(
                f"The checkpoint holds {found.num_tokens} tokens of width {found.embeddings.shape[1]} in the "
                f"space {found.space}; {self.options.n_tokens} of {self.embeddings.shape[1]} in "
                f"{self.options.space} are trained. Use the settings of that run."
            )
        with torch.no_grad():
            self.embeddings.copy_(found.embeddings)

    def export(self, path: Path, step: int) -> Path:
        """See ``Trainable``; a .safetensors file is written beside it."""
        inversion = self.inversion(step)
        write_inversion(path.with_suffix(".safetensors"), inversion)
        return write_inversion(path, inversion)

    @torch.no_grad()
    def _start(self) -> Tensor:
        """(K, W): words in turn, or a mean with a little noise, so that no two tokens are the same."""
        options, clip = self.options, self.model.clip
        count = options.n_tokens
        if options.space == "token":
            rows = word_embeddings(clip, options.init_text, count).cpu()
            # In units of the norm: tables of different CLIPs have different scales.
            spread = 0.0 if options.init_text else _SPREAD * self._norm
        elif options.init_text:
            encoded: Tensor = clip.encode_text([options.init_text])
            rows = encoded[0, 1 : 1 + count].float().cpu()
            spread = 0.0
        else:
            first = 1 if options.inject_mode == "prefix" else self.training.text.shape[1] - count
            rows = self.training.text[:, first : first + count].mean(dim=0)
            spread = _SPREAD
        noise = torch.randn(rows.shape, generator=keyed(options.seed, "tokens"))
        start: Tensor = rows + spread * noise / rows.shape[1] ** 0.5
        return start

    def _noise(self, rng: Rng, stream: str, slots: Tensor) -> Tensor:
        """(B, N, C): each slot its own, however the batch is split."""
        shape = self._mean.shape[1:]
        return torch.stack([torch.randn(shape, generator=rng(stream, int(slot))) for slot in slots])
