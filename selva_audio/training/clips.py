"""Clips to train on: features as in their files, sound as the VAE's latent, prompts as CLIP's text.

Every clip is brought to the 8 seconds that the models were trained on. Which files belong together is left
to the data set; see ``tasks.train``.

Letters: K clips, N latent tokens, C latent channels, L samples.
"""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import torch
from platformdirs import user_cache_path
from torch import Tensor
from torch.nn import functional

from ..bundle import SelVAModel
from ..configs import SEGMENT_FRAMES, SEGMENT_STEP, SYNC_RATE, TRAINED_DURATION
from ..errors import CheckpointError, InputError, MediaError, MissingFileError, OutputError
from ..features import VideoFeatures, load_features
from ..files import file_digest
from ..media.audio import read_audio, resample
from ..progress import Progress, ProgressFn, ignore_progress
from ..records import Audio
from ..weights.io import read_state_dict, write_safetensors

Pad = Literal["zero", "loop", "reflect"]
Side = Literal["train", "val"]

_FORMAT = 1
_TAIL = 0.25  # seconds after the end of a sound that are still learned: its ringing out
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ClipSource:
    """The files of one clip.

    Attributes:
        name: of the clip.
        npz: its features.
        audio: its sound.
        prompt: sentence for it.
        recording: clips of one recording are on one side of the split.
        split: the side.
    """

    name: str
    npz: Path
    audio: Path
    prompt: str
    recording: str
    split: Side = "train"


@dataclass(frozen=True, slots=True, eq=False)
class Clips:
    """Clips in memory, float32 on the CPU.

    Attributes:
        names: of the clips.
        mean: (K, N, C) of the posterior, in the VAE's scale.
        std: (K, N, C) likewise.
        valid: (K, N) whether a token is sound of the clip, and not what it was filled up with.
        clip: (K, N_clip, D) CLIP features of the picture.
        has_clip: (K,) whether there are any.
        sync: (K, 8 S, D) sync features.
        text: (K, N_text, D) CLIP features of the prompts.
        prompts: one for each.
        recordings: one for each.
        splits: "train" or "val", one for each.
        pad: what short sounds were filled up with.
        fingerprint: of all files and prompts, the VAE and the split.
        encoded: sounds that went through the VAE now; the others were known.
        notes: clips that were left out, and other sentences that the user should see.
    """

    names: tuple[str, ...]
    mean: Tensor
    std: Tensor
    valid: Tensor
    clip: Tensor
    has_clip: Tensor
    sync: Tensor
    text: Tensor
    prompts: tuple[str, ...]
    recordings: tuple[str, ...]
    splits: tuple[Side, ...]
    pad: Pad
    fingerprint: str
    encoded: int
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def of(self, split: Side) -> "Clips":
        """The clips of one side."""
        return self.take([index for index, side in enumerate(self.splits) if side == split])

    def take(self, indices: Sequence[int]) -> "Clips":
        """Some of the clips, in this order."""
        chosen: dict[str, object] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Tensor):
                chosen[each.name] = value[list(indices)]
            elif isinstance(value, tuple) and each.name != "notes":
                chosen[each.name] = tuple(value[index] for index in indices)
        return replace(self, **chosen)  # type: ignore[arg-type]


