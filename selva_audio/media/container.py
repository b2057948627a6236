"""Opening media safely: which formats, from where, and how much they may expand to.

Every reader in this package goes through ``open_media``. What the streams hold is left to
``video.py`` and ``audio.py``.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error

from ..errors import MediaError, MissingFileError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Only formats that hold their own data: no playlists, no concat scripts, no SDP, no image sequences.
_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,gif,apng,"
    "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,"
    "wav,w64,aiff,flac,mp3,aac,ac3,caf"
)
# Formats whose clock starts anywhere; players count from the first timestamp, and so do we.
_FREE_CLOCK = {"mpegts", "mpeg"}
_READABLE = "mp4, mov, mkv, webm, avi, mpegts, flv, ogv or gif"


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """How much one file may ask for before it is refused.

    Attributes:
        pixels: width times height of one picture.
        seconds: length.
        frames: pictures in all.
        streams: tracks in the container.
        expansion: decoded bytes per byte of file, looked at only above ``free_bytes``; plain black H.264
            reaches nearly this much.
        large_pixels: pictures above this size (just over 4K) are held to ``large_expansion``.
        large_expansion: the same for large pictures; a still photograph reaches half of it.
        free_bytes: decoded bytes that any file may have.
    """

    pixels: int = 8192 * 8192
    seconds: float = 4 * 3600.0
    frames: int = 4_000_000
    streams: int = 64
    expansion: float = 100_000.0
    large_pixels: int = 4096 * 2304
    large_expansion: float = 20_000.0
    free_bytes: int = 2 * 2**30


LIMITS = MediaLimits()


@contextlib.contextmanager
def open_media(path: str | os.PathLike[str], *, limits: MediaLimits = LIMITS) -> Iterator["InputContainer"]:
    """Open a local media file whose headers keep the limits.

    Args:
        path: a regular file; links are followed.
        limits: what its headers may claim.

    Raises:
        MissingFileError: there is no such file.
        MediaError: not a regular file, empty, unreadable, of an unknown or refused format, cut off
            before its index, or larger than the limits.
    """
    source = regular_file(path)
    options = {
        "format_whitelist": _DEMUXERS,
        "protocol_whitelist": "file",
        "enable_drefs": "0",
        "use_absolute_path": "0",
        "max_pixels": str(limits.pixels),
    }
    try:
        container = av.open(f"file:{source.absolute()}", "r", options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(
            f"{source} cannot be opened as media: {_reason(error)}. It may be cut off, damaged, or of "
            f"another kind; give a complete {_READABLE} file, or convert it first."
        ) from error
    try:
        _check_headers(source, container, limits)
        yield container
    finally:
        container.close()


def read_tags(path: str | os.PathLike[str]) -> dict[str, str]:
    """Texts kept in a sound or video file, by lower-case name (title, comment, ...).

    Raises:
        MediaError: the file cannot be opened as media.
    """
    with open_media(path) as container:
        tags = {name.lower(): text for stream in container.streams for name, text in stream.metadata.items()}
        return tags | {name.lower(): text for name, text in container.metadata.items()}


def media_library_versions() -> str:
    """Names and versions of the FFmpeg libraries in use."""
    return ", ".join(f"{name} {'.'.join(map(str, found))}" for name, found in av.library_versions.items())


def regular_file(path: str | os.PathLike[str]) -> Path:
    """The path of a readable file that is not empty.

    Raises:
        MissingFileError: there is no such file.
        MediaError: a folder, a device, an empty or an unreadable file.
    """
    source = Path(path)
    if "\0" in str(source):
        raise MediaError(f"The path {str(source)!r} holds a NUL character. Give the path of a media file.")
    if source.is_dir():
        raise MediaError(f"{source} is a folder. Give the path of one media file in it.")
    if not source.exists():
        raise MissingFileError(f"There is no file {source}. Check the path, and that the disk is mounted.")
    if not source.is_file():
        raise MediaError(f"{source} is not a regular file. Save the media to a file and give its path.")
    if source.stat().st_size == 0:
        raise MediaError(f"{source} is empty (0 bytes). Copy or download it again.")
    if not os.access(source, os.R_OK):
        raise MediaError(f"{source} may not be read by this user. Change its permissions.")
    return source


def video_stream(container: "InputContainer", name: str) -> "VideoStream":
    """The first picture track that is not a cover image.

    Raises:
        MediaError: there is none, or none that this build can decode.
    """
    from av.stream import Disposition

    streams = [
        stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        held = "sound only" if container.streams.audio else "no picture and no sound (is it cut off?)"
        raise MediaError(f"{name} holds {held}, but a video is needed. Give a {_READABLE} file.")
    if streams[0].codec_context is None:
        raise MediaError(f"{name} is coded in a way that cannot be decoded here. Convert it to H.264 first.")
    return streams[0]


def time_origin(container: "InputContainer") -> Fraction:
    """Time stamp, in seconds, that counts as time zero."""
    if container.start_time is None or not _FREE_CLOCK & set(container.format.name.split(",")):
        return Fraction(0)
    # The container's own start is rounded to microseconds; the stream it comes from has it exactly.
    rounded = Fraction(container.start_time, 1_000_000)
    starts = [
        stream.start_time * stream.time_base
        for stream in container.streams
        if stream.start_time is not None and stream.time_base is not None
    ]
    return min(starts, key=lambda start: abs(start - rounded), default=rounded)


def check_expansion(
    name: str, decoded_bytes: float, file_bytes: int, limits: MediaLimits = LIMITS, *, pixels: int = 0
) -> None:
    """Refuse content that is out of all proportion to its file.

    Args:
        name: of the file, for the message.
        decoded_bytes: of all pictures or samples.
        file_bytes: size of the file.
        limits: what it may ask for.
        pixels: of one picture; 0 for sound.

    Raises:
        MediaError: above ``limits.free_bytes`` and above the expansion allowed for this size of picture.
    """
    expansion = limits.large_expansion if pixels > limits.large_pixels else limits.expansion
    if decoded_bytes > max(limits.free_bytes, expansion * file_bytes):
        raise MediaError(
            f"{name} has {file_bytes} bytes but expands to {decoded_bytes / 2**30:.1f} GB of pictures or "
            f"sound, over {expansion:.0f} times its size. If that is meant, cut or re-encode it."
        )


def check_picture(name: str, width: int, height: int, limits: MediaLimits = LIMITS) -> None:
    """Refuse a picture that is too large.

    Raises:
        MediaError: more than ``limits.pixels``.
    """
    if width * height > limits.pixels:
        raise MediaError(
            f"{name} is {width}x{height}, more than the {limits.pixels / 1e6:.0f} million pixels that are "
            "read. Scale it down first."
        )


def check_length(name: str, seconds: float, frames: float, limits: MediaLimits = LIMITS) -> None:
    """Refuse media that is too long.

    Raises:
        MediaError: more seconds or more frames than ``limits`` allows.
    """
    if seconds > limits.seconds:
        raise MediaError(
            f"{name} lasts {seconds:.0f} s, more than the {limits.seconds:.0f} s that are read. "
            "Cut it into parts."
        )
    if frames > limits.frames:
        raise MediaError(
            f"{name} holds {frames:.0f} frames, more than the {limits.frames} that are read. "
            "Cut it into parts."
        )


def _check_headers(source: Path, container: "InputContainer", limits: MediaLimits) -> None:
    if len(container.streams) > limits.streams:
        raise MediaError(
            f"{source} holds {len(container.streams)} tracks, more than the {limits.streams} that are read. "
            "Keep the ones you need in a new file."
        )
    size = source.stat().st_size
    length = (container.duration or 0) / 1e6
    for stream in container.streams.video:
        seconds = max(length, float((stream.duration or 0) * (stream.time_base or 0)))
        frames = stream.frames or seconds * float(stream.average_rate or 0)
        width, height = (stream.width, stream.height) if stream.codec_context is not None else (0, 0)
        check_picture(str(source), width, height, limits)
        check_length(str(source), seconds, frames, limits)
        check_expansion(str(source), 3.0 * width * height * frames, size, limits, pixels=width * height)
    check_length(str(source), length, 0, limits)


def _reason(error: Exception) -> str:
    text = str(error).partition("[Errno")[2].partition("]")[2] or str(error)
    return text.split(": 'file:")[0].split(":")[0].strip().rstrip(".").lower() or type(error).__name__
