"""Sound files: read, write, resample; and the sound track of a video.

Levels are left to ``loudness.py``, sound inside videos to ``mux.py``.
"""

import io
import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av.error
import numpy as np
import soundfile
import soxr
import torch
from av.audio.resampler import AudioResampler

from ..errors import GenerationError, InputError, MediaError
from ..files import write_bytes
from ..records import Audio
from .container import (
    LIMITS,
    MediaLimits,
    check_expansion,
    check_length,
    open_media,
    regular_file,
    time_origin,
)

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from torch import Tensor

AUDIO_SUFFIXES = frozenset({".wav", ".flac"})
SUBTYPES = {"pcm16": "PCM_16", "pcm24": "PCM_24", "float32": "FLOAT"}
_BITS = {"pcm16": 16, "pcm24": 24}
_TAGS = ("title", "artist", "comment", "album", "date", "license", "copyright", "genre")
# Sound expands far less than pictures: 10 000 is four times what silent FLAC reaches.
_EXPANSION = 10_000.0
_FREE_BYTES = 2**28
_BLOCK = 2**18
_JITTER_SECONDS = 0.02


def read_audio(path: str | os.PathLike[str], *, limits: MediaLimits = LIMITS) -> Audio:
    """Read a sound file, or the first sound track of a video.

    Args:
        path: wav, flac, ogg, mp3, m4a, or any container that ``open_media`` accepts.
        limits: what the file may ask for.

    Returns:
        (1, C, L) float32 at the file's own rate.

    Raises:
        MediaError: no sound in it, damaged from the start, or larger than the limits.
    """
    source = regular_file(path)
    try:
        with soundfile.SoundFile(str(source)) as file:
            return _read_soundfile(source, file, limits)
    except soundfile.LibsndfileError:
        audio = read_audio_track(source, limits=limits)
    if audio is None:
        raise MediaError(f"{source} holds no sound. Give a wav, flac, mp3 or m4a file, or a video with it.")
    return audio


def read_audio_track(
    path: str | os.PathLike[str], *, layout: str | None = None, limits: MediaLimits = LIMITS
) -> Audio | None:
    """First sound track of a media file, placed so that sample 0 is at the container's time zero.

    Sound that starts late is preceded by silence, sound before zero is cut, and gaps between time
    stamps are filled, so that events keep their places.

    Args:
        path: media file.
        layout: FFmpeg channel layout to mix to, such as "stereo"; None keeps the track's.
        limits: what the file may ask for.

    Returns:
        (1, C, L) float32; None if the file has no sound track.

    Raises:
        MediaError: the file cannot be opened, or its sound cannot be decoded.
    """
    source = regular_file(path)
    with open_media(source, limits=limits) as container:
        streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
        if not streams:
            return None
        samples = _decode_track(source, container, streams[0], layout, limits)
        return Audio(torch.from_numpy(samples)[None], streams[0].codec_context.sample_rate)


def write_audio(
    path: str | os.PathLike[str],
    audio: Audio,
    *,
    subtype: str = "pcm24",
    tags: Mapping[str, str] | None = None,
) -> Path:
    """Write a sound file, whole or not at all; equal samples give equal bytes.

    Args:
        path: ends in .wav or .flac.
        audio: one take, (1, C, L); samples outside [-1, 1) are clipped in integer files.
        subtype: "pcm16", "pcm24" or "float32" (wav only); rounded to nearest, without dither.
        tags: texts by name (title, comment, ...), kept in the file.

    Raises:
        InputError: another ending, subtype or tag, or more than one take.
        GenerationError: a sample is NaN or infinite.
        OutputError: the disk refuses the file.
    """
    target = Path(path)
    container = target.suffix.lower().lstrip(".")
    if target.suffix.lower() not in AUDIO_SUFFIXES:
        raise InputError(f"Sound is written as .wav or .flac, not {target.suffix or 'without an ending'!r}.")
    if subtype not in SUBTYPES or (container == "flac" and subtype == "float32"):
        allowed = "pcm16 or pcm24" if container == "flac" else ", ".join(SUBTYPES)
        raise InputError(f"A .{container} file cannot hold {subtype!r} samples. Use {allowed}.")
    if unknown := set(tags or {}) - set(_TAGS):
        raise InputError(f"A sound file has no tag {sorted(unknown)[0]!r}. Use one of {', '.join(_TAGS)}.")
    samples = single_take(audio).T.numpy()  # (L, C)
    memory = io.BytesIO()
    with soundfile.SoundFile(
        memory,
        "w",
        samplerate=audio.sample_rate,
        channels=samples.shape[1],
        format=container.upper(),
        subtype=SUBTYPES[subtype],
    ) as file:
        for name in _TAGS:
            if tags and name in tags:
                setattr(file, name, tags[name])
        for begin in range(0, len(samples), _BLOCK):
            block = samples[begin : begin + _BLOCK]
            file.write(block if subtype == "float32" else to_integers(block, _BITS[subtype]))
    write_bytes(target, _without_clock(memory.getbuffer(), container))
    return target


