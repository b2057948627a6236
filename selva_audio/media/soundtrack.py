"""The sound track of a video: as long as the picture, with or without the video's own sound, coded.

Copying the picture beside it is left to ``mux.py``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.codec.context import Flags
from scipy import ndimage

from ..errors import InputError
from ..options import OutputOptions
from ..records import Audio
from .audio import read_audio_track, resample, single_take, to_integers
from .loudness import true_peak_dbtp

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from torch import Tensor

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_AAC_RATES = (44100, 48000, 88200, 96000)
# From here on FFmpeg's quick search for AAC quantizers is the better one: what is decoded is closer to the
# sound by 4 to 17 dB (music, speech, impacts; mono and stereo), in less than half the time.
_AAC_QUICK_KBPS = 192
_BLOCK = 4096
_MIX_CEILING_DBTP = -1.0
# Where the new sound counts as playing, and how the video's own sound makes room for it.
_DUCK_THRESHOLD_DBFS = -50.0
_DUCK_BLOCK_SECONDS = 0.01
_DUCK_HOLD_SECONDS = 0.3
_DUCK_FADE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class SoundCodec:
    """How sound is coded in one kind of container.

    Attributes:
        encoder: FFmpeg's name.
        sample_format: what the encoder takes.
        rates: sample rates it takes; empty for any.
        block: samples that readers hand out at once, the padded last block too; 0 = they trim it.
    """

    encoder: str
    sample_format: str
    rates: tuple[int, ...] = ()
    block: int = 0

    def rate_for(self, sample_rate: int, frame_seconds: float) -> int:
        """A rate it takes that loses nothing of ``sample_rate``, if there is one.

        Whole multiples come first. Half a block is never longer than a picture, so that ``length_for``
        can keep its promise.
        """
        if not self.rates:
            return sample_rate
        least = max(sample_rate, self.block / 2 / frame_seconds)
        fitting = [rate for rate in self.rates if rate >= least] or [max(self.rates)]
        return min(fitting, key=lambda rate: (rate % sample_rate != 0, rate))

    def length_for(self, seconds: float, sample_rate: int, frame_seconds: float) -> int:
        """Samples to code so that what readers decode is as long as the picture to one frame."""
        length = max(round(seconds * sample_rate), 1)
        if self.block and -length % self.block > frame_seconds * sample_rate and length > self.block:
            return length - length % self.block
        return length


_AAC = SoundCodec("aac", "fltp", _AAC_RATES, block=1024)
_ALAC = SoundCodec("alac", "s32p")
_FLAC = SoundCodec("flac", "s32")
_OPUS = SoundCodec("libopus", "flt", (48000,))
_CODECS = {
    (".mp4", "aac"): _AAC,
    (".mp4", "lossless"): _ALAC,
    (".mov", "aac"): _AAC,
    (".mov", "lossless"): _ALAC,
    (".mkv", "aac"): _AAC,
    (".mkv", "lossless"): _FLAC,
    (".webm", "aac"): _OPUS,
}


def sound_codec(suffix: str, codec: str) -> tuple[SoundCodec, tuple[str, ...]]:
    """The coding for a container and a wish, with notes to show.

    Raises:
        InputError: lossless sound in a webm file.
    """
    chosen = _CODECS.get((suffix, codec))
    if chosen is None:
        raise InputError(
            f"A {suffix} file cannot hold {codec} sound. Use codec aac (it becomes Opus), or write .mkv."
        )
    return chosen, ("A webm file takes no AAC, so its sound is Opus.",) if chosen is _OPUS else ()


def build_soundtrack(
    video: Path | None,
    audio: Audio,
    seconds: float,
    codec: SoundCodec,
    options: OutputOptions,
    *,
    frame_seconds: float,
    audio_start: float = 0.0,
) -> tuple["Tensor", int, tuple[str, ...]]:
    """New sound placed in silence as long as the picture, and mixed with the video's own if asked.

    Args:
        video: file whose own sound may be kept; None = it has none.
        audio: one take.
        seconds: length of the picture from time zero.
        codec: decides the sample rate.
        options: replace, mix or duck, and gains.
        frame_seconds: length of one picture.
        audio_start: seconds at which the new sound begins.

    Returns:
        (C, L) float32, its sample rate, and notes.

    Raises:
        InputError: more than one take, or a number of channels that no container takes.
        GenerationError: a sample is NaN or infinite.
    """
    new = single_take(audio)
    notes: tuple[str, ...] = ()
    own: Audio | None = None
    if options.original_audio != "replace":
        own = read_audio_track(video) if video is not None else None
        if own is not None and own.waveform.shape[1] > 2 and video is not None:
            own = read_audio_track(video, layout="stereo")
        if own is None:
            notes = (f"The video has no sound of its own to {options.original_audio}; the new one is alone.",)
    rate = codec.rate_for(max(audio.sample_rate, own.sample_rate if own is not None else 0), frame_seconds)
    length = codec.length_for(seconds, rate, frame_seconds)
    track = _placed(resample(new, audio.sample_rate, rate), round(audio_start * rate), length)
    if own is not None:
        kept = _placed(resample(own.waveform[0], own.sample_rate, rate), 0, length)
        kept = kept * 10 ** (options.original_gain_db / 20)
        if options.original_audio == "duck":
            kept = kept * duck_gain(track, rate, options.duck_db)
        channels = max(len(track), len(kept))
        track = _with_channels(track, channels) + _with_channels(kept, channels)
        peak = true_peak_dbtp(track)
        if peak > _MIX_CEILING_DBTP:
            track = track * 10 ** ((_MIX_CEILING_DBTP - peak) / 20)
            notes += (
                f"The mix was turned down by {peak - _MIX_CEILING_DBTP:.1f} dB so that it does not clip.",
            )
    if len(track) not in _LAYOUTS:
        raise InputError(
            f"Sound with {len(track)} channels cannot go into a video. Mix it to mono or stereo first."
        )
    return track, rate, notes


def duck_gain(waveform: "Tensor", sample_rate: int, duck_db: float) -> "Tensor":
    """Gain over time for the sound that makes room.

    Args:
        waveform: (C, L), the sound in front.
        sample_rate: hertz.
        duck_db: how far the other one goes down while this one plays.

    Returns:
        (L,) float32 between ``10 ** (-duck_db / 20)`` and 1, without jumps.
    """
    length = waveform.shape[-1]
    step = max(round(_DUCK_BLOCK_SECONDS * sample_rate), 1)
    power = waveform.double().square().mean(0).numpy()
    blocks = np.add.reduceat(power, np.arange(0, length, step)) / step
    playing = blocks > 10 ** (_DUCK_THRESHOLD_DBFS / 10)
    held = ndimage.maximum_filter1d(playing.astype(np.float64), _blocks(_DUCK_HOLD_SECONDS))
    share = ndimage.uniform_filter1d(held, _blocks(_DUCK_FADE_SECONDS), mode="nearest")
    centres = (np.arange(len(blocks)) + 0.5) * step
    smooth = np.interp(np.arange(length), centres, share)
    return torch.from_numpy(10 ** (-duck_db * smooth / 20)).float()


def add_sound_stream(
    output: "OutputContainer", codec: SoundCodec, waveform: "Tensor", sample_rate: int, bitrate_kbps: int
) -> "AudioStream":
    """Add an encoder for ``waveform`` (C, L) to an output that has not begun."""
    stream: AudioStream = output.add_stream(codec.encoder, rate=sample_rate)  # type: ignore[assignment]
    stream.codec_context.layout = _LAYOUTS[len(waveform)]
    stream.codec_context.format = codec.sample_format
    stream.time_base = Fraction(1, sample_rate)
    stream.codec_context.flags |= Flags.bitexact
    if codec.encoder in ("aac", "libopus"):
        stream.codec_context.bit_rate = bitrate_kbps * 1000
    if codec.encoder == "aac" and bitrate_kbps >= _AAC_QUICK_KBPS:
        stream.codec_context.options = {"aac_coder": "fast"}
    if codec.sample_format.startswith("s32"):
        stream.codec_context.options = {"bits_per_raw_sample": "24"}
    return stream


def encode_sound(stream: "AudioStream", codec: SoundCodec, waveform: "Tensor") -> Iterator["Packet[Stream]"]:
    """Coded packets of ``waveform`` (C, L), whose first sample is at time zero."""
    context = stream.codec_context
    layout, sample_rate = _LAYOUTS[len(waveform)], context.sample_rate
    samples = waveform.numpy()
    size = context.frame_size or _BLOCK
    for begin in range(0, samples.shape[1], size):
        block = samples[:, begin : begin + size]
        if codec.sample_format.startswith("s32"):
            block = to_integers(block, 24)
        if not codec.sample_format.endswith("p"):
            block = block.T.reshape(1, -1)
        frame = AudioFrame.from_ndarray(
            np.ascontiguousarray(block), format=codec.sample_format, layout=layout
        )
        frame.sample_rate = sample_rate
        frame.time_base = Fraction(1, sample_rate)
        frame.pts = begin
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _placed(waveform: "Tensor", start: int, length: int) -> "Tensor":
    """(C, length): ``waveform`` beginning at sample ``start``, silence around it."""
    track = torch.zeros(len(waveform), length)
    end = min(start + waveform.shape[1], length)
    if end > start:
        track[:, start:end] = waveform[:, : end - start]
    return track


def _with_channels(waveform: "Tensor", channels: int) -> "Tensor":
    return waveform if len(waveform) == channels else waveform.mean(0, keepdim=True).expand(channels, -1)


def _blocks(seconds: float) -> int:
    return round(seconds / _DUCK_BLOCK_SECONDS) | 1
