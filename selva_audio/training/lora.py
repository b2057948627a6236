"""What ``fit`` trains to make a LoRA adapter: batches, conditions, targets, and the adapter itself.

``x0`` is noise, ``x1`` is data, t runs from 0 to 1.

Letters: B clips of one update, N latent tokens, C latent channels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters import (
    Adapter,
    Delta,
    TargetReport,
    adapter_meta,
    collect,
    draw_dropout,
    inject,
    parameter_groups,
    trainable_parameters,
    write_adapter,
)
from ..adapters.formats import adapter_of, content_of
from ..adapters.inject import check_fits, principal_factors, share
from ..adapters.inspect import change_norm
from ..adapters.layers import LowRank, stable_seed
from ..adapters.targets import adaptable_layers
from ..errors import CheckpointError, InputError
from ..flow import interpolate
from ..flow.timesteps import TimestepLaw, draw_timesteps, min_snr_weight
from ..models.fast_product import exact_float32
from ..models.generator import Generator
from ..options.training import LoraOptions
from ..progress import ProgressFn
from .clips import Clips
from .keyed import ClipOrder, Rng, keyed, keyed_numpy
from .objective import check_scale, clip_rows, masked_error, normalized
from .projected import ProjectedConditions, leaves_projections_alone
from .recompute import recompute_blocks
from .validation import ValidationLosses, fixed_noise_loss

_LARGE_SCALE = 4.0
_MOST_VALIDATED = 32


class LoraTraining:
    """An adapter in the making.

    Args:
        generator: the base; stays as it is.
        clips: for training, and for validation where some are on that side.
        options: adapter, objective, batch.
        variant: name for the files.
        base: text that is equal exactly when the weights of the base are.
        clip_conditioning: whether CLIP features of the picture are used.
        prior: other clips, on which the adapter must do what the base does; None means these without
            conditions.

    Raises:
        InputError: nothing to train on, a target that matches nothing, or latents of another scale.
    """

    name = "adapter"

    def __init__(
        self,
        generator: Generator,
        clips: Clips,
        options: LoraOptions,
        *,
        variant: str,
        base: str,
        clip_conditioning: bool,
        prior: Clips | None = None,
    ) -> None:
        # What 0 stands for is known here; from now on the rate is a number, also in the files.
        options = options.model_copy(update={"lr": options.lr_for(generator.config.hidden_dim)})
        self.options = options
        self.variant = variant
        self.clip_conditioning = clip_conditioning
        self.data = clips.fingerprint
        self.base = _ordinary(generator)
        self.clips, self.held = clips.of("train"), clips.of("val")
        if not len(self.clips):
            raise InputError("All clips are kept for validation. Give more clips, or a lower --val-fraction.")
        self.generator, self.report = inject(self.base, options)
        if options.grad_checkpoint:
            recompute_blocks(self.generator)
        self._check_trainable()
        self._laws = _laws(options)
        self._device = generator.sync_pos_emb.device
        self.scales_loss = generator.sync_pos_emb.dtype == torch.float16
        self._latents = normalized(generator, self.clips.mean, self.clips.std)
        check_scale(self._latents[0], self.clips.valid)
        count = options.batch_size * options.grad_accum
        self._order = ClipOrder(len(self.clips), count, options.seed)
        self._empty = _empty_features(self.base, self.clips)
        is_fixed = leaves_projections_alone(target.path for target in self.report.targets)
        num_latents = self._latents[0].shape[1]
        self._projected = ProjectedConditions(self.base, num_latents) if is_fixed else None
        self.prior = prior if prior is not None else self.clips
        self._has_prior_conditions = prior is not None
        self._prior_latents = normalized(generator, self.prior.mean, self.prior.std)[0]
        self._prior_order = ClipOrder(len(self.prior), options.batch_size, options.seed + 1)
        self.first: ValidationLosses | None = None
        self.last: ValidationLosses | None = None
        self.identity: Mapping[str, Any] = {
            "variant": variant,
            "target": [target.path for target in self.report.targets],
            "rank": options.rank,
            "alpha": options.effective_alpha,
            "init_mode": options.init_mode,
            "use_rslora": options.use_rslora,
            "use_dora": options.use_dora,
            "clip_conditioning": clip_conditioning,
            "base": base,
        }

    def parameters(self, lr: float) -> list[dict[str, Any]]:
        """A and B apart, for LoRA+."""
        return parameter_groups(
            self.generator, lr or self.options.lr, plus_ratio=self.options.lora_plus_ratio
        )

    def loss(self, step: int, rng: Rng) -> Iterator[Tensor]:
        """One part for each batch in memory, and one for the prior."""
        self.generator.train()
        options = self.options
        batch = self._draw(step, rng)
        count = len(batch.indices)
        for first in range(0, count, options.batch_size):
            part = batch.part(slice(first, first + options.batch_size))
            self._key_dropout(step, "clips", range(first, first + len(part.indices)))
            yield (self._errors(part) * part.weight.to(self._device)).sum() / count
        if options.prior_preservation:
            self._key_dropout(step, "prior", range(options.batch_size))
            yield options.prior_preservation * self._prior_errors(step, rng).mean()

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring each layer's change down to ``max_norm``."""
        if not self.options.max_norm:
            return
        for layer in _layers(self.generator):
            a, b = layer.lora_A.flatten(1), layer.lora_B
            # The norm of B A without making it.
            norm = layer.scale * ((b.T @ b) * (a @ a.T)).sum().clamp(min=0).sqrt()
            layer.lora_B.mul_((self.options.max_norm / norm.clamp(min=1e-12)).clamp(max=1))

    def validate(self, on_progress: ProgressFn) -> dict[str, float]:
        """Fixed-noise loss of the clips for validation, and how far the adapter went from the base.

        ``val_loss`` is over the times of training, ``val_t0.50`` at one of them, ``val_uniform`` over a grid
        in which all times count alike.
        """
        if not len(self.held):
            return {}
        self.last = self.validation(self.generator, on_progress)
        if self.first is None:
            self.first = self.last
        found = {"val_loss": self.last.mean}
        for time, loss in zip(self.last.times.tolist(), self.last.per_time.tolist(), strict=True):
            found[f"val_t{time:.2f}"] = loss
        found["val_uniform"] = self.validation(self.generator, on_progress, TimestepLaw("uniform")).mean
        norm = change_norm(collect(self.generator, {}))
        return found if norm is None else found | {"delta_norm": norm}

    def validation(
        self, generator: Generator, on_progress: ProgressFn, law: TimestepLaw | None = None
    ) -> ValidationLosses:
        """Losses of a generator on the clips for validation, over the times of training unless told."""
        chosen = self.held.take(range(min(len(self.held), _MOST_VALIDATED)))
        return fixed_noise_loss(
            generator,
            chosen,
            law=law or self._laws[0],
            clip_conditioning=self.clip_conditioning,
            batch_size=max(self.options.batch_size, 1),
            seed=0,
            on_progress=on_progress,
        )

    def calibration(self, count: int = 8) -> Callable[[Generator], Iterable[Tensor]]:
        """Losses of training clips with fixed noise and times and nothing dropped, for any generator."""

        def losses(generator: Generator) -> Iterator[Tensor]:
            for number in range(count):
                batch = self._draw(
                    number, partial(keyed, self.options.seed, "calibration", number), is_plain=True
                )
                for first in range(0, len(batch.indices), self.options.batch_size):
                    part = batch.part(slice(first, first + self.options.batch_size))
                    yield self._errors(part, generator).mean()

        return losses

    def adapter(self, step: int) -> Adapter:
        """The adapter as it is now."""
        options = self.options
        told = (
            *(
                "timestep_mode",
                "logit_normal_sigma",
                "curriculum_switch",
                "lora_plus_ratio",
                "lr",
                "lr_schedule",
            ),
            *(
                "batch_size",
                "grad_accum",
                "latent_mixup_alpha",
                "latent_noise_sigma",
                "latent_mode",
                "uncond",
            ),
        )
        more = {name: getattr(options, name) for name in told}
        if self.last is not None:
            more["val_loss"] = self.last.mean
        meta = adapter_meta(
            options,
            variant=self.variant,
            steps=step,
            clip_conditioning="on" if self.clip_conditioning else "off",
            base_sha256=str(self.identity["base"]),
            data_fingerprint=self.data,
            prompts=sorted(set(self.clips.prompts)),
            **more,
        )
        return collect(self.generator, meta)

    def state_dict(self, step: int) -> dict[str, Any]:
        """An adapter file's content."""
        return content_of(self.adapter(step))

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Take the values of an adapter file, of the public pack too.

        Raises:
            CheckpointError: another variant, other layers, rank, scale or start.
        """
        adapter = adapter_of(content, Path("The checkpoint"))
        if adapter.variant and adapter.variant != self.variant:
            raise CheckpointError(
                f"The checkpoint was trained on {adapter.variant}, not on {self.variant}. Choose its variant."
            )
        check_fits(self.base, adapter)
        deltas = {path: self._with_start(adapter, path, delta) for path, delta in adapter.deltas.items()}
        layers = {layer.path: layer for layer in _layers(self.generator)}
        if layers.keys() != deltas.keys():
            told = adapter.meta.get("target") or "other layers"
            raise CheckpointError(
                f"The checkpoint adapts {len(deltas)} layers ({told}), this run {len(layers)}. "
                "Give its --target."
            )
        for path, layer in layers.items():
            _take(layer, deltas[path], path)

    def export(self, path: Path, step: int) -> Path:
        """Write the adapter alone."""
        return write_adapter(path, self.adapter(step))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know before training."""
        scale = self.options.scale
        if scale <= _LARGE_SCALE:
            return ()
        return (
            f"The scale alpha / rank is {scale:.3g}: over {_LARGE_SCALE:g}, training tends to be unstable. "
            "A lower --alpha or learning rate helps.",
        )

    def law(self, step: int) -> TimestepLaw:
        """Distribution of the times at a step; a function of it alone, so that a resume changes nothing."""
        switch = int(self.options.steps * self.options.curriculum_switch)
        return self._laws[0 if step < switch or self.options.timestep_mode != "curriculum" else 1]

    def _draw(self, step: int, rng: Rng, *, is_plain: bool = False) -> "_Batch":
        """All that is random in a step; ``is_plain`` leaves augmentation and dropped conditions out."""
        options = self.options
        indices = torch.tensor(self._order.batch(step))
        count = len(indices)
        law = self.law(step)
        x0, ends = (
            torch.stack(
                [torch.randn(self._latents[0].shape[1:], generator=rng(name, k)) for k in range(count)]
            )
            for name in ("noise", "posterior")
        )
        t = draw_timesteps(law, count, rng("times"), stratified=options.stratified)
        x1, std = (each[indices] for each in self._latents)
        valid = self.clips.valid[indices] if options.loss_mask == "valid" else torch.ones(count, x0.shape[1])
        if options.latent_mode == "sample" and not is_plain:
            x1 = x1 + std * ends
        if options.latent_mixup_alpha and not is_plain:
            x1, valid = self._mixed(step, x1, valid, rng)
        if options.latent_noise_sigma and not is_plain:
            noise = [torch.randn(x1.shape[1:], generator=rng("latent noise", k)) for k in range(count)]
            x1 = x1 + options.latent_noise_sigma * x1.std(dim=(1, 2), keepdim=True) * torch.stack(noise)
        chances = torch.rand(count, 2, generator=rng("conditions"))
        is_dropping = options.uncond != "none" and not is_plain
        shares = torch.tensor([options.video_dropout, options.text_dropout]) * is_dropping
        has_video, has_text = (chances >= shares).unbind(dim=1)
        weight = (
            min_snr_weight(t, options.min_snr_gamma, law)
            if options.weighting == "min_snr"
            else torch.ones(count)
        )
        return _Batch(indices, x0, x1, t, weight, valid.bool(), has_video, has_text)

    def _mixed(self, step: int, x1: Tensor, valid: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """Latents mixed in pairs; the conditions stay, as in the public pack."""
        alpha = self.options.latent_mixup_alpha
        share = float(keyed_numpy(self.options.seed, step, "mixup").beta(alpha, alpha))
        other = torch.randperm(len(x1), generator=rng("partners"))
        return share * x1 + (1 - share) * x1[other], valid.bool() | valid.bool()[other]

    def _errors(self, batch: "_Batch", generator: Generator | None = None) -> Tensor:
        """(B,) losses before their weights."""
        x = interpolate(batch.x0, batch.x1, batch.t).to(self._device)
        t = batch.t.to(self._device)
        target = (batch.x1 - batch.x0).to(self._device)
        if self.options.uncond == "preserve":
            without = (~(batch.has_video | batch.has_text)).nonzero()[:, 0]
            if len(without):
                places = without.to(self._device)
                with torch.no_grad(), exact_float32():
                    kept = self._velocity(self.base, x[places], batch.part(without), t[places]).float()
                target = target.index_put((places,), kept)
        predicted = self._velocity(generator or self.generator, x, batch, t).float()
        return masked_error(predicted, target, batch.valid.to(self._device), self.options.huber_delta)

    def _velocity(self, generator: Generator, x: Tensor, batch: "_Batch", t: Tensor) -> Tensor:
        if self._projected is None:
            velocity: Tensor = generator(x, *self._conditions(batch), t)
            return velocity
        chosen = (batch.indices, batch.has_video, batch.has_text)
        keys = list(zip(*(each.tolist() for each in chosen), strict=True))
        return generator.velocity(x, t, self._projected.of(keys, lambda: self._conditions(batch)))

    def _conditions(self, batch: "_Batch") -> list[Tensor]:
        """CLIP, sync and text features (B, tokens, width): new tensors, the clips stay as they are."""
        clips, indices = self.clips, batch.indices
        rows = (
            clip_rows(self.base, clips, indices, self.clip_conditioning),
            clips.sync[indices],
            clips.text[indices],
        )
        present = (batch.has_video, batch.has_video, batch.has_text)
        return [
            torch.where(keep[:, None, None], each, empty).to(self._device)
            for each, keep, empty in zip(rows, present, self._empty, strict=True)
        ]

    def _prior_errors(self, step: int, rng: Rng) -> Tensor:
        """(B,) how far the adapter is from the base on the clips of the prior."""
        indices = torch.tensor(self._prior_order.batch(step))
        x1 = self._prior_latents[indices]
        x0 = torch.stack([torch.randn(x1.shape[1:], generator=rng("prior", k)) for k in range(len(x1))])
        t = draw_timesteps(self.law(step), len(x1), rng("prior times"), stratified=self.options.stratified)
        if self._has_prior_conditions:
            rows = clip_rows(self.base, self.prior, indices, self.clip_conditioning)
            conditions = [rows, self.prior.sync[indices], self.prior.text[indices]]
        else:
            conditions = [each.expand(len(x1), -1, -1) for each in self._empty]
        conditions = [each.to(self._device) for each in conditions]
        x, t = interpolate(x0, x1, t).to(self._device), t.to(self._device)
        target = self._base_velocity(x, conditions, t)
        errors: Tensor = (self.generator(x, *conditions, t).float() - target).square().mean(dim=(1, 2))
        return errors

    @torch.no_grad()
    def _base_velocity(self, x: Tensor, conditions: Sequence[Tensor], t: Tensor) -> Tensor:
        with exact_float32():
            velocity: Tensor = self.base(x, *conditions, t).float()
        return velocity

    def _key_dropout(self, step: int, name: str, slots: Iterable[int]) -> None:
        draw_dropout(self.generator, [stable_seed(self.options.seed, step, name, slot) for slot in slots])

    def _with_start(self, adapter: Adapter, path: str, delta: Delta) -> Delta:
        """A change of the residual kind of PiSSA as one of the offset kind, which does the same."""
        residual = adapter.residuals.get(path)
        if residual is None:
            return delta
        weight = adaptable_layers(self.base)[path].weight
        assert isinstance(weight, Tensor)
        start = weight.detach().float().cpu() - residual.reshape(weight.shape)
        a0, b0 = principal_factors(start, delta.rank, delta.scale, path)
        return Delta(delta.a, delta.b, delta.scale, a0, b0)

    def _check_trainable(self) -> None:
        wanted = {id(each) for each in trainable_parameters(self.generator).values()}
        found = {id(each) for each in self.generator.parameters() if each.requires_grad}
        assert wanted == found, "something other than the adapter wants gradients"


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """What one update is made from.

    Attributes:
        indices: (B,) of the clips.
        x0: (B, N, C) noise.
        x1: (B, N, C) normalised latents.
        t: (B,).
        weight: (B,) in the loss.
        valid: (B, N) tokens that count.
        has_video: (B,) whether CLIP and sync features are left in.
        has_text: (B,) whether the prompt is.
    """

    indices: Tensor
    x0: Tensor
    x1: Tensor
    t: Tensor
    weight: Tensor
    valid: Tensor
    has_video: Tensor
    has_text: Tensor

    def part(self, place: slice | Tensor) -> "_Batch":
        """Some of the items."""
        return _Batch(*(getattr(self, name)[place] for name in self.__slots__))


def lora_report(report: TargetReport, options: LoraOptions) -> list[str]:
    """What is adapted, layer by layer, and the scale of the changes."""
    return [*report.lines(options.rank), f"scale {options.scale:.4g}, alpha {options.effective_alpha:g}"]


def _laws(options: LoraOptions) -> tuple[TimestepLaw, TimestepLaw]:
    """The law of training, and the one after the switch of a curriculum."""
    uniform = TimestepLaw("uniform", shift=options.timestep_shift)
    normal = TimestepLaw(
        "logit_normal", options.logit_normal_mean, options.logit_normal_sigma, options.timestep_shift
    )
    return (uniform if options.timestep_mode == "uniform" else normal), uniform


def _empty_features(generator: Generator, clips: Clips) -> tuple[Tensor, Tensor, Tensor]:
    """(1, tokens, width) of no picture, no video and no prompt."""
    empty = (
        generator.empty_clip(1, clips.clip.shape[1]),
        generator.empty_sync(1, clips.sync.shape[1]),
        generator.empty_text(1),
    )
    clip, sync, text = (each.detach().float().cpu() for each in empty)
    return clip, sync, text


def _ordinary(generator: Generator) -> Generator:
    """The generator, or a copy where its tensors were made in inference mode, which takes no gradients."""
    if not any(each.is_inference() for each in (*generator.parameters(), *generator.buffers())):
        return generator
    new = share(generator)
    for module in new.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.clone(), requires_grad=False)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.clone()
    return new


