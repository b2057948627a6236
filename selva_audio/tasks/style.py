"""Files of a style on a loaded model: learned tokens, a tuned vocoder, steering vectors."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..adapters.textual_inversion import AppliedInversion, TextualInversion, check_width, read_inversion
from ..adapters.vocoder import TunedVocoder, read_vocoder, tune, vocoder_digest
from ..bundle import SelVAModel
from ..errors import CheckpointError, InputError
from ..files import file_digest
from ..flow.steering import Steering, SteeringVectors, check_steering_fits
from ..flow.steering_file import read_steering
from ..models.bigvgan import BigVGAN
from ..models.generator import Generator
from ..options import InversionOptions, SteeringOptions
from .adapter import with_adapters

__all__ = ["with_files", "with_steering", "with_textual_inversion", "with_vocoder"]

logger = logging.getLogger(__name__)


def with_files(
    model: SelVAModel,
    *,
    adapters: Sequence[str | Path] = (),
    strengths: Sequence[float] = (),
    textual_inversion: str | Path | None = None,
    inversion: InversionOptions | None = None,
    vocoder: str | Path | None = None,
    steering: str | Path | None = None,
    steering_options: SteeringOptions | None = None,
) -> SelVAModel:
    """A model with everything that was trained for it; what is not given is not changed.

    Raises:
        SelVAError: as ``with_adapters`` and the functions below.
    """
    model = with_adapters(model, adapters, strengths)
    model = with_textual_inversion(model, textual_inversion, inversion)
    model = with_vocoder(model, vocoder)
    return with_steering(model, steering, steering_options)


def with_textual_inversion(
    model: SelVAModel, path: str | Path | None, options: InversionOptions | None = None
) -> SelVAModel:
    """A model that samples with learned tokens; the given one stays as it is.

    Args:
        model: bundle of ``load_model``, with adapters or without.
        path: file of ``train_textual_inversion`` or of the public pack; None gives the model itself.
        options: strength; 0 is the sound without the tokens, bit for bit.

    Raises:
        MissingFileError: no such file.
        CheckpointError: a file that cannot be read, or of another variant or other weights.
        InputError: options without a file.
    """
    options = options or InversionOptions()
    if path is None:
        if options != InversionOptions():
            raise InputError("ti_strength was given without learned tokens. Give --textual-inversion too.")
        return model
    inversion = read_inversion(path)
    _check_inversion(model, path, inversion)
    for note in inversion.notes:
        logger.warning("%s: %s", path, note)
    applied = AppliedInversion(inversion, options, str(Path(path).resolve()), file_digest(Path(path)))
    return model.with_inputs(textual_inversion=applied)


def with_vocoder(model: SelVAModel, path: str | Path | None) -> SelVAModel:
    """A model with a tuned vocoder; the given one, and all tensors that were not tuned, stay as they are.

    Args:
        model: bundle of ``load_model``; a vocoder that it was tuned with before is left behind.
        path: file of ``train_vocoder``, of the public pack, or a BigVGAN generator; None gives the model
            itself.

    Raises:
        MissingFileError: no such file.
        CheckpointError: a file that cannot be read, or of another variant or other weights.
    """
    if path is None:
        return model
    tuned = read_vocoder(path)
    _check_vocoder(model, path, tuned)
    for note in tuned.notes:
        logger.warning("%s: %s", path, note)
    account = {"path": str(Path(path).resolve()), "sha256": file_digest(Path(path))}

    def build(vocoder: BigVGAN) -> BigVGAN:
        return tune(vocoder, tuned)

    return model.with_tuned_vocoder(build, account)


def with_steering(
    model: SelVAModel, path: str | Path | None, options: SteeringOptions | None = None
) -> SelVAModel:
    """A model that samples with steering vectors; the given one stays as it is.

    Args:
        model: bundle of ``load_model``, with adapters or without.
        path: file of ``extract_steering`` or of the public pack; None gives the model itself.
        options: strength, mode, branch, blocks.

    Raises:
        MissingFileError: no such file.
        CheckpointError: a file that cannot be read, or of another variant or other weights.
        InputError: blocks that are not there, or options without a file.
    """
    options = options or SteeringOptions()
    if path is None:
        if options != SteeringOptions():
            raise InputError("Steering options were given without vectors. Give --steering too.")
        return model
    vectors = read_steering(path)
    _check_steering(model, path, vectors)
    steering = Steering(vectors, options, str(Path(path).resolve()), file_digest(Path(path)))
    with torch.device("meta"):
        shapes = Generator(model.config.generator)
    check_steering_fits(shapes, vectors, model.config.generator.hidden_dim)
    steering.paths(shapes)
    return model.with_inputs(steering=steering)


def _check_inversion(model: SelVAModel, path: str | Path, inversion: TextualInversion) -> None:
    config = model.config
    if inversion.variant and inversion.variant != config.name:
        raise CheckpointError(
            f"{path} was trained on {inversion.variant}, and this is {config.name}. Choose that variant, or "
            "other tokens."
        )
    check_width(inversion, config.generator.text_length, config.generator.text_dim)
    clip = model.base_identity("clip")
    if inversion.clip_id and inversion.clip_id != clip:
        raise CheckpointError(
            f"{path} was trained with other CLIP weights ({inversion.clip_id}) than these ({clip}). Train "
            "the tokens again, or use those weights."
        )


def _check_vocoder(model: SelVAModel, path: str | Path, tuned: TunedVocoder) -> None:
    config = model.config
    variant = tuned.meta.get("variant")
    if tuned.sample_rate and tuned.sample_rate != config.sample_rate:
        raise CheckpointError(
            f"{path} is a vocoder for {tuned.sample_rate} Hz{f', of {variant}' if variant else ''}, and "
            f"{config.name} has {config.sample_rate} Hz. Choose a variant of that rate, or another vocoder."
        )
    own = model.base_vocoder()
    with torch.device("meta"):
        shapes = BigVGAN(config.vocoder)
    tune(shapes, _on_meta(tuned))
    if not tuned.base_sha256:
        return
    exact = own.vocoder if own.vocoder.conv_pre.weight.dtype == torch.float32 else own.exact("vocoder")
    base = vocoder_digest(exact)
    if tuned.base_sha256 != base:
        raise CheckpointError(
            f"{path} was tuned from another vocoder (sha256 {tuned.base_sha256[:12]}...) than this one "
            f"({base[:12]}...). Use the weights that it was tuned from, or tune again."
        )


def _on_meta(tuned: TunedVocoder) -> TunedVocoder:
    """The same names and shapes without numbers."""
    return replace(tuned, state={key: tensor.to("meta") for key, tensor in tuned.state.items()})


def _check_steering(model: SelVAModel, path: str | Path, vectors: SteeringVectors) -> None:
    if vectors.variant and vectors.variant != model.config.name:
        raise CheckpointError(
            f"{path} was found in {vectors.variant}, and this is {model.config.name}. Choose that variant, "
            "or other vectors."
        )
    base = model.base_identity("generator")
    if vectors.base and vectors.base != base:
        raise CheckpointError(
            f"{path} was found in other weights of {model.config.name} ({vectors.base}) than these ({base}). "
            "Extract the vectors again."
        )