def resample(waveform: "Tensor", from_rate: int, to_rate: int) -> "Tensor":
    """Change the sample rate with soxr at its very high quality.

    Args:
        waveform: (..., L) float32.
        from_rate: hertz.
        to_rate: hertz.

    Returns:
        (..., round(L * to_rate / from_rate)); the input itself at equal rates.
    """
    if from_rate == to_rate:
        return waveform
    length = round(waveform.shape[-1] * to_rate / from_rate)
    flat = waveform.detach().cpu().float().reshape(-1, waveform.shape[-1])
    rows = [soxr.resample(row, from_rate, to_rate, quality="VHQ") for row in flat.numpy()]
    result = np.zeros((len(rows), length), dtype=np.float32)
    for place, row in zip(result, rows, strict=True):
        place[: len(row)] = row[:length]
    return torch.from_numpy(result).reshape(*waveform.shape[:-1], length)


def single_take(audio: Audio) -> "Tensor":
    """The (C, L) waveform of audio that holds one take.

    Raises:
        InputError: several takes, or no samples.
        GenerationError: a sample is NaN or infinite.
    """
    if audio.waveform.shape[0] != 1:
        raise InputError(
            f"One file holds one take, but this audio has {audio.waveform.shape[0]}. Write them one by one."
        )
    waveform = audio.waveform[0].detach().cpu().float()
    if 0 in waveform.shape:
        raise InputError(f"The sound is empty: {tuple(audio.waveform.shape)}. Generate at least one sample.")
    if not bool(torch.isfinite(waveform).all()):
        raise GenerationError(
            "The sound holds NaN or infinite samples, so nothing was written. "
            "Try precision fp32 or another seed."
        )
    return waveform


def to_integers(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples in [-1, 1] as int32 whose upper ``bits`` bits hold them, rounded and clipped."""
    full = 2 ** (bits - 1)
    rounded: np.ndarray = np.clip(np.rint(samples.astype(np.float64) * full), -full, full - 1)
    integers: np.ndarray = rounded.astype(np.int32) << (32 - bits)
    return integers


def _read_soundfile(source: Path, file: soundfile.SoundFile, limits: MediaLimits) -> Audio:
    check_length(str(source), file.frames / file.samplerate, 0, limits)
    _check_size(source, file.frames * file.channels)
    blocks = [np.zeros((0, file.channels), dtype=np.float32)]
    # Block by block: the length in a header is a claim, not a reason to allocate.
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block)
    samples = np.concatenate(blocks)
    if len(samples) == 0:
        raise MediaError(f"{source} holds no samples. Record or export it again.")
    return Audio(torch.from_numpy(np.ascontiguousarray(samples.T))[None], file.samplerate)


def _decode_track(
    source: Path, container: "InputContainer", stream: "AudioStream", layout: str | None, limits: MediaLimits
) -> np.ndarray:
    rate = stream.codec_context.sample_rate
    origin = time_origin(container)
    resampler = AudioResampler(format="fltp", layout=layout or stream.layout.name, rate=rate)
    parts: list[np.ndarray] = []
    written = 0
    for begin, block in _blocks(container, stream, resampler):
        position = written if begin is None else round(float(begin - origin) * rate)
        if abs(position - written) <= _JITTER_SECONDS * rate and written:
            position = written
        if position > written:
            check_length(str(source), position / rate, 0, limits)
            parts.append(np.zeros((len(block), position - written), dtype=np.float32))
        fresh = block[:, max(written - position, 0) :]
        parts.append(fresh)
        written = max(written, position) + fresh.shape[1]
        check_length(str(source), written / rate, 0, limits)
        _check_size(source, written * len(block))
    if not written:
        raise MediaError(
            f"The sound of {source} could not be decoded: it is damaged or cut off. Copy or convert it again."
        )
    samples: np.ndarray = np.concatenate(parts, axis=1)
    return samples


def _blocks(
    container: "InputContainer", stream: "AudioStream", resampler: AudioResampler
) -> Iterator[tuple[Fraction | None, np.ndarray]]:
    """Start in seconds and samples (C, L) of each decoded frame; damaged packets are passed over."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
            frames = packet.decode()
        except (StopIteration, av.error.EOFError):
            return
        except av.error.FFmpegError:
            continue
        for frame in frames:
            begin = frame.pts * frame.time_base if frame.pts is not None and frame.time_base else None
            for converted in resampler.resample(frame):
                yield begin, converted.to_ndarray().astype(np.float32, copy=False)


def _check_size(source: Path, samples: int) -> None:
    limits = MediaLimits(expansion=_EXPANSION, free_bytes=_FREE_BYTES)
    check_expansion(str(source), 4.0 * samples, source.stat().st_size, limits)


def _without_clock(data: memoryview, container: str) -> bytes:
    """The file's bytes without the time of writing, which libsndfile puts into float files (PEAK)."""
    content = bytearray(data)
    place = content.find(b"PEAK", 0, 4096) if container == "wav" else -1
    if place >= 0:
        content[place + 12 : place + 16] = bytes(4)
    return bytes(content)
