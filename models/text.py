"""Printed text of a rectified page: lines with their places, by PP-OCR's networks from rapidocr's wheel.

One pass: find the lines at reduced size (`models.text_boxes`), decide once for the whole page which way is up, read
each line (`models.text_strips`). What the text means is for `models.consistency`; the machine readable zone has its own
reader (`models.mrz.reader`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.text_boxes import BoxFinder
from models.text_strips import StripReader

Image = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

_VOTERS = 8
"""Lines that vote on which way is up: the widest ones, because the classifier hesitates on short words. Of 100 pages
none was taken wrongly; with 6 three would have been, of which all were undecided and so read both ways."""

_DECISIVE = 0.3
"""Vote (-1..1) below which both directions of some lines are read and the better read one is taken."""

_LEAST_SCORE = 0.5
"""Mean character confidence under which a line is dropped: rapidocr's own default."""


@dataclass(frozen=True)
class TextLine:
    """One line. box: float32 (4, 2), x and y in pixels of the page as given, clockwise from the corner at which the
    line's reading starts at the top; score: mean confidence of its characters, 0..1.
    """

    text: str
    box: npt.NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class Text:
    """The lines of a page in reading order, and whether the page was given upside down."""

    lines: tuple[TextLine, ...]
    upside_down: bool


class TextReader:
    """Load once per process (0.5 s); `read` may be called from several threads.

    threads: of onnxruntime within one call. Raises WeightsError when the packaged models are missing or not those on
    record; nothing is ever downloaded.
    """

    def __init__(self, threads: int = 1) -> None:
        self._find = BoxFinder(threads)
        self._strips = StripReader(threads)

    def read(self, page: Image) -> Text:
        """All lines of a page, of Latin (and Greek) letters; of another script only that there is a line.

        page: uint8 (H, W, 3) RGB, level, possibly upside down; of any size, meant for ID1_SIZE. A page without text
        gives no lines. About 0.25 s for a card of 20 lines on one thread, 70 ms of it for finding them, which a page
        that is upside down needs twice.
        """
        boxes = self._find(page)
        if upside_down := self._upside_down(page, boxes):
            page = np.ascontiguousarray(page[::-1, ::-1])
            # Again, because the detector misses short words that stand on their heads, and rarely others.
            boxes = self._find(page)
        places = _turned(page, boxes) if upside_down else boxes
        lines = [
            TextLine(reading.text.strip(), place, reading.score)
            for reading, place in zip(self._strips.read(page, boxes), places, strict=True)
            if reading.score >= _LEAST_SCORE and reading.text.strip()
        ]
        return Text(tuple(lines), upside_down)

    def _upside_down(self, page: Image, boxes: Float) -> bool:
        widths = np.linalg.norm(boxes[:, 1] - boxes[:, 0], axis=1)
        widest = boxes[np.argsort(-widths, kind="stable")[:_VOTERS]]
        vote = self._strips.upside_down(page, widest)
        if not len(boxes) or abs(vote) >= _DECISIVE:
            return vote > 0.0
        tried = widest[:3]
        upright, turned = (
            sum(reading.score for reading in self._strips.read(page, way)) for way in (tried, np.roll(tried, 2, axis=1))
        )
        return turned > upright


def _turned(page: Image, boxes: Float) -> Float:
    """Boxes of a page as they lie on the page turned by 180 degrees."""
    height, width = page.shape[:2]
    return np.asarray((width - 1, height - 1) - boxes, np.float32)
