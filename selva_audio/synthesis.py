"""From features to waveform: conditions once, guided sampling window by window, decoding.

What the model samples with beside its weights (``SelVAModel.inputs``) enters here: a textual inversion in
``encode_prompts``, steering vectors in ``window_velocity``. Grad-agnostic: callers choose. Levels, recipes
and files are the tasks' business.
"""

import contextlib
import functools
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from .adapters.inject import share
from .bundle import SelVAModel
from .configs import CLIP_RATE, SEGMENT_FRAMES, SEGMENT_STEP, SYNC_RATE
from .errors import GenerationError, InputError
from .features import VideoFeatures
from .flow import SOLVERS, Velocity, guided_velocity, latent_noise
from .flow.windows import STEP, Window, join_windows, plan_windows
from .graphs import Replayed
from .models.bigvgan import vocode_in_chunks
from .models.generator import Conditions, concatenate_conditions
from .options import GenerateOptions
from .progress import Progress, ProgressFn, ignore_progress, subtask

logger = logging.getLogger(__name__)

MIN_DURATION = SEGMENT_FRAMES / SYNC_RATE
_VOCODER_CHUNK = 8.0
_ITEMS_ON_GPU, _ITEMS_ON_CPU = 8, 1


@dataclass(frozen=True, slots=True)
class TextConditions:
    """CLIP text features.

    Attributes:
        prompt: (1, 77, text_dim).
        negative: (1, 77, text_dim), or None for the generator's stored features of the empty string.
    """

    prompt: Tensor
    negative: Tensor | None = None


def encode_prompts(model: SelVAModel, prompt: str, negative_prompt: str = "") -> TextConditions:
    """CLIP text features of both prompts, with the model's textual inversion in them if it has one.

    Prompts that were encoded before are remembered, and CLIP stays where it is.
    """
    inversion = model.inputs.textual_inversion
    prompts = [prompt, negative_prompt] if negative_prompt else [prompt]
    encoded = model.remembered("clip", ("text", *prompts), lambda: _encode(model, prompts))
    if inversion is not None:
        with model.at_work("clip") as (clip,):
            encoded = inversion.edit(clip, prompts, encoded)
    return TextConditions(encoded[:1], encoded[1:] if negative_prompt else None)


def _encode(model: SelVAModel, prompts: list[str]) -> Tensor:
    with model.at_work("clip") as (clip,):
        encoded: Tensor = clip.encode_text(prompts)
    return encoded


