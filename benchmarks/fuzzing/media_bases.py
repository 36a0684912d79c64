"""Small whole media of every type that the service takes, and bombs: what `media_mutations` starts from.

160 × 120 pixels, ten frames, something moving over a flat ground. Made anew each time, the same with the same encoders.
"""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

U8 = npt.NDArray[np.uint8]
WIDTH, HEIGHT, FRAMES = 160, 120, 10
LARGE = (4096, 3904)
"""Within all limits, just."""


@dataclass(frozen=True)
class Base:
    """One media. family says how its bytes are cut into chunks: `iso`, `ebml`, `jpeg`, `png` or `riff`."""

    name: str
    mime: str
    family: str
    data: bytes

    @property
    def is_video(self) -> bool:
        """Whether it goes to a profile that takes videos."""
        return self.mime.startswith("video/")


def _moving(count: int, width: int = WIDTH, height: int = HEIGHT) -> list[U8]:
    frames = []
    for number in range(count):
        frame = np.full((height, width, 3), (90, 140, 60), np.uint8)
        frame[20 : height // 2, 10 + 6 * number : 60 + 6 * number] = (230, 220, 30)
        frame[::7, ::5] = 200
        frames.append(frame)
    return frames


def film(container: str, codec: str, frames: list[U8], pixels: str = "yuv420p", **options: str) -> bytes:
    """A video of these frames, 25 a second. options: of the encoder, and `movflags` of the container."""
    buffer = io.BytesIO()
    flags = {"movflags": options.pop("movflags")} if "movflags" in options else {}
    with av.open(buffer, "w", format=container, options=flags) as out:
        stream: Any = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], pixels
        stream.codec_context.thread_count = 1
        stream.codec_context.gop_size = 4
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def _still(kind: str, image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, *extra: tuple[bytes, bytes]) -> bytes:
    """A flat PNG of that size (bits a channel, colour type) with further chunks after its header."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    row = bytes(1 + -(-width * depth * channels // 8))
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, body) for name, body in chunks)


def png_chunk(name: bytes, body: bytes) -> bytes:
    """One chunk with its length and its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


@cache
def bases() -> tuple[Base, ...]:
    """All whole media."""
    frames = _moving(FRAMES)
    image = Image.fromarray(frames[3])
    moving = [Image.fromarray(frame) for frame in frames]
    exif = Image.Exif()
    exif[0x0112] = 6
    rest: dict[str, Any] = {"save_all": True, "append_images": moving[1:4], "duration": 40}
    quick = {"preset": "ultrafast"}
    return (
        Base("H.264", "video/mp4", "iso", film("mp4", "libx264", frames, bf="2")),
        Base(
            "H.264 in fragments",
            "video/mp4",
            "iso",
            film("mp4", "libx264", frames, movflags="frag_keyframe+empty_moov"),
        ),
        Base(
            "H.264, odd size", "video/mp4", "iso", film("mp4", "libx264", _moving(FRAMES, 159, 117), "yuv444p", **quick)
        ),
        Base("HEVC", "video/mp4", "iso", film("mp4", "libx265", frames, **quick, **{"x265-params": "log-level=none"})),
        Base("MPEG-4", "video/mp4", "iso", film("mp4", "mpeg4", frames)),
        Base("H.264, QuickTime", "video/quicktime", "iso", film("mov", "libx264", frames, **quick)),
        Base("VP8", "video/webm", "ebml", film("webm", "libvpx", frames, deadline="realtime")),
        Base("VP9", "video/webm", "ebml", film("webm", "libvpx-vp9", frames, deadline="realtime")),
        Base("VP9, 4:4:4", "video/webm", "ebml", film("webm", "libvpx-vp9", frames, "yuv444p", deadline="realtime")),
        Base("JPEG", "image/jpeg", "jpeg", _still("JPEG", image, quality=85)),
        Base("JPEG, progressive, turned", "image/jpeg", "jpeg", _still("JPEG", image, progressive=True, exif=exif)),
        Base("JPEG, CMYK", "image/jpeg", "jpeg", _still("JPEG", image.convert("CMYK"))),
        Base("PNG", "image/png", "png", _still("PNG", image)),
        Base("PNG, palette", "image/png", "png", _still("PNG", image.quantize(64))),
        Base("PNG, moving", "image/png", "png", _still("PNG", moving[0], **rest)),
        Base("WebP", "image/webp", "riff", _still("WEBP", image)),
        Base("WebP, lossless with alpha", "image/webp", "riff", _still("WEBP", image.convert("RGBA"), lossless=True)),
        Base("WebP, moving", "image/webp", "riff", _still("WEBP", moving[0], **rest)),
    )


def _flat() -> list[U8]:
    return [np.full((LARGE[1], LARGE[0], 3), 120, np.uint8)]


def _many_scans() -> bytes:
    """Each refinement of a progressive JPEG goes over all of its 16 megapixels."""
    data = _still("JPEG", Image.fromarray(_flat()[0]), progressive=True, quality=30)
    scan = data.rindex(b"\xff\xda")
    return data[:scan] + data[scan:-2] * 60 + data[-2:]


def _many_references() -> bytes:
    lavish = {"preset": "ultrafast", "x264-params": "ref=16:keyint=1000:log-level=-1"}
    return film("mp4", "libx264", _flat() * 18, "yuv444p10le", **lavish)


def _packed_zeros() -> bytes:
    return b"a\0\0" + zlib.compress(bytes(400_000_000), 1)


_BOMBS: Mapping[str, tuple[str, str, Callable[[], bytes]]] = {
    "PNG of 20,000 × 20,000": ("image/png", "png", lambda: png(20_000, 20_000, 1, 0)),
    "PNG of 16 megapixels, 16 bits, RGBA": ("image/png", "png", lambda: png(*LARGE, 16, 6)),
    "PNG with 400 MB of colour profile": ("image/png", "png", lambda: png(64, 64, 8, 2, (b"iCCP", _packed_zeros()))),
    "PNG with 400 MB of text": ("image/png", "png", lambda: png(64, 64, 8, 2, (b"zTXt", _packed_zeros()))),
    "WebP of 16,383 × 16,383": ("image/webp", "riff", lambda: _large_webp()),
    "JPEG of 16 megapixels, 60 scans": ("image/jpeg", "jpeg", _many_scans),
    "VP9 of 16 megapixels": ("video/webm", "ebml", lambda: film("webm", "libvpx-vp9", _flat(), deadline="realtime")),
    "H.264, 16 references, 10 bits, 4:4:4": ("video/mp4", "iso", _many_references),
}
BOMBS = tuple(_BOMBS)
_making = threading.Lock()


def bomb(name: str) -> Base:
    """A media that becomes large or slow: past the limits by its header, or within them and as lavish as can be. Some
    take seconds to make. name: one of BOMBS.
    """
    with _making:  # threads that ask at once would each make it
        return _made(name)


@cache
def _made(name: str) -> Base:
    mime, family, make = _BOMBS[name]
    return Base(name, mime, family, make())


def _large_webp() -> bytes:
    data = bytearray(_still("WEBP", Image.fromarray(_moving(1)[0]), lossless=True))
    at = data.index(b"VP8L") + 9
    data[at : at + 4] = struct.pack("<I", 16_382 | 16_382 << 14)
    return bytes(data)
