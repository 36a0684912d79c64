"""Small media for the tests of decoding, made by PyAV: containers, orientations and movement."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.codec import CodecContext

from models.media.decoding import Frames, MediaLimits, sample_frames

LIMITS = MediaLimits()
RED, GREEN, BLUE = (220, 20, 20), (20, 200, 20), (20, 20, 220)
Image = npt.NDArray[np.uint8]


def card(width: int = 96, height: int = 64) -> Image:
    """Four quarters, so that every orientation looks different: red, green / blue, black."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    image[height // 2 :, : width // 2] = BLUE
    return image


def corner_colours(image: Image) -> list[str]:
    """Names of the colours at top left, top right, bottom left, bottom right."""
    height, width = image.shape[:2]
    names = []
    for y, x in ((1, 1), (1, 3), (3, 1), (3, 3)):
        pixel = image[height * y // 4, width * x // 4].astype(int)
        names.append("black" if pixel.max() < 60 else ("red", "green", "blue")[int(pixel.argmax())])
    return names


def video(
    images: Sequence[Image],
    *,
    container: str = "mp4",
    codec: str = "libx264",
    pts: Sequence[int] | None = None,
    rotate: int = 0,
    options: dict[str, str] | None = None,
) -> bytes:
    """Encode images; pts in milliseconds, 40 ms apart by default."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options or {}) as out:
        stream: Any = out.add_stream(codec, rate=25)
        stream.width, stream.height = images[0].shape[1], images[0].shape[0]
        odd = images[0].shape[0] % 2 or images[0].shape[1] % 2
        stream.pix_fmt = "yuv444p" if odd else "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.thread_count = 1
        stream.codec_context.gop_size = 5
        if rotate:
            stream.set_display_rotation(rotate)
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = 40 * i if pts is None else pts[i]
            frame.time_base = Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def picture(image: Image, codec: str = "mjpeg", pix_fmt: str = "yuvj444p") -> bytes:
    encoder: Any = CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = image.shape[1], image.shape[0], pix_fmt
    encoder.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def png(image: Image) -> bytes:
    return picture(image, "png", "rgb24")


def webp(image: Image) -> bytes:
    return picture(image, "libwebp", "yuv420p")


def exif(orientation: int, order: str = "<") -> bytes:
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def jpeg_with_exif(image: Image, orientation: int, order: str) -> bytes:
    body, jpeg = b"Exif\0\0" + exif(orientation, order), picture(image)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def png_with_exif(image: Image, orientation: int, order: str) -> bytes:
    body, data = exif(orientation, order), png(image)
    return (
        data[:33]
        + struct.pack(">I", len(body))
        + b"eXIf"
        + body
        + struct.pack(">I", zlib.crc32(b"eXIf" + body))
        + data[33:]
    )


def webp_with_exif(image: Image, orientation: int, order: str) -> bytes:
    height, width = image.shape[:2]
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = exif(orientation, order)
    chunks = b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0]) + canvas + webp(image)[12:]
    chunks += b"EXIF" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def moving(count: int, width: int = 96, height: int = 64) -> list[Image]:
    images = []
    for i in range(count):
        image = card(width, height)
        image[height // 2 + 4 : height // 2 + 14, width // 2 + 2 * i : width // 2 + 2 * i + 8] = 255
        images.append(image)
    return images


def sample(data: bytes, *, rate_hz: float = 100.0, max_frames: int = 200, max_side: int = 4096) -> Frames:
    return sample_frames(data, rate_hz=rate_hz, max_frames=max_frames, max_side=max_side, limits=LIMITS)


UPRIGHT = ["red", "green", "blue", "black"]

MP4 = video(moving(20))
WEBM = video(moving(10), container="webm", codec="libvpx", options={"live": "1"})