def sample_latents(
    model: SelVAModel,
    features: VideoFeatures,
    text: TextConditions,
    options: GenerateOptions,
    *,
    duration: float,
    noise: Tensor | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> list[Tensor]:
    """One latent (1, N, C) per take, on the policy's home device, in the VAE's scale.

    On a CPU takes and windows are sampled one after another, so that each take is to the bit what it would be
    alone. A GPU, which they would leave idle, gets some of equal length at a time.

    Args:
        model: the bundle.
        features: sync and CLIP features from time zero of the sound.
        text: encoded prompts.
        options: steps, guidance, seed, takes, solver, CLIP conditioning.
        duration: seconds to make, at least 0.64 and at most what the features cover.
        noise: (N, C) to start from in place of that of the seed, as DITTO finds it; for one take.
        on_progress: called after every solver step.

    Raises:
        InputError: the features do not fit the variant or are of several videos, or the noise does not fit.
        GenerationError: the latents are not finite.
    """
    config = model.config
    _check_batch(features)
    windows = plan_windows(duration, config)
    total = config.lengths(duration).latent
    check_noise(noise, total, config.generator.latent_dim, options.takes)
    sample = SOLVERS[options.solver]
    num_steps = len(windows) * options.takes * options.steps
    done = 0
    before = torch.zeros(0)

    def report(step: int, steps: int, x: Tensor) -> None:
        nonlocal done, before
        done += len(x)
        preview = partial(_expected_mel, model, before[:1], x[:1], steps - step)
        before = x
        on_progress(Progress("sampling", done, num_steps, preview=preview))

    def start(window: Window, take: int) -> Tensor:
        if noise is not None:
            return noise[window.first : window.stop]
        return latent_noise(options.seed, take, window.first, window.stop, config.generator.latent_dim)

    pieces: list[list[tuple[Window, Tensor]]] = [[] for _ in range(options.takes)]
    with model.at_work("generator") as (generator,):
        batches = _batches(windows, options.takes, _items_at_once(model))
        # Conditions are made once for all takes of a window.
        for seen, group in itertools.groupby(batches, lambda batch: [window for window, _ in batch]):
            with window_velocity(model, features, text, options, *seen) as velocity:
                for batch in group:
                    before = torch.stack([start(*item) for item in batch]).to(model.policy.device)
                    sampled = sample(velocity, before, options.steps, report).transpose(1, 2)
                    for (window, take), latent in zip(batch, sampled[:, None], strict=True):
                        pieces[take].append((window, latent))
        latents = [
            generator.unnormalize(join_windows(parts, total).transpose(1, 2)).to(model.policy.home)
            for parts in pieces
        ]
    if not all(bool(latent.isfinite().all()) for latent in latents):
        raise GenerationError(
            f"The model gave values that are not finite (precision {model.policy.precision}). "
            "Nothing was written. Try --precision fp32, or check the weights with `selva models verify`."
        )
    return latents


def _batches(windows: list[Window], takes: int, size: int) -> Iterator[list[tuple[Window, int]]]:
    """Windows with the number of a take, up to ``size`` of equal length at a time, in order of time."""
    for _, group in itertools.groupby(windows, lambda window: (window.num_latents, window.duration)):
        items = [(window, take) for window in group for take in range(takes)]
        for first in range(0, len(items), size):
            yield items[first : first + size]


def _items_at_once(model: SelVAModel) -> int:
    return _ITEMS_ON_CPU if model.policy.device == "cpu" else _ITEMS_ON_GPU


def _expected_mel(model: SelVAModel, before: Tensor, x: Tensor, steps_left: int) -> np.ndarray:
    """Log mel (M, F) of where the path ends if it goes on as in its last step, for a preview."""
    expected = x + steps_left * (x - before)
    with model.policy.on_device(model.vae):
        mel = model.vae.decode(model.generator.unnormalize(expected))
    return np.asarray(mel[0].float().cpu())


@contextlib.contextmanager
def window_velocity(
    model: SelVAModel,
    features: VideoFeatures,
    text: TextConditions,
    options: GenerateOptions,
    *windows: Window,
) -> Iterator[Velocity]:
    """The guided velocity field of a batch, steered if the model has steering vectors.

    Item k of the batch is for window k; all have the same length, and one may be there several times.
    The generator must be on the device. A steered field works inside the block only, its backward pass too.

    Raises:
        InputError: as ``window_conditions``.
    """
    made = {window: window_conditions(model, features, text, options, window) for window in set(windows)}
    conditional, unconditional = (
        functools.reduce(concatenate_conditions, (made[window][branch] for window in windows))
        for branch in (0, 1)
    )
    generator, steering = model.generator, model.inputs.steering
    if steering is None:
        yield guided_velocity(generator, conditional, unconditional, options.cfg_strength)
        return
    # Hooks go to a module tree of this call alone: another sound made from the same model at the same time
    # must not hear them.
    generator = share(generator)
    velocity = guided_velocity(generator, conditional, unconditional, options.cfg_strength)
    with steering.attached(generator, velocity, guided=options.cfg_strength >= 1) as steered:
        yield steered


def check_noise(noise: Tensor | None, num_latents: int, dim: int, takes: int = 1) -> None:
    """Raise InputError unless ``noise`` is None, or (num_latents, dim) for a single take."""
    if noise is None:
        return
    if tuple(noise.shape) != (num_latents, dim):
        raise InputError(
            f"The noise is {tuple(noise.shape)}, but a sound of this length starts from "
            f"({num_latents}, {dim}). Use noise that was made for the same duration and variant."
        )
    if takes != 1:
        raise InputError(
            f"Noise was given, so there is one sound to make, not {takes} takes. Set takes to 1."
        )


def window_conditions(
    model: SelVAModel,
    features: VideoFeatures,
    text: TextConditions,
    options: GenerateOptions,
    window: Window,
) -> tuple[Conditions, Conditions]:
    """Conditions of the prompt and of the empty branch for one window.

    Raises:
        InputError: the features do not fit the variant, or hold no CLIP frames though they are asked for.
    """
    generator, config = model.generator, model.config
    lengths = config.lengths(max(window.duration, MIN_DURATION))
    device = model.policy.device
    empty_clip = generator.empty_clip(1, max(lengths.clip, 1))
    empty_sync = generator.empty_sync(1, lengths.sync)
    clip = empty_clip
    if _uses_clip(model, features, options):
        _check_width("CLIP", features.clip, config.generator.clip_dim, config.name)
        rows = _rows(features.clip, round(window.start * CLIP_RATE), max(lengths.clip, 1))
        clip = rows.to(device)
    sync = empty_sync
    if features.sync.shape[1]:
        _check_width("sync", features.sync, config.generator.sync_dim, config.name)
        offset = round(window.start / STEP) * SEGMENT_STEP
        sync = _rows(features.sync, offset, lengths.sync).to(device)
    has_sync = features.sync.shape[1] > 0
    conditional = generator.conditions(
        clip, sync, text.prompt.to(device), window.num_latents, is_empty_sync=not has_sync
    )

    def empty(negative: Tensor) -> Conditions:
        made: Conditions = generator.conditions(
            empty_clip, empty_sync, negative, window.num_latents, is_empty_sync=True
        )
        return made

    if text.negative is not None:
        return conditional, empty(text.negative.to(device))
    key = ("empty", lengths.clip, lengths.sync, window.num_latents)
    return conditional, model.remembered("generator", key, lambda: empty(generator.empty_text(1)))


def decode_latents(
    model: SelVAModel,
    latents: Sequence[Tensor],
    *,
    duration: float,
    on_progress: ProgressFn = ignore_progress,
) -> Tensor:
    """Waveforms (B, 1, L) float32 on the CPU of B latents (1, N, C), uncut: L = N * 2 * hop.

    Long latents are decoded in the windows they were made in and vocoded in chunks, so that memory
    stays flat.
    """
    config = model.config
    windows = plan_windows(duration, config)
    total = config.lengths(duration).latent
    chunk = round(_VOCODER_CHUNK * config.sample_rate / config.mel.hop_length)
    # One after the other, so that a machine short of memory need not hold both.
    with model.at_work("vae") as (vae,):
        decode = Replayed(vae, type(vae).decode)
        mels = []
        for index, latent in enumerate(latents):
            on_progress(Progress("decoding", index, 2 * len(latents)))
            latent = latent.to(model.policy.device)
            decoded = ((window, decode(latent[:, window.first : window.stop])) for window in windows)
            mels.append(join_windows(decoded, total, per_latent=2).to(model.policy.home))
        del vae, decode
    waveforms = []
    with model.at_work("vocoder") as (vocoder,):
        vocode = Replayed(vocoder, nn.Module.__call__)
        for index, mel in enumerate(mels):
            share = [0.5 + 0.5 * place / len(mels) for place in (index, index + 1)]
            on_take = subtask(on_progress, *share)
            mel = mel.to(model.policy.device)
            on_take(Progress("decoding", 0, 1))
            waveform = vocode(mel) if len(windows) == 1 else vocode_in_chunks(vocoder, mel, chunk, on_take)
            waveforms.append(waveform.float().cpu())
        on_progress(Progress("decoding", len(latents), len(latents)))
    waveform = torch.cat(waveforms)
    if not bool(waveform.isfinite().all()):
        raise GenerationError(
            f"The vocoder gave values that are not finite (precision {model.policy.precision}). "
            "Nothing was written. Try --precision fp32, or check the weights with `selva models verify`."
        )
    return waveform


def _uses_clip(model: SelVAModel, features: VideoFeatures, options: GenerateOptions) -> bool:
    has_rows = features.clip.shape[1] > 0
    if options.clip_conditioning == "on" and not has_rows:
        raise InputError(
            "clip_conditioning is on, but the features hold no CLIP frames. "
            "Extract them with clip_conditioning on as well."
        )
    wanted = options.clip_conditioning == "on" or (
        options.clip_conditioning == "auto" and model.config.clip_conditioning
    )
    return wanted and has_rows


def _check_batch(features: VideoFeatures) -> None:
    counts = features.clip.shape[0], features.sync.shape[0]
    if counts != (1, 1):
        raise InputError(
            f"The features hold {max(counts)} videos, but sound is made for one. Give features of (1, N, D)."
        )


def _check_width(kind: str, rows: Tensor, width: int, variant: str) -> None:
    if rows.shape[-1] != width:
        raise InputError(
            f"The {kind} features are {rows.shape[-1]} wide, but {variant} takes {width}. "
            f"Extract the features with {variant}."
        )


def _rows(features: Tensor, offset: int, count: int) -> Tensor:
    """``count`` rows from ``offset`` on; where the features end early, their last row is repeated."""
    index = torch.arange(offset, offset + count).clamp(max=features.shape[1] - 1)
    return features[:1, index]
