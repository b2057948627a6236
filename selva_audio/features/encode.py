"""Frames to features: one streamed pass over the video, the encoders fed segment block by segment block."""

import itertools
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..bundle import SelVAModel
from ..configs import (
    CLIP_RATE,
    SEGMENT_FRAMES,
    SEGMENT_STEP,
    SYNC_RATE,
    TRAINED_DURATION,
    ModelConfig,
    num_segments,
)
from ..errors import InputError
from ..media.grid import Sample
from ..media.masks import Mask, apply_mask, fit_masks
from ..media.transforms import short_side_crop, squash, to_clip
from ..media.video import (
    IMAGE_SUFFIXES,
    FrameStream,
    VideoInfo,
    read_image,
    stream_arrays,
    stream_frames,
)
from ..options import FeatureOptions
from ..progress import Progress, ProgressFn, ignore_progress
from ..records import Frames
from ..runtime import send
from .ahead import Pictures
from .cache import source_name
from .record import VideoFeatures

logger = logging.getLogger(__name__)

Blend = Callable[[Tensor, Sequence[Sample[np.ndarray]]], Tensor]

# A GPU wants batches; a CPU takes seconds for one segment, and after each one a run can be cancelled.
_BLOCK_ON_GPU, _BLOCK_ON_CPU = 8, 1