def _layers(generator: nn.Module) -> Iterator[LowRank]:
    for module in generator.modules():
        if isinstance(module, LowRank) and module.lora_A.requires_grad:
            yield module


@torch.no_grad()
def _take(layer: LowRank, delta: Delta, path: str) -> None:
    """Copy values into a layer of the same shape and kind."""
    pairs = [
        (layer.lora_A, delta.a),
        (layer.lora_B, delta.b),
        (layer.lora_A0, delta.a0),
        (layer.lora_B0, delta.b0),
        (layer.dora_m, delta.magnitude),
    ]
    for mine, given in pairs:
        if (mine is None) != (given is None) or (mine is not None and mine.shape != given.shape):  # type: ignore[union-attr]
            raise CheckpointError(
                f"The checkpoint has another rank or start in {path} (rank {delta.rank}, "
                f"{'PiSSA' if delta.a0 is not None else 'standard'}). Give its --rank and --init-mode."
            )
    if abs(delta.scale - layer.scale) > 1e-6 * layer.scale:
        raise CheckpointError(
            f"The checkpoint has the scale {delta.scale:.4g} where this run has {layer.scale:.4g}. Give its "
            "--alpha, and --use-rslora where it used that."
        )
    for mine, given in pairs:
        if mine is not None and given is not None:
            mine.copy_(given)
