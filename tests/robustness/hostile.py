"""Files that no reader should trust, made on the spot."""

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
from av.video.frame import VideoFrame


def playlists(target: str) -> dict[str, bytes]:
    """Texts that make a careless reader open ``target``, by the name they pretend to have."""
    return {
        "ffconcat.mp4": f"ffconcat version 1.0\nfile '{target}'\nduration 1\n".encode(),
        "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n".encode(),
        "sdp.mp4": (
            b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            b"m=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        ),
        "xspf.mp4": (
            '<?xml version="1.0" encoding="UTF-8"?><playlist version="1" xmlns="http://xspf.org/ns/0/">'
            f"<trackList><track><location>file://{target}</location></track></trackList></playlist>"
        ).encode(),
        "dash.mp4": (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">'
            '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
            f"<BaseURL>file://{target}</BaseURL></Representation></AdaptationSet></Period></MPD>"
        ).encode(),
        "imf.mp4": (
            b'<?xml version="1.0"?><CompositionPlaylist '
            b'xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"></CompositionPlaylist>'
        ),
        "m3u.mp4": f"#EXTM3U\n{target}\n".encode(),
        "pls.mp4": f"[playlist]\nFile1={target}\nNumberOfEntries=1\nVersion=2\n".encode(),
    }


def with_external_data(content: bytes, record: bytes) -> bytes:
    """The mp4 ``content`` with ``record`` in place of the entry of its first data reference box."""
    place = content.index(b"url ", content.index(b"dref")) - 4
    grown = len(record) - 12
    data = bytearray(content[:place] + record + content[place + 12 :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = content.rindex(kind, 0, place) - 4
        data[at : at + 4] = struct.pack(">I", struct.unpack(">I", content[at : at + 4])[0] + grown)
    return bytes(data)


def alias_record(name: str) -> bytes:
    """A QuickTime alias to a file beside this one."""
    path = f"/{name}".encode()
    path += b"\0" * (len(path) % 2)
    alias = bytes(150) + struct.pack(">HH", 2, len(path)) + path + struct.pack(">HH", 0xFFFF, 0)
    return struct.pack(">I", 12 + len(alias)) + b"alis" + bytes(4) + alias


def url_record(address: str) -> bytes:
    """A data reference by address."""
    body = bytes(4) + address.encode() + b"\0"
    return struct.pack(">I", 8 + len(body)) + b"url " + body


def claim_length(content: bytes, seconds: float) -> bytes:
    """The mp4 ``content`` with one track of equally long frames, each now ``seconds`` long."""
    at = content.index(b"mdhd") + 16
    scale = struct.unpack(">I", content[at : at + 4])[0]
    at = content.index(b"stts") + 12
    return content[:at] + struct.pack(">I", min(round(seconds * scale), 2**31 - 1)) + content[at + 4 :]


def same_picture(path: Path, *, size: int, frames: int) -> Path:
    """A video of one black picture of ``size`` squared, coded once and then said to stay ``frames`` times."""
    seed = io.BytesIO()
    coding = "cabac=1:keyint=infinite:bframes=0:threads=1:scenecut=0:rc-lookahead=0"
    with av.open(seed, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.options = {"preset": "ultrafast", "x264-params": coding}
        for number in range(2):
            frame = VideoFrame(size, size, "yuv420p")
            for plane, value in zip(frame.planes, (16, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    seed.seek(0)
    with av.open(seed) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        first, second = (packet for packet in source.demux(video=0) if packet.size)
        for number in range(frames):
            packet = av.Packet(bytes(second if number else first))
            packet.pts = packet.dts = number * 512
            packet.time_base = Fraction(1, 12800)
            packet.is_keyframe = number == 0
            packet.stream = stream
            output.mux(packet)
    return path


def huge_png(side: int) -> bytes:
    """A few kilobytes that claim ``side`` squared pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side + 1) * min(side, 100)), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