def encode_clips(
    model: SelVAModel,
    sources: Sequence[ClipSource],
    *,
    pad: Pad = "zero",
    cache_dir: Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> Clips:
    """Read features, encode sounds and prompts; a sound that is known is not encoded again.

    Args:
        model: bundle of ``load_model``.
        sources: files of the clips.
        pad: what follows a sound that is shorter than 8 s: silence, the sound again, or the sound backwards.
        cache_dir: folder of known latents; None is the user cache folder.
        on_progress: called for every clip; cancels by raising.

    Returns:
        All clips that can be read; ``notes`` names the others.

    Raises:
        InputError: none can be read, or features of another model.
    """
    folder = cache_dir or user_cache_path("selva-audio", appauthor=False) / "latents"
    with torch.inference_mode(False), torch.no_grad():
        found: list[tuple[ClipSource, VideoFeatures, Tensor, Tensor, float]] = []
        digests, notes, encoded, rates = [], [], 0, set[int]()
        for place, source in enumerate(sources):
            on_progress(Progress(f"encoding {source.name}", place, len(sources)))
            try:
                features = _read_features(model, source)
                audio = _read_sound(source)
                mean, std, is_new = _latent(model, source, audio, pad, folder)
            except _WrongFeatures:
                raise
            except (MediaError, MissingFileError, CheckpointError, InputError) as error:
                notes.append(f"{source.name} is left out: {error}")
                continue
            encoded += is_new
            rates.add(audio.sample_rate)
            found.append((source, features, mean, std, audio.duration))
            digests.append(_digest(source))
        if not found:
            raise InputError(_nothing_left(notes))
        if len(rates) > 1:
            notes.append(_mixed_rates(rates, model.config.sample_rate))
        text = _texts(model, [source.prompt for source, *_ in found])
        on_progress(Progress("encoding", len(sources), len(sources)))
        account = [_FORMAT, model.config.name, model.identity("vae"), pad, sorted(digests)]
        lengths = model.config.lengths(TRAINED_DURATION)
        clip = [_fitted(features.clip, max(lengths.clip, 1)) for _, features, *_ in found]
        sync = [_fitted(features.sync, lengths.sync) for _, features, *_ in found]
        return Clips(
            names=tuple(source.name for source, *_ in found),
            mean=torch.cat([mean for *_, mean, _, _ in found]),
            std=torch.cat([std for *_, std, _ in found]),
            valid=torch.stack([_valid(model, features, seconds) for _, features, *_, seconds in found]),
            clip=torch.cat(clip),
            has_clip=torch.tensor([features.clip.shape[1] > 0 for _, features, *_ in found]),
            sync=torch.cat(sync),
            text=text,
            prompts=tuple(source.prompt for source, *_ in found),
            recordings=tuple(source.recording for source, *_ in found),
            splits=tuple(source.split for source, *_ in found),
            pad=pad,
            fingerprint=hashlib.sha256(json.dumps(account).encode()).hexdigest(),
            encoded=encoded,
            notes=tuple(notes),
        )


def padded(waveform: Tensor, length: int, pad: Pad) -> Tensor:
    """A waveform (L,) cut or filled up to ``length`` samples."""
    if len(waveform) >= length:
        return waveform[:length]
    if pad == "zero":
        return functional.pad(waveform, (0, length - len(waveform)))
    period = waveform if pad == "loop" else torch.cat((waveform, waveform.flip(0)))
    return period.repeat(-(-length // len(period)))[:length]


def _read_features(model: SelVAModel, source: ClipSource) -> VideoFeatures:
    config = model.config.generator
    features = load_features(source.npz)
    again = f"Prepare the clips again with {model.config.name}."
    for kind, rows, width in (
        ("CLIP", features.clip, config.clip_dim),
        ("sync", features.sync, config.sync_dim),
    ):
        if rows.shape[0] != 1:
            raise InputError(f"{source.npz} holds {rows.shape[0]} videos; a clip is one. {again}")
        if rows.shape[-1] != width:
            raise _WrongFeatures(
                f"{source.npz} holds {kind} features of width {rows.shape[-1]}, and {model.config.name} "
                f"takes {width}: they are of another model. {again}"
            )
        if not bool(rows.isfinite().all()):
            raise InputError(f"{source.npz} holds {kind} features that are not finite. {again}")
    if not features.sync.shape[1]:
        raise InputError(f"{source.npz} holds no sync features. {again}")
    return features


class _WrongFeatures(CheckpointError):
    """Features of another model: true of all clips where it is true of one."""


def _read_sound(source: ClipSource) -> Audio:
    audio = read_audio(source.audio)
    if not audio.waveform.shape[-1]:
        raise InputError(f"{source.audio} has no samples. Export it again.")
    if not bool(audio.waveform.isfinite().all()):
        raise InputError(f"{source.audio} holds NaN or infinite samples. Export it again.")
    return audio


def _latent(
    model: SelVAModel, source: ClipSource, audio: Audio, pad: Pad, folder: Path
) -> tuple[Tensor, Tensor, bool]:
    """Mean and std (1, N, C), and whether the VAE had to run."""
    config = model.config
    num_samples = config.lengths(TRAINED_DURATION).samples
    account = [_FORMAT, file_digest(source.audio), model.identity("vae"), repr(config.mel), repr(config.vae)]
    key = hashlib.sha256(json.dumps([*account, num_samples, pad]).encode()).hexdigest()
    path = folder / f"{key}.safetensors"
    if path.is_file():
        try:
            known = read_state_dict(path)
            return known["mean"], known["std"], False
        except (CheckpointError, KeyError):
            path.unlink(missing_ok=True)
    mono = resample(audio.waveform[0].mean(dim=0), audio.sample_rate, config.sample_rate)
    waveform = padded(mono, num_samples, pad)
    with model.policy.on_device(model.vae):
        latent = model.vae.encode(model.mel(waveform[None].to(model.policy.device)))
    mean, std = latent.mean.float().cpu(), latent.std.float().cpu()
    if not bool(mean.isfinite().all() and std.isfinite().all()):
        raise InputError(
            f"The latent of {source.audio} is not finite. Check the sound, and the VAE's weights."
        )
    with contextlib.suppress(OutputError):  # a full cache costs time the next time, not the training
        write_safetensors(path, {"mean": mean, "std": std})
    return mean, std, True


def _valid(model: SelVAModel, features: VideoFeatures, seconds: float) -> Tensor:
    """(N,) tokens that lie in the sound and in what the features saw."""
    segments = features.sync.shape[1] // SEGMENT_STEP
    # The segments leave out up to one step at the end.
    seen = (SEGMENT_FRAMES + SEGMENT_STEP * segments) / SYNC_RATE
    num_latents = model.config.lengths(TRAINED_DURATION).latent
    centres = (torch.arange(num_latents, dtype=torch.float64) + 0.5) / model.config.latent_rate
    valid = centres < min(seconds + _TAIL, seen)
    return valid


def _fitted(rows: Tensor, count: int) -> Tensor:
    """(1, count, D): cut, or with the last row repeated; zeros where there are no rows."""
    if not rows.shape[1]:
        return rows.new_zeros(1, count, rows.shape[2])
    return rows[:, torch.arange(count).clamp(max=rows.shape[1] - 1)].float()


def _texts(model: SelVAModel, prompts: Sequence[str]) -> Tensor:
    """(K, N_text, D), each prompt encoded once."""
    unique = list(dict.fromkeys(prompts))
    with model.policy.on_device(model.clip):
        encoded = torch.cat([model.clip.encode_text([prompt]).float().cpu() for prompt in unique])
    return encoded[[unique.index(prompt) for prompt in prompts]]


def _digest(source: ClipSource) -> list[str]:
    files = [file_digest(source.audio), file_digest(source.npz)]
    return [source.name, *files, source.prompt, source.recording, source.split]


def _mixed_rates(rates: set[int], rate: int) -> str:
    low = min(rates)
    lost = f", and those of {low} Hz have nothing above {low // 2} Hz" if low < rate else ""
    return (
        f"The sounds have several sample rates ({', '.join(map(str, sorted(rates)))} Hz). All are brought to "
        f"{rate} Hz{lost}."
    )


def _nothing_left(notes: Sequence[str]) -> str:
    more = f" And {len(notes) - _SHOWN} more." if len(notes) > _SHOWN else ""
    return f"No clip can be used for training. {' '.join(notes[:_SHOWN])}{more}"