def encode_video(
    model: SelVAModel,
    source: Path | Frames,
    options: FeatureOptions,
    mask: Mask | None = None,
    *,
    stream: Pictures | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> VideoFeatures:
    """Features of a video, an image or frames in memory, past any cache.

    Memory does not grow with the length or the resolution of a file. Under 0.64 s the last frame is
    repeated to one segment; ``duration`` stays the true one.

    Args:
        model: the bundle.
        source: path of a video or image, or frames.
        options: prompt, range, mask strength.
        mask: 1 where the sounding source is.
        stream: what ``open_frames`` gives for the same arguments; None opens it here.
        on_progress: progress and cancel.

    Raises:
        MediaError: not a readable video or image.
        InputError: options or mask that do not fit.
    """
    if isinstance(source, Path) and source.suffix.lower() in IMAGE_SUFFIXES:
        return _encode_image(model, source, options, mask)
    use_clip = uses_clip(model, options)
    sync_size = model.config.video_encoder.image_size
    if stream is None:
        stream = open_frames(model, source, options)
    if stream.info.container.endswith("_pipe"):
        raise InputError(
            f"{source} is a single picture ({stream.info.codec}) with the name of a video. Give a video, or "
            f"rename it to end in one of {', '.join(sorted(IMAGE_SUFFIXES))}, which MMAudio variants take."
        )

    sync_mask, clip_mask = (mask if wanted else None for wanted in (options.mask_sync, options.mask_clip))
    sync_frames = _sync_blocks(
        model,
        _blend(sync_mask, options.mask_strength, stream.info, crop=sync_size if _is_cropped(model) else 0),
        options.prompt,
    )
    clip_frames = (
        _clip_blocks(model, _blend(clip_mask, options.mask_strength, stream.info)) if use_clip else None
    )
    with model.at_work("video_encoder", *(["image_clip"] if use_clip else [])):
        _consume(stream, sync_frames, clip_frames, options, on_progress)
        # Sums of timestamps carry rounding, and token counts are cut off, not rounded.
        duration = round(stream.duration, 6)
        sync = sync_frames.finish(SEGMENT_STEP * max(num_segments(duration), 1))
        clip = (
            clip_frames.finish(max(int(duration * CLIP_RATE), 1))
            if clip_frames
            else torch.zeros(1, 0, model.config.generator.clip_dim)
        )
    return VideoFeatures(
        clip,
        sync,
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        duration=duration,
        source=source_name(source),
        encoder_id=encoder_id(model, options),
        fps=stream.info.average_rate,
        variant=model.config.name,
    )


def open_frames(model: SelVAModel, source: Path | Frames, options: FeatureOptions) -> FrameStream:
    """The frames that the encoders see, in the order in which they want them.

    Raises:
        MediaError: not a readable video.
        InputError: options that do not fit.
    """
    config = model.config
    shrink = partial(short_side_crop if _is_cropped(model) else squash, size=config.video_encoder.image_size)
    grids: dict[float, Callable[[np.ndarray], np.ndarray] | None] = {SYNC_RATE: shrink}
    if uses_clip(model, options):
        grids = {CLIP_RATE: partial(squash, size=config.clip.frame_size)} | grids
    read: Callable[..., FrameStream] = stream_arrays if isinstance(source, Frames) else stream_frames
    return read(source, grids, start=options.start, duration=options.duration, fps=options.fps)


def features_without_video(model: SelVAModel, options: FeatureOptions) -> VideoFeatures:
    """Features of no video at all, for sound from the prompt alone.

    Raises:
        InputError: the variant was trained to follow a picture.
    """
    check_without_video(model.config)
    return VideoFeatures(
        torch.zeros(1, 0, model.config.generator.clip_dim),
        torch.zeros(1, 0, model.config.generator.sync_dim),
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        duration=options.duration or TRAINED_DURATION,
        variant=model.config.name,
    )


def check_without_video(config: ModelConfig) -> None:
    """Raise InputError if the variant was trained to follow a picture that moves."""
    if config.family != "mmaudio":
        raise InputError(
            f"{config.name} makes the sound of a video; without one, use an MMAudio variant "
            "(mmaudio_large_44k_v2, mmaudio_small_16k, ...)."
        )


def uses_clip(model: SelVAModel, options: FeatureOptions) -> bool:
    """Whether CLIP frames are encoded: as asked, or as the variant was trained."""
    if options.clip_conditioning == "auto":
        return model.config.clip_conditioning
    return options.clip_conditioning == "on"


def encoder_id(model: SelVAModel, options: FeatureOptions) -> str:
    """Text that changes with the weights of every encoder that ``options`` uses."""
    parts = ["video_encoder", *(["t5"] if model.config.family == "selva" else [])]
    if uses_clip(model, options):
        parts.append("image_clip")
    return "+".join(model.identity(part) for part in parts)


def _is_cropped(model: SelVAModel) -> bool:
    return model.config.family == "mmaudio"


def _encode_image(model: SelVAModel, path: Path, options: FeatureOptions, mask: Mask | None) -> VideoFeatures:
    """One picture: its CLIP feature for every token, no sync features (SPEC 7.5)."""
    features = features_without_video(model, options)
    if not uses_clip(model, options):
        raise InputError(
            f"{path.name} is a picture, which is heard through CLIP alone, but clip_conditioning is off. "
            "Set it to auto, or give a video."
        )
    if options.start or options.fps:
        logger.warning("%s is a picture: start and fps have no effect on it.", path.name)
    size = model.config.clip.frame_size
    frame = to_clip(squash(read_image(path), size)[None])
    if mask is not None and options.mask_clip:
        frame = apply_mask(
            frame, mask.at([0.0], sources=[0], num_frames=1, duration=1.0), options.mask_strength
        )
    with model.at_work("image_clip") as (clip,):
        encoded = clip.encode_image(frame[None].to(model.policy.device)).float().cpu()
    count = max(int(features.duration * CLIP_RATE), 1)
    return VideoFeatures(
        encoded.expand(-1, count, -1).contiguous(),
        features.sync,
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        duration=features.duration,
        source=source_name(path),
        encoder_id=encoder_id(model, options),
        variant=model.config.name,
    )


def _consume(
    stream: Pictures,
    sync_frames: "_Blocks",
    clip_frames: "_Blocks | None",
    options: FeatureOptions,
    on_progress: ProgressFn,
) -> None:
    expected = stream.info.duration - options.start
    expected = min(expected, options.duration) if options.duration else expected
    total = max(round(expected * SYNC_RATE), 0)
    for sample in stream:
        if sample.rate == SYNC_RATE:
            sync_frames.add(sample)
            on_progress(Progress("reading and encoding video", min(sample.index, total), total))
        elif clip_frames is not None:
            clip_frames.add(sample)


class _Blocks:
    """Frames of one grid, handed to an encoder in blocks, so that only one block is held.

    The encoder sees a stretch of ``smallest`` frames at a time. One that shows what the one before it showed,
    as in a still picture, is not encoded again.

    Args:
        encode: (1, T, 3, H, W) in [0, 1] -> (1, rows, width).
        size: frames per block.
        overlap: frames that the next stretch, and the next block, sees again; a stretch gives as many rows as
            it has other ones.
        smallest: frames of a stretch, which a call needs at least; the last frame is repeated to it.
        blend: applied to (T, 3, H, W) in [0, 1] with the samples they came from; None leaves the frames.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        *,
        size: int,
        overlap: int,
        smallest: int,
        blend: Blend | None,
    ) -> None:
        self._encode = encode
        self._size = size
        self._overlap = overlap
        self._smallest = smallest
        self._blend = blend
        self._samples: list[Sample[np.ndarray]] = []
        self._rows: list[Tensor] = []
        self._seen: Tensor | None = None

    def add(self, sample: Sample[np.ndarray]) -> None:
        """Take the next frame of the grid."""
        self._samples.append(sample)
        if len(self._samples) == self._size:
            self._flush()
            del self._samples[: self._size - self._overlap]

    def finish(self, count: int) -> Tensor:
        """The first ``count`` rows of all frames; the last row is repeated where they end early."""
        if not self._rows and not self._samples:
            raise InputError(
                "There is no picture in the stretch asked for. Give a longer duration, or another start."
            )
        if not self._rows:
            self._samples += self._samples[-1:] * max(self._smallest - len(self._samples), 0)
        if len(self._samples) >= max(self._smallest, self._overlap + 1):
            self._flush()
        # Not before: a GPU goes on with one block while the next is read and sent.
        rows = torch.cat(self._rows, dim=1).cpu()
        return rows[:, torch.arange(count).clamp(max=rows.shape[1] - 1)].contiguous()

    def _flush(self) -> None:
        pixels = to_clip(np.stack([sample.frame for sample in self._samples]))
        if self._blend is not None:
            pixels = self._blend(pixels, self._samples)
        step = self._smallest - self._overlap
        stretches = range(0, len(pixels) - self._smallest + 1, step)
        for is_repeated, group in itertools.groupby(stretches, lambda at: self._repeats(pixels, at)):
            starts = list(group)
            if is_repeated:
                self._rows += [self._rows[-1][:, -step:]] * len(starts)
            else:
                run = pixels[None, starts[0] : starts[-1] + self._smallest]
                self._rows.append(self._encode(run).float())

    def _repeats(self, pixels: Tensor, start: int) -> bool:
        """Whether the stretch from ``start`` is, bit for bit, the one asked about before."""
        stretch, before = pixels[start : start + self._smallest], self._seen
        self._seen = stretch
        return before is not None and torch.equal(stretch, before)


def _sync_blocks(model: SelVAModel, blend: Blend | None, prompt: str) -> _Blocks:
    encoder, device = model.video_encoder, model.policy.device
    text: tuple[Tensor, ...] = ()
    if model.config.family == "selva":
        encoded = model.remembered("t5", ("text", prompt), lambda: _encode_prompt(model, prompt))
        text = tuple(part.to(device) for part in encoded)
    return _Blocks(
        lambda pixels: encoder.encode(send(pixels, device) * 2 - 1, *text),
        size=SEGMENT_FRAMES + SEGMENT_STEP * (_block_size(model) - 1),
        overlap=SEGMENT_FRAMES - SEGMENT_STEP,
        smallest=SEGMENT_FRAMES,
        blend=blend,
    )


def _encode_prompt(model: SelVAModel, prompt: str) -> tuple[Tensor, Tensor]:
    with model.at_work("t5") as (t5,):
        states, mask = t5.encode_text([prompt])
    return states, mask


def _clip_blocks(model: SelVAModel, blend: Blend | None) -> _Blocks:
    clip, device = model.image_clip, model.policy.device
    return _Blocks(
        lambda pixels: clip.encode_image(send(pixels, device)),
        size=_block_size(model),
        overlap=0,
        smallest=1,
        blend=blend,
    )


def _block_size(model: SelVAModel) -> int:
    return _BLOCK_ON_CPU if model.policy.device == "cpu" else _BLOCK_ON_GPU


def _blend(mask: Mask | None, strength: float, info: VideoInfo, *, crop: int = 0) -> Blend | None:
    """How frames of one grid are masked, cropped to ``crop`` pixels if not 0; None where they are not."""
    if mask is None or strength == 0:
        return None

    def blend(pixels: Tensor, samples: Sequence[Sample[np.ndarray]]) -> Tensor:
        masks = mask.at(
            [sample.time for sample in samples],
            sources=[sample.source for sample in samples],
            num_frames=info.num_frames,
            duration=info.duration,
        )
        if crop:
            masks = fit_masks(masks, info.height, info.width, crop=crop)
        return apply_mask(pixels, masks, strength)

    return blend
