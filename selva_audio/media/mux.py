"""A new sound for a video: the picture packets are copied bit for bit, only the sound is coded."""

import contextlib
import io
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
from av.stream import Disposition

from ..errors import InputError, MediaError
from ..files import atomic_path
from ..options import OutputOptions
from ..progress import Progress, ProgressFn, ignore_progress
from ..records import Audio
from .container import LIMITS, MediaLimits, check_length, open_media, regular_file, time_origin, video_stream
from .decode import DEFAULT_RATE
from .grid import shown_seconds
from .soundtrack import add_sound_stream, build_soundtrack, encode_sound, sound_codec

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm"})
FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_MOV_FAMILY = {".mp4", ".mov"}
_REPORT_EVERY = 0.5
# Packets are read once, for the end of the picture and for the copy, if this much memory can keep them; a
# second opening of the file costs as much as decoding its first pictures.
_KEPT_BYTES = 2**25
_PACKET_BYTES = 1024
_AVFMT_FLAG_BITEXACT = 0x400
# What a muxer writes anew, or what describes the source file rather than its content.
_OWN_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration", "creation_time"}


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture track: seconds from zero to its end, of one frame, and hidden before zero; its packets."""

    seconds: float
    frame_seconds: float
    hidden: float
    num_packets: int


def mux(
    video: str | os.PathLike[str],
    audio: Audio,
    output: str | os.PathLike[str],
    options: OutputOptions | None = None,
    *,
    audio_start: float = 0.0,
    tags: Mapping[str, str] | None = None,
    limits: MediaLimits = LIMITS,
    on_progress: ProgressFn = ignore_progress,
) -> tuple[str, ...]:
    """Write a copy of a video with ``audio`` as its sound, whole or not at all.

    The picture keeps its packets, timestamps, rotation and colour description; the sound starts at the
    container's time zero and is cut or filled with silence to the picture's end.

    Args:
        video: file with the picture.
        audio: one take, (1, C, L).
        output: ends in .mp4, .mov, .mkv or .webm; not the input.
        options: what happens to the video's own sound, codec and bit rate.
        audio_start: seconds into the video where ``audio`` begins.
        tags: texts by name kept in the file.
        limits: what the input may ask for.
        on_progress: told of the packets copied; cancels by raising.

    Returns:
        Notes to show: dropped tracks, a changed codec, a mix turned down.

    Raises:
        InputError: an ending, codec or picture that does not fit, or output = input.
        MediaError: the input cannot be read or has no picture.
        GenerationError: a sample is NaN or infinite.
        OutputError: the disk refuses the file.
    """
    options = options or OutputOptions()
    source, target = regular_file(video), Path(output)
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"A video is written as .mp4, .mov, .mkv or .webm, not {target.suffix or 'without an ending'!r}."
        )
    if target.exists() and target.samefile(source):
        raise InputError(f"{target} is the input itself. Choose another output; inputs are never changed.")
    codec, notes = sound_codec(suffix, options.codec)
    with contextlib.ExitStack() as opened:
        container = opened.enter_context(open_media(source, limits=limits))
        stream = video_stream(container, str(source))
        _check_picture_codec(stream, suffix, source)
        picture, kept = _scan(container, stream, source, limits)
        waveform, rate, mix_notes = build_soundtrack(
            source,
            audio,
            picture.seconds,
            codec,
            options,
            frame_seconds=picture.frame_seconds,
            audio_start=audio_start,
        )
        notes += mix_notes
        if picture.hidden and suffix not in _MOV_FAMILY:
            notes += (
                f"The {picture.hidden:.2f} s that the video hides before its start are shown, with silence, "
                f"as {suffix} cannot hide them. Write .mp4 or .mov to keep them hidden.",
            )
        temporary = opened.enter_context(atomic_path(target))
        if kept is None:
            container = opened.enter_context(open_media(source, limits=limits))
            stream = video_stream(container, str(source))
            kept = _packets(container, *_copyable(container))
        result = opened.enter_context(open_output(temporary, FORMATS[suffix], source.name))
        copies = {stream.index: _copy_picture(result, stream, suffix)}
        sound = add_sound_stream(result, codec, waveform, rate, options.bitrate_kbps)
        others, dropped = _copy_others(container, result, stream)
        _copy_descriptions(container, result, tags)
        report = _reporter(picture.num_packets, on_progress)
        interleave(
            result,
            _copied(kept, copies | others, stream.index, report, time_origin(container)),
            encode_sound(sound, codec, waveform),
        )
        # Before the file is in place: whoever cancels on this report leaves nothing new behind.
        on_progress(Progress("writing video", picture.num_packets, picture.num_packets))
    return notes + dropped


@contextlib.contextmanager
def open_output(path: Path, container_format: str, name: str) -> Iterator["OutputContainer"]:
    """Open a container for writing that records nothing of the time, the machine or the program.

    Raises:
        MediaError: the container refuses what it is given.
    """
    options = {"movflags": "+faststart"} if container_format in ("mp4", "mov") else {}
    result = av.open(str(path), "w", format=container_format, container_options=options)
    result.flags |= _AVFMT_FLAG_BITEXACT
    try:
        yield result
        result.close()
    except BaseException as error:
        # The trailer cannot be written any more; the first error is the one to show.
        with contextlib.suppress(av.error.FFmpegError):
            result.close()
        if isinstance(error, av.error.FFmpegError) and not isinstance(error, OSError):
            raise MediaError(
                f"{name} cannot be written as {container_format}: {error.strerror}. "
                "Try .mkv, or convert the video to H.264 first."
            ) from error
        raise


def interleave(
    result: "OutputContainer", picture: Iterator["Packet[Stream]"], sound: Iterator["Packet[Stream]"]
) -> None:
    """Write two series of packets in order of time, so that neither waits in memory."""
    pending = next(sound, None)
    for packet in picture:
        moment = _moment(packet)
        while pending is not None and _moment(pending) <= moment:
            result.mux(pending)
            pending = next(sound, None)
        result.mux(packet)
    while pending is not None:
        result.mux(pending)
        pending = next(sound, None)


def _scan(
    container: "InputContainer", stream: "VideoStream", source: Path, limits: MediaLimits
) -> tuple[_Picture, "Iterable[Packet[Stream]] | None"]:
    """Where the picture ends, from its packets alone; and all packets to copy, None if they are too many."""
    last, before, seconds, hidden, count = -1.0, -1.0, 0.0, 0.0, 0
    origin = time_origin(container)
    kept: list[Packet[Stream]] | None = []
    room = _KEPT_BYTES
    for packet in _packets(container, *_copyable(container)):
        room -= packet.size + _PACKET_BYTES
        if kept is not None:
            kept.append(packet)
        if room < 0:
            kept = None
        if packet.stream_index != stream.index:
            continue
        count += 1
        stamp = packet.pts if packet.pts is not None else packet.dts
        moment = float(stamp * packet.time_base - origin) if stamp is not None else max(last, 0.0)
        hidden = max(hidden, -moment)
        if packet.is_discard:
            continue
        if moment > last:
            last, before = moment, last
            seconds = float((packet.duration or 0) * packet.time_base)
        elif moment > before:
            before = moment
        check_length(str(source), moment, count, limits)
    if count == 0:
        raise MediaError(f"{source} has a picture track without pictures. Copy or convert the video again.")
    default = 1.0 / float(stream.average_rate or stream.guessed_rate or DEFAULT_RATE)
    gap = last - before if before >= 0 else 0.0
    return _Picture(last + shown_seconds(seconds, gap, default), default, hidden, count), kept


def _packets(container: "InputContainer", *streams: "Stream") -> Iterator["Packet[Stream]"]:
    """Packets up to the end of the file or its first unreadable byte, without the flushing ones."""
    packets = container.demux(*streams)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.EOFError, av.error.InvalidDataError):
            return
        if packet.size:
            yield packet


def _copied(
    packets: "Iterable[Packet[Stream]]",
    copies: Mapping[int, "Stream"],
    picture: int,
    report: "Iterator[None]",
    origin: Fraction,
) -> Iterator["Packet[Stream]"]:
    for packet in packets:
        if packet.stream_index not in copies:
            continue
        if packet.stream_index == picture:
            next(report)
        if packet.pts is None:
            packet.pts = packet.dts
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.pts is None or packet.dts is None:
            continue
        if origin:
            shift = round(origin / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        packet.stream = copies[packet.stream_index]
        yield packet


def _copy_picture(result: "OutputContainer", stream: "VideoStream", suffix: str) -> "Stream":
    copy = result.add_stream_from_template(stream, opaque=True)
    context = copy.codec_context
    if stream.average_rate:
        context.framerate = stream.average_rate
    if suffix in _MOV_FAMILY and stream.codec_context.codec.canonical_name == "hevc":
        # Players of one large vendor take HEVC under this tag only.
        context.codec_tag = "hvc1"
    copy.metadata.update(_descriptions(stream.metadata))
    copy.disposition = stream.disposition
    return copy


def _copy_others(
    container: "InputContainer", result: "OutputContainer", picture: "VideoStream"
) -> tuple[dict[int, "Stream"], tuple[str, ...]]:
    """Tracks beside picture and sound that the container takes; a note names the rest."""
    copies: dict[int, Stream] = {}
    dropped: list[str] = []
    for stream in container.streams:
        if stream.index == picture.index or stream.type == "audio":
            continue
        if _is_copyable(stream):
            with contextlib.suppress(ValueError):
                copy = result.add_stream_from_template(stream, opaque=True)
                copy.metadata.update(_descriptions(stream.metadata))
                copies[stream.index] = copy
        if stream.index not in copies:
            cover = bool(stream.disposition & Disposition.attached_pic)
            dropped.append("cover image" if cover else f"{stream.type} track {stream.index}")
    if not dropped:
        return copies, ()
    return copies, (f"Not copied, because the output cannot hold it: {', '.join(dropped)}.",)


def _copyable(container: "InputContainer") -> list["Stream"]:
    """The picture, and what an output may take beside it."""
    return [stream for stream in container.streams if _is_copyable(stream)]


def _is_copyable(stream: "Stream") -> bool:
    cover = bool(stream.disposition & Disposition.attached_pic)
    return stream.type in ("subtitle", "video") and stream.codec_context is not None and not cover


def _copy_descriptions(
    container: "InputContainer", result: "OutputContainer", tags: Mapping[str, str] | None
) -> None:
    result.metadata.update(_descriptions(container.metadata))
    result.metadata.update(tags or {})
    chapters = container.chapters()
    if chapters:
        result.set_chapters(chapters)


def _descriptions(metadata: Mapping[str, str]) -> dict[str, str]:
    return {
        name: text
        for name, text in metadata.items()
        if name.lower() not in _OWN_TAGS and not name.startswith("_")
    }


def check_picture_fits(
    video: str | os.PathLike[str], output: str | os.PathLike[str], *, limits: MediaLimits = LIMITS
) -> None:
    """Refuse, before there is a sound, an output that ``mux`` would refuse for its picture.

    Raises:
        InputError: the container that the ending of ``output`` names cannot hold the picture of ``video``.
        MediaError: ``video`` cannot be read or has no picture.
    """
    source = regular_file(video)
    with open_media(source, limits=limits) as container:
        _check_picture_codec(video_stream(container, str(source)), Path(output).suffix.lower(), source)


def _check_picture_codec(stream: "VideoStream", suffix: str, source: Path) -> None:
    if _takes(suffix, stream):
        return
    fitting = [other for other in FORMATS if _takes(other, stream)]
    advice = (
        f"Write {' or '.join(fitting)} instead"
        if fitting
        else "Write .wav for the sound alone, or convert the video to H.264 first"
    )
    raise InputError(
        f"A {suffix} file cannot hold the picture of {source.name}, which is coded as "
        f"{stream.codec_context.codec.canonical_name}. {advice}."
    )


def _takes(suffix: str, stream: "VideoStream") -> bool:
    """Whether the container's muxer writes a header for the picture."""
    trial = av.open(io.BytesIO(), "w", format=FORMATS[suffix])
    try:
        _copy_picture(trial, stream, suffix)
        trial.start_encoding()
    except (ValueError, av.error.FFmpegError):
        return False
    finally:
        with contextlib.suppress(av.error.FFmpegError):
            trial.close()
    return True


def _reporter(total: int, on_progress: ProgressFn) -> Iterator[None]:
    """Advance once per packet; reports about twice a second."""
    reported = time.monotonic()
    for count in range(total + 1):
        if time.monotonic() - reported >= _REPORT_EVERY or count == 0:
            reported = time.monotonic()
            on_progress(Progress("writing video", count, total))
        yield


def _moment(packet: "Packet[Stream]") -> float:
    stamp = packet.dts if packet.dts is not None else packet.pts or 0
    return float(stamp * packet.time_base)
