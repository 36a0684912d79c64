"""Media as they are broken or forged: mutations of whole ones, each the same for the same seed and number.

Of bytes (flips, havoc, cuts, splices), of the chunks of each container (removed, doubled, shuffled, with false sizes
and right checksums) and of what a container claims (sizes, durations, counts, times, codecs).
"""

from __future__ import annotations

import itertools
import random
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.fuzzing.media_bases import BOMBS, Base, bases, bomb, png_chunk

ODD = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1)
"""Values at which arithmetic overflows or changes its sign."""
_FOREIGN: Mapping[str, bytes] = {
    "zip": b"PK\x03\x04\x14\0\0\0\0\0" + bytes(16) + b"\x05\0\0\0a.txthello" + b"PK\x05\x06" + bytes(18),
    "html": b"<!doctype html><html><body onload=alert(1)><script src=//x.example></script></body></html>",
    "script": b"GIF89a/*" + bytes(8) + b"*/=1;alert(document.domain);//",
    "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\n%%EOF",
    "playlist": b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>',
}
"""Heads of other formats, among them those that make careless readers fetch files or run scripts."""
_NESTING = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"moof", b"traf", b"mvex")
BOMB_SHARE = 0.006


@dataclass(frozen=True)
class Mutant:
    """One file. mutation and base: how it was made; mime: what it is sent as."""

    number: int
    base: str
    mutation: str
    mime: str
    data: bytes

    @property
    def is_video(self) -> bool:
        """Whether it goes to a profile that takes videos."""
        return self.mime.startswith("video/")


def mutant(seed: int, number: int) -> Mutant:
    """The file of that number."""
    rng = random.Random(f"{seed} {number}")
    if rng.random() < BOMB_SHARE:
        base = bomb(rng.choice(BOMBS))
        return Mutant(number, base.name, "bomb", base.mime, base.data)
    base = rng.choice(bases())
    name = rng.choice(list(_MUTATIONS))
    data = _MUTATIONS[name](base, rng)
    if rng.random() < 0.15:  # two things at once
        again = rng.choice(("bits", "bytes", "odd fields"))
        name, data = f"{name}, {again}", _MUTATIONS[again](Base(base.name, base.mime, base.family, data), rng)
    return Mutant(number, base.name, name, base.mime, data)


# --- bytes ---


