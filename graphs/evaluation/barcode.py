"""Barcodes on pictures: whether the payload is read correctly, byte for byte.

Table `barcodes.csv`: path, expected, encoding. The encoding is `text`, `hex`, or any name that contains `codes`, for
pictures with several symbols, whose payloads are separated by U+001E.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphs.evaluation.suite import Figures, Job, Measured, Report, Source, Table, spent

COLUMNS = ("path", "expected", "encoding")


def read_picture(media: bytes) -> Figures:
    """Read one picture: payloads as bytes, and as text."""
    import numpy as np

    from models.barcode.symbols import read_all
    from models.media.decoding import MediaLimits, sample_frames

    image = sample_frames(media, rate_hz=1, max_frames=1, max_side=4096, limits=MediaLimits()).images[0]
    # ITU-R BT.601, as a decoder gives grey.
    grey = np.round(image @ np.array((0.299, 0.587, 0.114))).astype(np.uint8)
    found = read_all(grey)
    return {"payloads": [one.payload for one in found], "texts": [one.text for one in found]}


def expected(row: dict[str, str]) -> list[bytes]:
    """The expected payloads of one picture, from its row of the table."""
    if row["encoding"] == "hex":
        return [bytes.fromhex(row["expected"])]
    if "codes" in row["encoding"]:
        return [part.encode() for part in row["expected"].split("\x1e")]
    return [row["expected"].encode()]


def is_right(one: Measured) -> bool:
    """Whether all payloads are correct, byte by byte or, for payloads that switch character sets (ECI), as text."""
    if one.failed:
        return False
    return one.truth in (one.figures["payloads"], [text.encode() for text in one.figures["texts"]])


class BarcodeSuite:
    """Reads barcodes; see the module."""

    name = "barcode"
    about = "PDF417 and other barcodes on pictures (barcodes.csv)"

    def jobs(self, source: Source) -> list[Job]:
        """One job for each picture."""
        return [
            Job(row["path"], row["encoding"], read_picture, (source.media(row["path"]),), expected(row))
            for row in source.rows("barcodes.csv", COLUMNS)
        ]

    def report(self, measured: Sequence[Measured]) -> Report:
        """How many barcodes were read correctly, and which were not."""
        read = sum(is_right(one) for one in measured)
        missed = tuple((one.item, one.failed or "not read, or not right") for one in measured if not is_right(one))
        row = (str(len(measured)), str(read), spent(measured))
        tables = [Table("Barcodes", ("pictures", "read", "CPU ms, median / largest"), (row,))]
        if missed:
            tables.append(Table("Not read", ("picture", "why"), missed))
        return Report(self.name, tuple(tables), figures={"pictures": len(measured), "read": read})
