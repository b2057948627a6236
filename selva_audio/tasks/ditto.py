"""DITTO: sound for a video in the style of a folder of sounds, by choosing the noise that it starts from."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..bundle import SelVAModel
from ..dataset.sounds import SoundSet, load_sounds
from ..errors import InputError
from ..features import VideoFeatures
from ..files import file_digest
from ..flow.ditto import OptimisedNoise, optimise_noise
from ..flow.noise_file import write_noise
from ..options import DittoOptions, FeatureOptions, GenerateOptions, OutputOptions
from ..plots import save_figure
from ..progress import ProgressFn, ignore_progress, subtask
from ..records import Audio, RunResult
from ..training.curves import loss_figure
from ..training.ditto import StyleSampler
from .evaluate_folder import check_targets
from .generate import MaskLike, existing_file, extract_features, generate, sound_duration
from .run import FEATURES_SUFFIX, check_output, run_video, stored_features

logger = logging.getLogger(__name__)

NOISE_SUFFIX = ".noise.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class DittoResult:
    """What DITTO came to.

    Attributes:
        audio: the sound of the noise that was found.
        found: that noise, losses before and after, and all iterations.
        references: names of the sounds that the style was taken from.
        evaluations: calls of the generator; a backward pass counts as two.
        notes: sentences that the user should see.
    """

    audio: Audio
    found: OptimisedNoise
    references: tuple[str, ...]
    evaluations: int
    notes: tuple[str, ...] = ()


def ditto(
    model: SelVAModel,
    features: VideoFeatures,
    reference_dir: str | Path,
    options: DittoOptions | None = None,
    sampling: GenerateOptions | None = None,
    *,
    on_progress: ProgressFn = ignore_progress,
) -> DittoResult:
    """Optimise the noise, then make its sound. No weights change.

    Args:
        model: bundle of ``load_model``, with whatever it samples with.
        features: of the video.
        reference_dir: sounds of the style, searched in all folders below.
        options: how the noise is optimised.
        sampling: how the sound is made; its seed gives the noise to start from.
        on_progress: ``loss`` and ``true_loss`` come with each iteration. Cancelling while it optimises ends
            that, and the best so far is made into the result, with ``found.status`` "cancelled".

    Raises:
        MissingFileError, MediaError: no reference that can be read.
        InputError: several takes, or features that do not fit the variant.
        GenerationError: a loss that is not finite.
    """
    options, sampling = options or DittoOptions(), sampling or GenerateOptions()
    references = load_sounds(reference_dir, on_progress=subtask(on_progress, 0, 0.05))
    for note in references.notes:
        logger.warning(note)
    found, evaluations = find_noise(
        model, features, references, options, sampling, on_progress=subtask(on_progress, 0.05, 0.85)
    )
    on_rest = ignore_progress if found.status == "cancelled" else subtask(on_progress, 0.85, 1)
    audio = generate(model, features, sampling, noise=found.noise, on_progress=on_rest)
    notes = (*references.notes, *_unused(options), *audio.notes)
    return DittoResult(audio, found, tuple(each.name for each in references.sounds), evaluations, notes)


def run_ditto(
    model: SelVAModel,
    video: str | Path,
    output: str | Path,
    reference_dir: str | Path,
    options: DittoOptions | None = None,
    feature_options: FeatureOptions | None = None,
    sampling: GenerateOptions | None = None,
    *,
    output_options: OutputOptions | None = None,
    mask: MaskLike | None = None,
    figure: str | Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> RunResult:
    """``ditto`` for a video or a feature file, with the files around it.

    The noise is written beside the sound, and named in its recipe: a replay starts from it, and optimises
    nothing. Arguments are those of ``ditto`` and ``run_video``; ``figure`` is a PNG of the losses.

    Raises:
        SelVAError: any of its kinds; nothing is left half-written.
    """
    options, sampling = options or DittoOptions(), sampling or GenerateOptions()
    feature_options, output = feature_options or FeatureOptions(), Path(output)
    figure = Path(figure) if figure is not None else None
    check_targets(None, figure)
    source = existing_file(Path(video))
    check_output(output, source)
    references = load_sounds(reference_dir, on_progress=subtask(on_progress, 0, 0.05))
    if source.suffix.lower() == FEATURES_SUFFIX:
        features, wanted = stored_features(source, feature_options, sampling)
    else:
        wanted = sampling
        features = extract_features(
            model, source, feature_options, mask, on_progress=subtask(on_progress, 0.05, 0.15)
        )
    found, evaluations = find_noise(
        model, features, references, options, wanted, on_progress=subtask(on_progress, 0.15, 0.85)
    )
    noise = write_noise(output.with_name(output.name + NOISE_SUFFIX), found.noise)
    digests = {each.name: file_digest(each.path) for each in references.sounds if each.path is not None}
    told = {"options": options.model_dump(mode="json"), "references": digests, **_summary(found, evaluations)}
    if figure is not None:
        save_figure(ditto_figure(found), figure)
    result = run_video(
        model,
        source,
        output,
        feature_options,
        sampling,
        output_options=output_options,
        mask=mask,
        noise=noise,
        account={"ditto": told},
        on_progress=ignore_progress if found.status == "cancelled" else subtask(on_progress, 0.85, 1),
    )
    notes = (*references.notes, *_unused(options), *result.notes)
    return RunResult((*result.outputs, noise), result.recipe, result.seconds, notes)


def find_noise(
    model: SelVAModel,
    features: VideoFeatures,
    references: SoundSet,
    options: DittoOptions,
    sampling: GenerateOptions,
    *,
    on_progress: ProgressFn = ignore_progress,
) -> tuple[OptimisedNoise, int]:
    """The noise, and how many calls of the generator it took; arguments as of ``ditto``."""
    if sampling.takes != 1:
        raise InputError(f"DITTO makes one sound, not {sampling.takes} takes. Set takes to 1.")
    duration, _ = sound_duration(features, sampling)
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        StyleSampler.opened(model, features, sampling, duration=duration) as sampler,
    ):
        target = sampler.target([each.audio for each in references.sounds], options)
        found = optimise_noise(
            sampler.noise(),
            lambda x: sampler.loss(x, target, options),
            lambda x: sampler.true_loss(x, target, options),
            options,
            on_progress=on_progress,
        )
        return found, sampler.evaluations


def ditto_figure(found: OptimisedNoise) -> Any:
    """Style loss of each iteration, and that of the real sampler where it was looked at."""
    losses = [each.loss for each in found.history if each.loss is not None]
    looks: list[Mapping[str, float]] = [
        {"step": each.step, "val_loss": each.true_loss}
        for each in found.history
        if each.true_loss is not None
    ]
    return loss_figure(
        losses, looks, title="style loss", names=("in each iteration", "under the final sampler")
    )


def _unused(options: DittoOptions) -> list[str]:
    """A sentence for each setting that the kind of gradient passes over."""
    fields = DittoOptions.model_fields
    return [
        f"Without effect, because gradient is {options.gradient}: {name}."
        for name, kind in (("n_grad_steps", "truncated"), ("surrogate_steps", "surrogate"))
        if options.gradient != kind and getattr(options, name) != fields[name].default
    ]


def _summary(found: OptimisedNoise, evaluations: int) -> dict[str, Any]:
    """What a recipe tells of the search."""
    return {
        "status": found.status,
        "best_step": found.step,
        "style_loss_before": found.before,
        "style_loss_after": found.after,
        "norm": found.norm,
        "kurtosis": found.kurtosis,
        "evaluations": evaluations,
        "history": [asdict(each) for each in found.history],
    }
