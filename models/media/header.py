"""Reads the first bytes of a media file without a decoder: nothing is decoded and no large memory is allocated.

It tells pictures from videos by their content and reads a picture's size and EXIF orientation, so that a picture of
20,000 × 20,000 pixels is refused before any decoder sees it. Videos are only recognised here; `models.media.decoding`
asks their demuxer for the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.errors import EmptyMediaError, MediaTypeError, UndecodableMediaError

_PNG = b"\x89PNG\r\n\x1a\n"
_EBML = b"\x1aE\xdf\xa3"
# QuickTime files older than `ftyp` start with one of these atoms (QuickTime File Format specification, "Atoms").
_OLD_QUICKTIME = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
# Brands of still pictures in the same container (ISO/IEC 23008-12, AVIF): known, and not among the accepted types.
_STILL_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
_FAMILIES = {"image/jpg": "image/jpeg", "video/quicktime": "video/mp4"}


@dataclass(frozen=True)
class Orientation:
    """How to make stored pixels upright: first swap rows and columns, then mirror along x and y."""

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def from_exif(cls, value: int) -> Orientation:
        """From the EXIF orientation 1..8 (CIPA DC-008, tag 0x0112); anything else counts as 1, upright."""
        return _EXIF.get(value, cls())

    @classmethod
    def from_matrix(cls, matrix: npt.NDArray[np.int32]) -> Orientation:
        """From a display matrix, int32 (3, 3), 16.16 fixed point (ISO/IEC 14496-12, 8.3.2): x' = a·x + c·y and y' = b·x
        + d·y. Angles between quarter turns are rounded to the nearest one.
        """
        (a, b), (c, d) = matrix[:2, :2].astype(np.int64).tolist()
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    @property
    def rotation(self) -> int:
        """Degrees clockwise: 0, 90, 180 or 270. For a mirrored picture, the rotation that remains after mirroring along
        x.
        """
        return (90 if self.flip_x else 270) if self.transposed else (180 if self.flip_y else 0)

    def apply(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """uint8 (H, W, C) as stored → upright, (H, W, C) or (W, H, C), contiguous."""
        if self.transposed:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1])


_EXIF = {
    2: Orientation(False, True, False),
    3: Orientation(False, True, True),
    4: Orientation(False, False, True),
    5: Orientation(True, False, False),
    6: Orientation(True, True, False),
    7: Orientation(True, True, True),
    8: Orientation(True, False, True),
}


@dataclass(frozen=True)
class Header:
    """mime: by content. demuxer: FFmpeg's name, set explicitly so that the content cannot select a rarely used one.
    width and height: in pixels as stored, 0 for videos. orientation: from a picture's EXIF.
    """

    kind: Literal["video", "image"]
    mime: str
    demuxer: str
    width: int = 0
    height: int = 0
    orientation: Orientation = Orientation()


def read_header(data: bytes, declared: str | None = None) -> Header:
    """Recognises `data` by content and compares it with the declared mime type (parameters after `;` are ignored; mp4
    and quicktime count as the same).

    Raises EmptyMediaError for no bytes, UndecodableMediaError for unknown or broken content, MediaTypeError when the
    content is of a known type that is not accepted or not the declared one.
    """
    if not data:
        raise EmptyMediaError("The file is empty.")
    try:
        header = _recognise(data)
    except (struct.error, IndexError) as broken:
        raise UndecodableMediaError("The header of the file is incomplete. Record it again.") from broken
    if declared is not None:
        wanted = declared.split(";")[0].strip().lower()
        if _FAMILIES.get(wanted, wanted) != _FAMILIES.get(header.mime, header.mime):
            raise MediaTypeError(
                f"The content is {header.mime}, which is not the declared type. Set Content-Type to it."
            )
    return header


def _recognise(data: bytes) -> Header:
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(_PNG):
        return _png(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data.startswith(_EBML):
        return _ebml(data)
    if data[4:8] == b"ftyp":
        return _iso_media(data)
    if data[4:8] in _OLD_QUICKTIME:
        return Header("video", "video/quicktime", "mov")
    raise UndecodableMediaError("The file is not a picture or video of a known type.")


def _iso_media(data: bytes) -> Header:
    brand = data[8:12]
    if brand in _STILL_BRANDS:
        raise MediaTypeError("HEIF and AVIF pictures are not accepted. Upload a JPEG, PNG or WebP picture.")
    return Header("video", "video/quicktime" if brand == b"qt  " else "video/mp4", "mov")


def _ebml(data: bytes) -> Header:
    # DocType (EBML ID 0x4282, RFC 8794) is a short string within the first element.
    start = data.find(b"\x42\x82", 4, 128)
    if start < 0:
        raise UndecodableMediaError("The WebM file has no document type in its header. Record it again.")
    doctype = data[start + 3 : start + 3 + (data[start + 2] & 0x7F)].rstrip(b"\0")
    if doctype != b"webm":
        raise MediaTypeError("Matroska files other than WebM are not accepted. Upload WebM or MP4.")
    return Header("video", "video/webm", "matroska")


def _jpeg(data: bytes) -> Header:
    """Walks the segments up to the frame header (ITU-T T.81, B.1.1.4)."""
    orientation, at = Orientation(), 2
    while True:
        if data[at] != 0xFF:
            raise UndecodableMediaError("The JPEG file is damaged. Take the picture again.")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return _picture("image/jpeg", "jpeg_pipe", width, height, orientation)
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[at + 10 : at + 2 + length])
        at += 2 + length


def _png(data: bytes) -> Header:
    width, height = struct.unpack_from(">II", data, 16)
    orientation = Orientation()
    for name, body in _chunks(data, 8, ">I4s", name_first=False, tail=4):
        if name == b"eXIf":
            orientation = _exif_orientation(body)
    return _picture("image/png", "png_pipe", width, height, orientation)


def _webp(data: bytes) -> Header:
    """RFC 9649, sections 2.5 to 2.7: the extended header's canvas takes precedence over the bitstream's own size."""
    width = height = 0
    orientation = Orientation()
    for name, body in _chunks(data, 12, "<4sI", name_first=True, tail=0):
        if name == b"EXIF":
            orientation = _exif_orientation(body.removeprefix(b"Exif\0\0"))
        elif width:
            continue
        elif name == b"VP8X":
            width, height = (int.from_bytes(body[i : i + 3], "little") + 1 for i in (4, 7))
        elif name == b"VP8L":
            (bits,) = struct.unpack_from("<I", body, 1)
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif name == b"VP8 ":
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
    return _picture("image/webp", "webp_pipe", width, height, orientation)


def _chunks(data: bytes, at: int, layout: str, *, name_first: bool, tail: int) -> Iterator[tuple[bytes, bytes]]:
    """Chunks of PNG (length, name, body, checksum) and RIFF (name, length, body, padded to even)."""
    while at + 8 <= len(data):
        first, second = struct.unpack_from(layout, data, at)
        name, length = (first, second) if name_first else (second, first)
        yield name, data[at + 8 : at + 8 + length]
        at += 8 + length + tail + (length % 2 if name_first else 0)


def _exif_orientation(tiff: bytes) -> Orientation:
    """The orientation in the first directory of a TIFF block; a damaged block counts as upright, as in viewers."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return Orientation()
    try:
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for i in range(count):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, at + 2 + 12 * i)
            if tag == 0x0112:
                return Orientation.from_exif(value)
    except struct.error:
        pass
    return Orientation()


def _picture(mime: str, demuxer: str, width: int, height: int, orientation: Orientation) -> Header:
    if width < 1 or height < 1:
        raise UndecodableMediaError("The picture has no size in its header. Take it again.")
    return Header("image", mime, demuxer, width, height, orientation)
