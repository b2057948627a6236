"""Finding steering vectors: how conditions of a style move the latent stream, at the same point of the path.

For clips of the style, noise and a grid of times, the generator sees one x_t = (1 - t) x0 + t x1 twice,
under the style's conditions and under others; the mean difference after each block is the direction. t = 0 is
noise.

Against empty conditions a direction mostly says *that* something is asked for; against another set of clips
it says what makes the one different from the other.

Letters: T bins of time, N latent tokens, D width, K samples.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.inject import share
from ..flow import interpolate
from ..flow.steering import SteeringVectors, block_paths
from ..models.generator import Conditions, Generator
from ..options.steering import SteeringExtractionOptions
from ..progress import Progress, ProgressFn, ignore_progress
from .clips import Clips
from .keyed import ClipOrder, keyed
from .objective import check_scale, clip_rows, normalized


@dataclass(slots=True)
class RunningMean:
    """Mean and spread of vectors, one after another, in float64.

    Attributes:
        count: vectors so far.
        mean: of them.
        squares: sum of squared deviations from the mean.

    Source: Welford, Technometrics 4 (1962).
    """

    count: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def add(self, value: Tensor) -> None:
        """Take one more vector; all have one shape."""
        value = value.double()
        self.count += 1
        before = value - self.mean
        self.mean = self.mean + before / self.count
        self.squares = self.squares + before * (value - self.mean)

    @property
    def standard_error(self) -> float:
        """Length of the error that the mean still has; NaN for fewer than two vectors."""
        if self.count < 2:
            return math.nan
        return float((self.squares.sum() / (self.count - 1) / self.count).sqrt())


def find_directions(
    generator: Generator,
    clips: Clips,
    options: SteeringExtractionOptions,
    *,
    contrast: Clips | None = None,
    use_clip: bool = True,
    variant: str = "",
    base: str = "",
    on_progress: ProgressFn = ignore_progress,
) -> SteeringVectors:
    """Directions from the conditions of ``contrast``, or from empty ones, to those of ``clips``.

    Args:
        generator: on its device; it is left as it is.
        clips: of the style.
        options: samples, seed, bins of time.
        contrast: clips whose conditions are the other side, the k-th against the k-th of ``clips``.
        use_clip: whether CLIP features of the picture are conditions.
        variant: for the file.
        base: identity of the weights, for the file.
        on_progress: called for every sample; cancels by raising.

    Returns:
        Vectors with a report for each block in ``meta["report"]``: length, length relative to the
        activations, standard error relative to the length, and consistency, the mean cosine of one sample's
        direction to that of all others.

    Raises:
        InputError: latents that are not of this generator.
    """
    latents = normalized(generator, clips.mean, clips.std)[0]
    check_scale(latents, clips.valid)
    bins = options.time_bins
    times = (torch.arange(bins, dtype=torch.float32) + 0.5) / bins
    order = ClipOrder(len(clips), 1, options.seed)
    device = next(generator.parameters()).device
    differences = {path: RunningMean() for path in block_paths(generator)}
    lengths = {path: RunningMean() for path in differences}
    samples: dict[str, list[Tensor]] = {path: [] for path in differences}
    with torch.no_grad():
        for k in range(options.n_samples):
            on_progress(Progress("steering", k, options.n_samples))
            (index,) = order.batch(k)
            valid = clips.valid[index].to(device)
            x1 = latents[index].expand(bins, -1, -1)
            x0 = torch.randn(x1.shape[1:], generator=keyed(options.seed, "steering", k)).expand_as(x1)
            x_t, t = interpolate(x0, x1, times).to(device), times.to(device)
            style = _conditions(generator, clips, index, use_clip, bins)
            other = (
                _empty_conditions(generator, clips, bins)
                if contrast is None
                else _conditions(generator, contrast, index % len(contrast), use_clip, bins)
            )
            first, second = (_activations(generator, x_t, t, each) for each in (style, other))
            for path, activation in first.items():
                moved = (activation - second[path])[:, valid].double().mean(dim=1).cpu()  # (T, D)
                differences[path].add(moved)
                samples[path].append(moved.mean(dim=0))
                lengths[path].add(activation[:, valid].norm(dim=-1).mean().cpu())
    on_progress(Progress("steering", options.n_samples, options.n_samples))
    report = {
        path: _report(found, float(lengths[path].mean), torch.stack(samples[path]))
        for path, found in differences.items()
    }
    return SteeringVectors(
        {path: found.mean[:, None].float() for path, found in differences.items()},
        tuple(k / bins for k in range(bins + 1)),
        variant,
        base,
        {"n": options.n_samples, "seed": options.seed, "report": report},
    )


def with_prompt(clips: Clips, text: Tensor, prompt: str) -> Clips:
    """The clips under one prompt, whose CLIP features are ``text`` (1, N_text, D)."""
    return replace(clips, text=text.expand(len(clips), -1, -1), prompts=(prompt,) * len(clips))


def _activations(generator: Generator, x: Tensor, t: Tensor, conditions: Conditions) -> dict[str, Tensor]:
    """Latent stream (T, N, D) after each block, float32."""
    seen: dict[str, Tensor] = {}

    def keep(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            seen[path] = (output[0] if isinstance(output, tuple) else output).float()

        return hook

    # On a module tree of its own, so that nothing else that runs is looked at, and nothing is left behind.
    looked_at = share(generator)
    for path in block_paths(looked_at):
        looked_at.get_submodule(path).register_forward_hook(keep(path))
    looked_at.velocity(x, t, conditions)
    return seen


def _conditions(generator: Generator, clips: Clips, index: int, use_clip: bool, batch: int) -> Conditions:
    """Conditions of one clip, ``batch`` times."""
    device = next(generator.parameters()).device
    rows = clip_rows(generator, clips, torch.tensor([index]), use_clip)
    made = generator.conditions(
        rows.to(device),
        clips.sync[index : index + 1].to(device),
        clips.text[index : index + 1].to(device),
        clips.mean.shape[1],
    )
    return _repeated(made, batch)


def _empty_conditions(generator: Generator, clips: Clips, batch: int) -> Conditions:
    made = generator.conditions(
        generator.empty_clip(1, clips.clip.shape[1]),
        generator.empty_sync(1, clips.sync.shape[1]),
        generator.empty_text(1),
        clips.mean.shape[1],
    )
    return _repeated(made, batch)


def _repeated(conditions: Conditions, batch: int) -> Conditions:
    names = ("clip", "sync", "text", "clip_c", "text_c")
    return Conditions(*(getattr(conditions, name).repeat_interleave(batch, 0) for name in names))


def _report(found: RunningMean, activation: float, samples: Tensor) -> dict[str, float | None]:
    """What a file tells of one block; ``samples`` is (K, D), the directions of single clips."""
    norm, count = float(found.mean.norm(dim=-1).mean()), len(samples)
    consistency = None
    if count > 1:
        # Against the mean of the others: to a mean that holds it, even noise has a positive cosine.
        others = (samples.sum(dim=0) - samples) / (count - 1)
        consistency = float(nn.functional.cosine_similarity(samples, others, dim=-1).mean())
    error = found.standard_error / float(found.mean.norm()) if count > 1 and norm else None
    return {
        "norm": norm,
        "activation_norm": activation,
        "relative_norm": norm / activation if activation else None,
        "standard_error": error,
        "consistency": consistency,
    }
