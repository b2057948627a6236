"""Samples while training: one clip, one seed, made anew at each checkpoint so that they can be compared."""

from pathlib import Path

import torch

from ..bundle import SelVAModel
from ..configs import TRAINED_DURATION
from ..errors import GenerationError
from ..features import VideoFeatures
from ..media.audio import write_audio
from ..media.loudness import normalize
from ..models.generator import Generator
from ..options import GenerateOptions
from ..plots import save_figure, spectrogram_figure
from ..progress import ProgressFn, ignore_progress
from ..records import Audio
from ..synthesis import TextConditions, decode_latents, sample_latents
from .clips import Clips

_TITLE = "step {step}: {prompt}"


def write_sample(
    model: SelVAModel,
    generator: Generator,
    clips: Clips,
    folder: Path,
    step: int,
    *,
    steps: int,
    clip_conditioning: bool,
    on_progress: ProgressFn = ignore_progress,
) -> Path | None:
    """Make the sound of the first clip as the main job does, at the level of the main job.

    Args:
        model: bundle whose VAE and vocoder are used.
        generator: being trained; stays on its device.
        clips: the first one is taken.
        folder: ``sample_step00500.wav`` and ``.png`` are written there.
        step: 0 is the base.
        steps: solver steps.
        clip_conditioning: whether CLIP features of the picture are used.
        on_progress: called after every solver step.

    Returns:
        The sound file; None where the sound was not finite.
    """
    options = GenerateOptions(steps=steps, clip_conditioning="on" if clip_conditioning else "off")
    rows = clips.clip[:1] if bool(clips.has_clip[0]) else clips.clip[:1, :0]
    features = VideoFeatures(rows, clips.sync[:1], prompt=clips.prompts[0], duration=TRAINED_DURATION)
    if clip_conditioning and not rows.shape[1]:
        options = options.model_copy(update={"clip_conditioning": "off"})
    device, was_training = generator.sync_pos_emb.device, generator.training
    generator.eval()
    try:
        with torch.no_grad():
            latents = sample_latents(
                model.replace(generator=generator),
                features,
                TextConditions(clips.text[:1]),
                options,
                duration=TRAINED_DURATION,
                on_progress=on_progress,
            )
            waveform = decode_latents(model, latents, duration=TRAINED_DURATION)
    except GenerationError:
        return None
    finally:
        # Where parts visit the device for their stage only, sampling has sent the generator home.
        generator.to(device).train(was_training)
    rate = model.config.sample_rate
    length = round(TRAINED_DURATION * rate)
    sound, _ = normalize(
        waveform[0, :, :length],
        rate,
        mode=options.loudness,
        target=options.target_lufs,
        ceiling=options.true_peak_ceiling,
    )
    path = write_audio(folder / f"sample_step{step:05d}.wav", Audio(sound[None], rate))
    title = _TITLE.format(step=step, prompt=clips.prompts[0])
    save_figure(spectrogram_figure(sound[0].numpy(), rate, title=title), path.with_suffix(".png"))
    return path
