"""Tune a vocoder on a folder of sounds."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bundle import SelVAModel
from ..configs import TRAINED_DURATION
from ..dataset.prompts import key_of, read_prompts
from ..features import load_features
from ..files import file_digest, write_text
from ..media.audio import write_audio
from ..models.mel import mel_spectrogram
from ..options import GenerateOptions, VocoderOptions
from ..plots import mel_figure, save_figure
from ..progress import Progress, ProgressFn, ignore_progress, subtask
from ..records import Audio
from ..synthesis import MIN_DURATION, encode_prompts, sample_latents
from ..training.corpus import Corpus, read_corpus, with_mels
from ..training.discriminators import read_discriminators
from ..training.loop import Checkpoint, FitResult, fit
from ..training.vocoder import VocoderTrainable
from ..weights.io import read_state_dict, write_safetensors
from .adapter import adapter_digest, with_adapters
from .trained import SUMMARY, Trained, plain_summary

__all__ = ["load_corpus", "train_vocoder"]

logger = logging.getLogger(__name__)

_READING_SHARE = 0.05
_MEL_STEPS, _MEL_GUIDANCE = 25, 4.5


def train_vocoder(
    model: SelVAModel,
    data_dir: str | Path,
    output_dir: str | Path,
    options: VocoderOptions | None = None,
    *,
    clips: Corpus | None = None,
    resume: str | Path | None = None,
    should_stop: Callable[[], str | None] | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> Trained:
    """Tune the variant's vocoder on a folder of sounds.

    Args:
        model: bundle of ``load_model``; its parts stay as they are, and all but the vocoder are off the GPU
            meanwhile.
        data_dir: folder of .wav, .flac, .ogg and .mp3 files, and of folders with them.
        output_dir: gets ``vocoder_final.pt``, checkpoints, samples with mels, curves and the summary.
        options: what is trained, the loss, the length.
        clips: of ``load_corpus``, for several trainings on one folder.
        resume: checkpoint to go on from.
        should_stop: asked after every step; a word ends the training, with the state in vocoder_last.pt.
        on_progress: progress and cancel; the state is kept.

    Returns:
        Files, losses, and validation before and after.

    Raises:
        MissingFileError: no folder, adapter or discriminator.
        InputError: no sounds, or settings that cannot be used.
        CheckpointError: a checkpoint of another training, or a discriminator that cannot be used.
        GenerationError: the numbers are of no use.
        OutputError: a file cannot be written.
    """
    options = options or VocoderOptions()
    options = options.model_copy(update={"lr": options.effective_lr})
    output_dir = Path(output_dir)
    with torch.inference_mode(False), torch.enable_grad():
        rate = model.config.sample_rate
        discriminators = (
            read_discriminators(options.discriminator_path, rate) if options.discriminator_path else None
        )
        corpus = clips or load_corpus(model, data_dir, on_progress=subtask(on_progress, 0, _READING_SHARE))
        if options.lora_adapter:
            corpus = _generated(model, corpus, options, output_dir, subtask(on_progress, 0, _READING_SHARE))
        notes = (*corpus.notes, *(discriminators.notes if discriminators else ()))
        for note in notes:
            logger.warning(note)
        report = subtask(on_progress, _READING_SHARE, 1)
        with model.aside():
            training = VocoderTrainable(model, corpus, options, discriminators)
            with model.policy.on_device(training.vocoder):
                result = _run(training, output_dir, resume, should_stop, report)
                return _finish(training, result, output_dir, notes, report)


def load_corpus(
    model: SelVAModel, data_dir: str | Path, *, on_progress: ProgressFn = ignore_progress
) -> Corpus:
    """The sounds of a folder at the rate of a model.

    Raises:
        MissingFileError: no such folder.
        InputError: no sound in it that can be read.
    """
    return read_corpus(data_dir, model.config.sample_rate, on_progress=on_progress)


def _run(
    training: VocoderTrainable,
    output_dir: Path,
    resume: str | Path | None,
    should_stop: Callable[[], str | None] | None,
    on_progress: ProgressFn,
) -> FitResult:
    """The loop, with one sound through the vocoder before it and at each checkpoint."""
    if not (output_dir / "sample_step00000.wav").is_file():
        made, real = training.sample()
        _write_sample(training, output_dir, "sample_recording", real)
        _write_sample(training, output_dir, "sample_step00000", made)

    def on_checkpoint(checkpoint: Checkpoint) -> None:
        on_progress(Progress("sampling", checkpoint.step, training.options.steps))
        _write_sample(training, output_dir, f"sample_step{checkpoint.step:05d}", training.sample()[0])

    return fit(
        training,
        training.options,
        output_dir,
        resume=resume,
        on_checkpoint=on_checkpoint,
        should_stop=should_stop,
        on_progress=on_progress,
    )


def _write_sample(training: VocoderTrainable, folder: Path, name: str, wave: Tensor) -> None:
    config = training.config
    if not bool(wave.isfinite().all()):
        return
    write_audio(folder / f"{name}.wav", Audio(wave[None, None], config.sample_rate))
    figure = mel_figure(mel_spectrogram(wave[None], config.mel)[0].numpy(), config.mel, title=name)
    save_figure(figure, folder / f"{name}.png")


def _finish(
    training: VocoderTrainable,
    result: FitResult,
    output_dir: Path,
    notes: tuple[str, ...],
    on_progress: ProgressFn,
) -> Trained:
    options = training.options
    summary = plain_summary(result, options) | {
        "variant": training.config.name,
        "parameters": training.num_parameters,
        "clips": {"train": len(training.training), "val": len(training.validation)},
        "data_fingerprint": training.data,
        "base_sha256": training.base_sha256,
        "validation": _validation(training, result),
        "l2sp": training.anchor_account(),
        "checkpoint_path": str(result.path),
        "notes": [*notes, *result.notes],
    }
    summary_path = output_dir / SUMMARY
    write_text(summary_path, json.dumps(summary, indent=2) + "\n")
    report = (
        f"{options.train_mode}: {training.num_parameters:,} parameters in {len(training.tuned)} tensors"
        + (f", filters of {options.kernel_size} taps among them" if options.kernel_size else ""),
    )
    return Trained.of(result, summary, summary_path, report, tuple(summary["notes"]))


def _validation(training: VocoderTrainable, result: FitResult) -> dict[str, Any] | None:
    history = [dict(each) for each in result.history]
    if not history:
        return None
    return {
        "clips": list(training.validation.names),
        "before": history[0]["val_loss"],
        "after": history[-1]["val_loss"],
        "best": dict(result.best),
        "history": history,
    }


def _generated(
    model: SelVAModel, corpus: Corpus, options: VocoderOptions, output_dir: Path, on_progress: ProgressFn
) -> Corpus:
    """The sounds with the mels that an adapted model generates for them; these are kept with the results."""
    adapter = Path(options.lora_adapter)
    adapted = with_adapters(model, [adapter])
    sources = {name: (corpus.folder / name).with_suffix(".npz") for name in corpus.names}
    sources = {name: npz for name, npz in sources.items() if npz.is_file()}
    prompts = {npz: _prompt(npz) for npz in sources.values()}
    settings = GenerateOptions(seed=options.seed, steps=_MEL_STEPS, cfg_strength=_MEL_GUIDANCE)
    files = [[name, file_digest(npz), prompts[npz]] for name, npz in sorted(sources.items())]
    account = [
        adapter_digest(adapter),
        model.identities(),
        model.policy.precision,
        settings.model_dump(mode="json"),
    ]
    origin = hashlib.sha256(json.dumps([files, account], sort_keys=True).encode()).hexdigest()
    place = output_dir / f"generated_mels_{origin[:20]}.safetensors"
    mels: dict[str, Tensor]
    if place.is_file():
        mels = read_state_dict(place)
    else:
        mels = {}
        for number, (name, npz) in enumerate(sources.items()):
            on_progress(Progress(f"generating {name}", number, len(sources)))
            mels[name] = _generate_mel(adapted, npz, prompts[npz], settings)
        if mels:
            write_safetensors(place, mels)
    return with_mels(corpus, mels, origin)


@torch.no_grad()
def _generate_mel(model: SelVAModel, npz: Path, prompt: str, settings: GenerateOptions) -> Tensor:
    """(M, F) of one clip, on the CPU."""
    features = load_features(npz)
    seconds = min(max(features.duration or TRAINED_DURATION, MIN_DURATION), TRAINED_DURATION)
    text = encode_prompts(model, prompt or features.prompt)
    latents = sample_latents(model, features, text, settings, duration=seconds)
    with model.policy.on_device(model.vae):
        mel: Tensor = model.vae.decode(latents[0].to(model.policy.device))
    return mel[0].float().cpu()


def _prompt(npz: Path) -> str:
    """What ``prompts.txt`` says about a clip; "" where it says nothing."""
    return read_prompts(npz.parent).get(key_of(npz.name), "")