def _bits(base: Base, rng: random.Random) -> bytes:
    data = bytearray(base.data)
    start = rng.choice((0, 0, len(data) // 3))  # headers are small: half of the flips in the payload find nothing
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if start < len(data):
            data[rng.randrange(start, len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _bytes(base: Base, rng: random.Random) -> bytes:
    data = bytearray(base.data)
    for _ in range(rng.choice((1, 2, 4, 8))):
        at, count = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 16, 64))
        kind = rng.randrange(3)
        if kind == 0:
            data[at : at + count] = rng.randbytes(count)
        elif kind == 1:
            data[at:at] = rng.randbytes(count)
        else:
            del data[at : at + count]
    return bytes(data)


def _odd_fields(base: Base, rng: random.Random) -> bytes:
    data = bytearray(base.data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        size = rng.choice((1, 2, 4, 4, 8))
        if len(data) > size:
            at = rng.randrange(min(len(data), rng.choice((64, 1024, len(data)))) - size + 1)
            data[at : at + size] = (rng.choice(ODD) & ((1 << 8 * size) - 1)).to_bytes(
                size, rng.choice(("big", "little"))
            )
    return bytes(data)


def _cut(base: Base, rng: random.Random) -> bytes:
    return base.data[: rng.randrange(len(base.data))]


def _joined(base: Base, rng: random.Random) -> bytes:
    """Two media in one file: the head of one with the tail of another, or one after the other."""
    alike = [other for other in bases() if other.family == base.family]
    other = rng.choice(alike if rng.random() < 0.6 else bases())
    if rng.random() < 0.4:
        return base.data + other.data
    return base.data[: rng.randrange(len(base.data))] + other.data[rng.randrange(len(other.data)) :]


def _foreign(base: Base, rng: random.Random) -> bytes:
    """A file that is something else as well: before, behind, or within what a container ignores."""
    content = rng.choice((*_FOREIGN.values(), bases()[0].data, bases()[9].data))
    where = rng.randrange(4)
    if where == 0:
        return content + base.data
    if where == 1:
        return base.data + content
    return b"".join(_with(base, _chunks(base), 1, content))


def _with(base: Base, chunks: list[bytes], at: int, content: bytes) -> list[bytes]:
    wrapped = {
        "iso": struct.pack(">I", len(content) + 8) + b"free" + content,
        "ebml": b"\xec" + struct.pack(">Q", len(content) | 1 << 56) + content,
        "jpeg": b"\xff\xfe" + struct.pack(">H", len(content[:60_000]) + 2) + content[:60_000],
        "png": png_chunk(b"tEXt", b"Comment\0" + content),
        "riff": b"XMP " + struct.pack("<I", len(content)) + content + bytes(len(content) % 2),
    }[base.family]
    return [*chunks[: at + 1], wrapped, *chunks[at + 1 :]]


# --- chunks ---


def _chunks(base: Base) -> list[bytes]:
    """The bytes cut where the container's parts begin; joined they are the whole again."""
    data = base.data
    cuts = {0, len(data), *_boundaries(base.family, data)}
    ends = sorted(cut for cut in cuts if cut <= len(data))
    return [data[a:b] for a, b in itertools.pairwise(ends)]


def _boundaries(family: str, data: bytes) -> list[int]:
    if family == "iso":
        return _iso_boxes(data, 0, len(data))
    if family == "ebml":  # elements of level 1 and blocks: Cluster, Tracks, Cues, Info, SimpleBlock
        return [
            found.start()
            for found in re.finditer(rb"\x1f\x43\xb6\x75|\x16\x54\xae\x6b|\x1c\x53\xbb\x6b|\x15\x49\xa9\x66|\xa3", data)
        ]
    if family == "jpeg":
        return [found.start() for found in re.finditer(rb"\xff[\xc0-\xfe]", data)]
    found, at = [], 8 if family == "png" else 12
    while at + 8 <= len(data):
        found.append(at)
        (length,) = struct.unpack_from(">I" if family == "png" else "<I", data, at + (0 if family == "png" else 4))
        at += 8 + length + (4 if family == "png" else length % 2)
    return found


def _iso_boxes(data: bytes, at: int, end: int) -> list[int]:
    found = []
    while at + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, at)
        if size < 8:
            break
        found.append(at)
        if name in _NESTING:
            found += _iso_boxes(data, at + 8, min(end, at + size))
        at += size
    return found


def _rearranged(base: Base, rng: random.Random) -> bytes:
    chunks = _chunks(base)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(chunks))
        kind = rng.randrange(4)
        if kind == 0:
            chunks.insert(rng.randrange(len(chunks) + 1), chunks[at])
        elif kind == 1 and len(chunks) > 1:
            del chunks[at]
        elif kind == 2:
            other = rng.randrange(len(chunks))
            chunks[at], chunks[other] = chunks[other], chunks[at]
        else:
            chunks[at] *= rng.choice((2, 16, 200))
    return b"".join(chunks)


def _chunk_fields(base: Base, rng: random.Random) -> bytes:
    """Odd values in the body of a chunk; a PNG's checksums are made right again, else nothing reads it."""
    chunks = _chunks(base)
    at = rng.randrange(len(chunks))
    chunk = bytearray(chunks[at])
    for _ in range(rng.choice((1, 2, 4))):
        size = rng.choice((1, 2, 4))
        if len(chunk) > 8 + size:
            where = rng.randrange(8, min(len(chunk), 80) - size + 1) if len(chunk) > 9 + size else 8
            chunk[where : where + size] = (rng.choice(ODD) & ((1 << 8 * size) - 1)).to_bytes(size, "big")
    if base.family == "png" and len(chunk) >= 12:
        chunk[-4:] = struct.pack(">I", zlib.crc32(bytes(chunk[4:-4])))
    chunks[at] = bytes(chunk)
    return b"".join(chunks)


def _false_sizes(base: Base, rng: random.Random) -> bytes:
    chunks = _chunks(base)
    at = rng.randrange(len(chunks))
    chunk = bytearray(chunks[at])
    big = rng.choice((0, 1, 7, 8, len(chunk) - 1, len(chunk) + 1, 2 * len(chunk), len(base.data), *ODD)) & 0xFFFFFFFF
    if base.family in ("iso", "png"):
        chunk[:4] = struct.pack(">I", big)
    elif base.family == "riff":
        chunk[4:8] = struct.pack("<I", big)
    elif base.family == "jpeg":
        chunk[2:4] = struct.pack(">H", big & 0xFFFF)
    else:
        where = 1 if chunk[:1] == b"\xa3" else 4
        chunk[where : where + 1] = bytes([rng.randrange(256)])
    chunks[at] = bytes(chunk)
    return b"".join(chunks)


# --- claims ---


def _replaced(data: bytes, places: Sequence[int], size: int, value: Callable[[], int]) -> bytes:
    out = bytearray(data)
    for at in places:
        if 0 <= at <= len(out) - size:
            out[at : at + size] = (value() & ((1 << 8 * size) - 1)).to_bytes(size, "big")
    return bytes(out)


def _at(data: bytes, name: bytes, *offsets: int) -> list[int]:
    return [found.start() + offset for found in re.finditer(re.escape(name), data) for offset in offsets]


def _dimensions(base: Base, rng: random.Random) -> bytes:
    """False widths and heights, in the container alone: what is coded says otherwise."""
    data, side = base.data, lambda: rng.choice((0, 1, 2, 96, 3000, 4096, 4097, 8192, 16_383, 20_000, 65_535))
    if base.family == "iso":
        entries = [place for name in (b"avc1", b"hvc1", b"hev1", b"mp4v") for place in _at(data, name, 28, 30)]
        return _replaced(_replaced(data, entries, 2, side), _at(data, b"tkhd", 80, 84), 2, side)
    if base.family == "ebml":
        return _replaced(data, _at(data, b"\xb0", 2) + _at(data, b"\xba", 2), 1, lambda: rng.randrange(256))
    if base.family == "jpeg":
        return _replaced(data, _at(data, b"\xff\xc0", 5, 7) + _at(data, b"\xff\xc2", 5, 7), 2, side)
    if base.family == "png":
        changed = bytearray(_replaced(data, (16, 20), 4, side))
        changed[29:33] = struct.pack(">I", zlib.crc32(bytes(changed[12:29])))
        return bytes(changed)
    name = b"VP8X" if b"VP8X" in data else b"VP8L" if b"VP8L" in data else b"VP8 "
    places = _at(data, name, *{b"VP8X": (12, 15), b"VP8L": (9, 11), b"VP8 ": (14, 16)}[name])
    return _replaced(data, places, 2, lambda: rng.randrange(1 << 16))


def _times(base: Base, rng: random.Random) -> bytes:
    """False durations, rates and times of frames: standing still, backwards, far away."""
    data, value = base.data, lambda: rng.choice((*ODD, 1000, 90_000, rng.randrange(1 << 32)))
    if base.family == "iso":
        places = {
            "durations": _at(data, b"mvhd", 16, 20) + _at(data, b"mdhd", 16, 20) + _at(data, b"tkhd", 24),
            "samples": _at(data, b"stts", 8, 12, 16) + _at(data, b"ctts", 8, 12, 16, 20, 24),
            "counts": _at(data, b"stsz", 8, 12) + _at(data, b"stsc", 8, 12, 16) + _at(data, b"stco", 8),
            "edits": _at(data, b"elst", 8, 12, 16) + _at(data, b"tfdt", 8, 12) + _at(data, b"trun", 8, 12),
        }
        chosen = places[rng.choice(list(places))]
        return _replaced(data, rng.sample(chosen, min(len(chosen), 2)), 4, value)
    if base.family == "ebml":
        if rng.random() < 0.3:
            return _replaced(data, _at(data, b"\x44\x89", 3), 8, lambda: rng.getrandbits(64))  # duration, a float
        blocks = _at(data, b"\xa3", 3)
        return _replaced(
            data,
            rng.sample(blocks, min(len(blocks), 6)),
            2,
            lambda: rng.choice((0, 0x8000, 0x7FFF, rng.getrandbits(16))),
        )
    if base.name == "PNG, moving":
        changed = _replaced(data, _at(data, b"acTL", 4, 8), 4, value)
        at = changed.index(b"acTL")
        return changed[: at + 12] + struct.pack(">I", zlib.crc32(changed[at : at + 12])) + changed[at + 16 :]
    return _odd_fields(base, rng)


def _codecs(base: Base, rng: random.Random) -> bytes:
    """Frames that another decoder gets: the container names a codec that these are not, or changes it on the way."""
    data = base.data
    if base.family == "iso":
        names = (
            b"avc1",
            b"hvc1",
            b"hev1",
            b"mp4v",
            b"vp08",
            b"vp09",
            b"av01",
            b"jpeg",
            b"png ",
            b"rawv",
            b"rle ",
            b"mjp2",
        )
        for name in names[:4]:
            if name in data and rng.random() < 0.7:
                return data.replace(name, rng.choice(names))
        places = [place for box in (b"avcC", b"hvcC", b"esds") for place in _at(data, box, *range(4, 40))]
        return _replaced(data, rng.sample(places, min(len(places), 3)), 1, lambda: rng.randrange(256))
    if base.family == "ebml":
        other = rng.choice([b for b in bases() if b.family == "ebml"])
        if rng.random() < 0.5:
            return re.sub(rb"V_VP[89]", rng.choice((b"V_VP8", b"V_VP9", b"V_AV1", b"V_FFV", b"V_UNC")), data)
        clusters = other.data[other.data.find(b"\x1f\x43\xb6\x75") :]
        return data + clusters
    if base.family == "jpeg":
        return _replaced(
            data, _at(data, b"\xff\xc0", 1) + _at(data, b"\xff\xc2", 1), 1, lambda: rng.randrange(0xC0, 0xD0)
        )
    if base.family == "png":
        changed = bytearray(_replaced(data, (24, 25), 1, lambda: rng.choice((0, 1, 2, 3, 4, 6, 8, 16))))
        changed[29:33] = struct.pack(">I", zlib.crc32(bytes(changed[12:29])))
        return bytes(changed)
    return data.replace(
        rng.choice((b"VP8L", b"VP8 ", b"VP8X", b"ANMF")), rng.choice((b"VP8L", b"VP8 ", b"VP8X", b"ALPH"))
    )


_MUTATIONS: Mapping[str, Callable[[Base, random.Random], bytes]] = {
    "bits": _bits,
    "bytes": _bytes,
    "odd fields": _odd_fields,
    "cut": _cut,
    "joined": _joined,
    "something else as well": _foreign,
    "chunks rearranged": _rearranged,
    "fields of a chunk": _chunk_fields,
    "false sizes": _false_sizes,
    "dimensions": _dimensions,
    "times": _times,
    "codecs": _codecs,
}
